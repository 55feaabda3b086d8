"""The Inception network against torch-fidelity's, and its weights against whatever a file may be."""

import hashlib
import io
import os
import pickle
import socket
import time
import urllib.error
import urllib.request
import zipfile
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.errors import UsageError
from gan.models import inception_weights
from gan.models.inception import RESIZES, SIZE, InceptionV3
from gan.models.inception_weights import convert, fetch, load

MAGIC = 0x1950A86A20F9469CFC6C


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def channels_last(tensor):
    array = tensor.numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def relative_error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def reference(torch_fidelity):
    """torch-fidelity's modules and its network, with random weights of good size."""
    module = torch_fidelity("feature_extractor_inceptionv3")
    resize = torch_fidelity("interpolate_compat_tensorflow")
    import torch

    outputs = ["2048", "logits", "logits_unbiased"]
    with (
        mock.patch.object(torch, "load"),
        mock.patch.object(module.FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        network = module.FeatureExtractorInceptionV3("inception", outputs, "random.pth")
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.uniform_(0.7, 1.3)
            part.running_var.uniform_(0.7, 1.3)
            part.running_mean.normal_(0, 0.2)
            part.bias.normal_(0, 0.2)
    return SimpleNamespace(torch=torch, network=network, resize=resize)


@pytest.fixture(scope="module")
def published(reference, tmp_path_factory):
    """The file that stands for the published one."""
    path = tmp_path_factory.mktemp("torch") / "random.pth"
    reference.torch.save(reference.network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def converted(published):
    path = published.with_suffix(".npz")
    convert(published, path, sha256=None)
    return path


def taps(reference, images):
    """Outputs of torch-fidelity's network, and of each of its convolutions and blocks."""
    found = {}

    def keep(name):
        return lambda module, inputs, output: found.__setitem__(name, channels_last(output))

    kinds = ("BasicConv2d", "Inception")
    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in reference.network.named_modules()
        if name and type(module).__name__.startswith(kinds)
    ]
    outputs = reference.network(reference.torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    for hook in hooks:
        hook.remove()
    return [output.numpy() for output in outputs], found


def test_every_layer_agrees_with_torch_fidelity(reference, converted):
    images = random_images(2, 37, 52, 3)
    outputs, theirs = taps(reference, images)

    @jax.jit
    def ours(params, images):
        return InceptionV3().apply(
            {"params": params}, RESIZES["tf1"](images), capture_intermediates=True
        )

    output, state = ours(load(converted).params, images)
    found = {
        ".".join(path[:-1]): np.maximum(value[0], 0)  # theirs are after the ReLU
        for path, value in flatten_dict(state["intermediates"]).items()
        if path[:-1] and path[0] != "fc"
    }
    assert found.keys() == theirs.keys()
    assert len(found) == 94 + 11
    for name, value in theirs.items():
        assert 0.1 < value.std() < 10, f"{name}: the random weights are no good test"
        assert relative_error(found[name], value) < 1e-4, name
    for name, value, expected in zip(output._fields, output, outputs, strict=True):
        assert relative_error(np.asarray(value), expected) < 1e-4, name


def test_both_formats_of_torch_are_read(reference, published, converted, tmp_path):
    legacy = tmp_path / "legacy.pth"
    state = {  # as published: a plain dictionary, from before batches were counted
        name: value
        for name, value in reference.network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    reference.torch.save(state, legacy, _use_new_zipfile_serialization=False)
    assert zipfile.is_zipfile(published) and not zipfile.is_zipfile(legacy)
    convert(legacy, tmp_path / "legacy.npz", sha256=hashlib.sha256(legacy.read_bytes()).hexdigest())
    assert load(tmp_path / "legacy.npz").digest == load(converted).digest


def test_views_and_other_types_are_read(reference, tmp_path):
    torch = reference.torch
    base = torch.arange(24.0).reshape(4, 6)
    state = {"view": base[1:, ::2].T, "half": base.half(), "long": torch.tensor(3)}
    for new in (True, False):
        torch.save(state, tmp_path / "state.pth", _use_new_zipfile_serialization=new)
        found = inception_weights._read(tmp_path / "state.pth")
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            np.testing.assert_array_equal(found[name], tensor.numpy())
            assert found[name].dtype == tensor.numpy().dtype


def test_the_published_file_is_converted_once(published, converted, tmp_path, monkeypatch):
    checksum = hashlib.sha256(published.read_bytes()).hexdigest()
    monkeypatch.setattr(inception_weights, "PUBLISHED_SHA256", checksum)
    first = load(published, tmp_path / "cache")
    monkeypatch.setattr(inception_weights, "convert", None)
    assert load(published, tmp_path / "cache").digest == first.digest == load(converted).digest
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("change", ["missing", "shape", "type"])
def test_a_state_dict_of_something_else_is_refused(reference, tmp_path, change):
    state, name = reference.network.state_dict(), "Mixed_6a.branch3x3.bn.running_var"
    value = {"missing": None, "shape": state[name][:5].clone(), "type": state[name].long()}[change]
    state = {key: state[key] for key in state if key != name} | (
        {} if value is None else {name: value}
    )
    reference.torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=f"other.pth.*{name}"):
        convert(tmp_path / "other.pth", tmp_path / "other.npz", sha256=None)
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.parametrize("shape", [(7, 5), (32, 32), (299, 300), (610, 350)])
def test_resizes_agree_with_torch(reference, shape):
    images = random_images(2, *shape, 3)
    torch = reference.torch
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float()
    tf1 = reference.resize.interpolate_bilinear_2d_like_tensorflow1x(
        x, (SIZE, SIZE), align_corners=False
    )
    pytorch = torch.nn.functional.interpolate(
        x / 255, (SIZE, SIZE), mode="bilinear", align_corners=False
    )
    for name, theirs in {"tf1": (tf1 - 128) / 128, "pytorch": 2 * pytorch - 1}.items():
        for ours in (RESIZES[name](images), jax.jit(RESIZES[name])(images)):
            np.testing.assert_allclose(ours, channels_last(theirs), atol=1e-4)


def tf1_by_formula(image):
    """[H, W] to [299, 299], in [0, 255], pixel after pixel."""
    height, width = image.shape
    image = np.pad(image.astype(np.float64), (0, 1), "edge")
    result = np.empty((SIZE, SIZE))
    for i in range(SIZE):
        top, y = divmod(i * height / SIZE, 1)
        row = (1 - y) * image[int(top)] + y * image[int(top) + 1]
        for j in range(SIZE):
            left, x = divmod(j * width / SIZE, 1)
            result[i, j] = (1 - x) * row[int(left)] + x * row[int(left) + 1]
    return result


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 400), st.integers(1, 400))
def test_tf1_is_its_formula(height, width):
    images = random_images(1, height, width, 1)
    expected = (tf1_by_formula(images[0, ..., 0]) - 128) / 128
    np.testing.assert_allclose(RESIZES["tf1"](images)[0, ..., 1], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(32, 28), (299, 64), (700, 420)])
def test_clean_is_an_antialiased_bicubic(shape):
    images = random_images(2, *shape, 3)
    expected = jax.image.resize(
        images.astype(np.float32), (2, SIZE, SIZE, 3), "bicubic", antialias=True
    )
    np.testing.assert_allclose(RESIZES["clean"](images), (expected - 128) / 128, atol=1e-3)


@pytest.mark.parametrize("name", RESIZES)
def test_resizes_give_what_the_network_takes(name):
    resize = RESIZES[name]
    grey = random_images(2, 20, 30, 1)
    found = resize(grey)
    assert found.shape == (2, SIZE, SIZE, 3) and found.dtype == np.float32
    np.testing.assert_array_equal(found, resize(np.repeat(grey, 3, -1)))
    same = random_images(1, SIZE, SIZE, 3)
    scaled = same / 127.5 - 1 if name == "pytorch" else (same - 128.0) / 128
    np.testing.assert_allclose(resize(same), scaled, atol=1e-6)
    for wrong in (grey[0], grey.astype(np.float32), random_images(2, 9, 9, 4)):
        with pytest.raises(ValueError, match=r"uint8 \[B, H, W, 1 or 3\]"):
            resize(wrong)


@pytest.fixture
def arrays():
    """Of the network, by dotted name."""
    rng = np.random.default_rng(0)
    shapes = inception_weights._shapes()
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def test_the_network_takes_one_size():
    with pytest.raises(ValueError, match="299"):
        jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros([1, 224, 224, 3]))


def test_no_product_is_rounded_on_an_accelerator():
    network, images = InceptionV3(), jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    program = jax.jit(network.apply).trace(variables, images).lower(lowering_platforms=("cuda",))
    products = [
        line
        for line in program.as_text().splitlines()
        if "convolution(" in line or "dot_gen" in line
    ]
    assert len(products) == 95  # 94 convolutions and the classifier
    assert all(line.count("HIGHEST") == 2 for line in products)


def test_a_npz_gives_its_arrays_back(arrays, tmp_path):
    np.savez(tmp_path / "weights.npz", **arrays)
    weights = load(tmp_path / "weights.npz")
    found = flatten_dict(weights.params, sep=".")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    arrays["fc.bias"] = arrays["fc.bias"] + 1
    np.savez(tmp_path / "others.npz", **arrays)
    assert load(tmp_path / "others.npz").digest != weights.digest


@pytest.mark.parametrize(
    "change",
    [lambda bias: None, lambda bias: bias[:7], lambda bias: bias.astype(int)],
    ids=["missing", "shape", "type"],
)
def test_a_npz_of_something_else_is_refused(arrays, tmp_path, change):
    bias = change(arrays.pop("Mixed_7c.branch_pool.bias"))
    arrays |= {} if bias is None else {"Mixed_7c.branch_pool.bias": bias}
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(UsageError, match=r"weights.npz.*Mixed_7c\.branch_pool\.bias"):
        load(tmp_path / "weights.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and so on"])
@pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
def test_a_file_of_something_else_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=name) as caught:
        if path.suffix == ".npz":
            load(path)
        else:
            convert(path, tmp_path / "converted.npz", sha256=None)
    assert "\n" not in str(caught.value)


def test_wrong_names_and_sums_are_refused(tmp_path):
    (tmp_path / "weights.h5").touch()
    (tmp_path / "weights.pth").touch()
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "absent.npz")
    with pytest.raises(UsageError, match=r"weights\.h5"):
        load(tmp_path / "weights.h5")
    with pytest.raises(UsageError, match=r"must end in \.npz"):
        convert(tmp_path / "weights.pth", tmp_path / "weights")
    for read in (load, lambda path: convert(path, tmp_path / "weights.npz")):
        with pytest.raises(UsageError, match=r"SHA-256 e3b0c.*6726825d"):
            read(tmp_path / "weights.pth")
    assert not (tmp_path / "weights.npz").exists()


def write(path, state, legacy):
    """A file as torch's, around the pickle of a state dict."""
    if legacy:
        head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
        path.write_bytes(b"".join([*head, state, pickle.dumps(["0"], 2), b"\4" + bytes(7 + 16)]))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", state)
            archive.writestr("archive/data/0", bytes(16))


class Harmful:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("legacy", [False, True])
def test_no_code_in_a_file_is_run(tmp_path, legacy):
    mark = tmp_path / "mark"
    for harmful in (
        Harmful(os.system, f"touch {mark}"),
        Harmful(eval, f"open({str(mark)!r}, 'w')"),
        Harmful(getattr, mark, "touch"),
        {"fc.weight": Harmful(io.open, str(mark), "w")},
    ):
        write(tmp_path / "weights.pth", pickle.dumps(harmful, 2), legacy)
        with pytest.raises(UsageError, match="which is not allowed"):
            convert(tmp_path / "weights.pth", tmp_path / "weights.npz", sha256=None)
    assert not mark.exists()


def tensor(size=4, offset=0, shape=4, stride=1, kind="FloatStorage"):
    """A state dict with x, by the letters of a pickle."""
    storage = f"(S'storage'\nctorch\n{kind}\nS'0'\nS'cpu'\nI{size}\ntQ"
    view = f"I{offset}\n(I{shape}\nt(I{stride}\nt"
    return f"(dS'x'\nctorch._utils\n_rebuild_tensor_v2\n({storage}{view}tRs.".encode()


@pytest.mark.parametrize("legacy", [False, True])
def test_no_tensor_reaches_beyond_its_storage(tmp_path, legacy):
    path = tmp_path / "weights.pth"
    write(path, tensor(shape=2, stride=3), legacy)
    np.testing.assert_array_equal(inception_weights._read(path)["x"], np.zeros(2, np.float32))
    for wrong in (
        tensor(offset=1),
        tensor(offset=-1),
        tensor(shape=5),
        tensor(shape=-1),
        tensor(stride=2),
        tensor(stride=-1),
        tensor(kind="OtherStorage"),
    ):
        write(path, wrong, legacy)
        with pytest.raises(UsageError, match=r"weights\.pth is not a torch.save state dict"):
            inception_weights._read(path)


def test_a_download_is_checked_and_made_once(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    monkeypatch.setattr(inception_weights, "URL", source.as_uri())
    with pytest.raises(UsageError, match=r"source has SHA-256.*accepted: 6726825d"):
        fetch(tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())
    checksum = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(inception_weights, "PUBLISHED_SHA256", checksum)
    path = fetch(tmp_path / "cache")
    assert path.read_bytes() == b"weights"
    source.unlink()
    assert fetch(tmp_path / "cache") == path


def test_without_a_network_it_says_what_to_put_where(tmp_path, monkeypatch):
    refused = mock.Mock(side_effect=urllib.error.URLError("no route to host"))
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    with pytest.raises(UsageError, match=f"{tmp_path}.*no route to host.*6726825d"):
        fetch(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_server_that_is_silent_is_given_up(tmp_path, monkeypatch):
    with socket.create_server(("localhost", 0)) as server:
        monkeypatch.setattr(
            inception_weights, "URL", f"http://localhost:{server.getsockname()[1]}/"
        )
        monkeypatch.setattr(inception_weights, "_TIMEOUT_SECONDS", 0.3)
        start = time.monotonic()
        with pytest.raises(UsageError, match=f"{tmp_path}.*timed out"):
            fetch(tmp_path)
        assert time.monotonic() - start < 5
