"""Published files, intact and damaged: their messages, and that nothing half-written stays."""

import gzip
import pathlib
import shutil
import struct
import tarfile

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.prepare import prepare
from gan.data.published_files import check_cifar, check_idx
from gan.errors import RunError, UsageError

RAW = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
FILES = [
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


@pytest.fixture
def raw(tmp_path):
    """A copy of the published MNIST files, to be damaged."""
    if not RAW.is_dir():
        pytest.skip(f"the MNIST files are not in {RAW}")
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(RAW / name, folder / name)
    return folder


def refused(raw, tmp_path, words):
    data_dir = tmp_path / "data"
    with pytest.raises(UsageError, match=words) as error:
        prepare("mnist", str(data_dir), str(raw))
    assert "\n" not in str(error.value)
    assert not data_dir.exists()


def test_a_missing_file_is_named(raw, tmp_path, tensorflow):
    (raw / FILES[1]).unlink()
    refused(raw, tmp_path, f"{FILES[1]} is missing")
    refused(raw / "nowhere", tmp_path, "does not exist")


def test_a_truncated_gzip_is_named(raw, tmp_path, tensorflow):
    path = raw / FILES[0]
    path.write_bytes(path.read_bytes()[:100_000])
    refused(raw, tmp_path, f"{FILES[0]} is not a complete gzip file")


def test_what_is_no_gzip_is_named(raw, tmp_path, tensorflow):
    (raw / FILES[2]).write_text("<html>404</html>")
    refused(raw, tmp_path, f"{FILES[2]} is not a complete gzip file")


def test_test_files_in_the_place_of_training_files_are_named(raw, tmp_path, tensorflow):
    shutil.copyfile(raw / FILES[3], raw / FILES[1])
    refused(raw, tmp_path, r"train-labels.* holds 10,000, but should hold 60,000")


def idx(path, *shape, values):
    path.write_bytes(struct.pack(f">{len(shape) + 1}I", 0x800 + len(shape), *shape) + values)
    return path


def test_an_idx_file_is_looked_through(tmp_path):
    images, labels = tmp_path / "t10k-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"
    check_idx("kmnist", idx(labels, 10_000, values=bytes(10_000)))
    for path, values, words in (
        (labels, bytes(9_990), r"truncated: 9,990 of 10,000 bytes"),
        (labels, bytes(9_999) + b"\x0b", "label 11, but there are 10 classes"),
    ):
        with pytest.raises(UsageError, match=words):
            check_idx("kmnist", idx(path, 10_000, values=values))
    with pytest.raises(
        UsageError, match=r"holds 10,000 x 14 x 14, but should hold 10,000 x 28 x 28"
    ):
        check_idx("kmnist", idx(images, 10_000, 14, 14, values=b""))
    with pytest.raises(UsageError, match=r"not an IDX file of 3 dimension"):
        check_idx("kmnist", idx(images, 10_000, values=b""))


def test_the_published_files_hold_what_was_published(raw):
    for name in FILES:
        check_idx("mnist", raw / name)


def test_another_datasets_file_is_named(raw, tmp_path):
    with pytest.raises(UsageError, match=r"is mnist's train-images.*not fashion_mnist's train-im"):
        check_idx("fashion_mnist", raw / FILES[0])
    with pytest.raises(UsageError, match=r"is mnist's train-images.*not kmnist's train-images"):
        check_idx("kmnist", raw / FILES[0])


def test_one_changed_pixel_is_noticed(raw, tmp_path):
    content = bytearray(gzip.decompress((raw / FILES[2]).read_bytes()))
    content[5_000] ^= 1
    path = raw / FILES[2].removesuffix(".gz")
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not the published file: its MD5 is [0-9a-f]{32}, "):
        check_idx("mnist", path)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """A folder laid out as CIFAR-100's, with random images."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-100-binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in {"train.bin": 50_000, "test.bin": 10_000}.items():
        records = rng.integers(0, 256, [count, 3_074], dtype=np.uint8)
        records[:, :2] %= np.array([20, 100], np.uint8)
        records.tofile(folder / name)
    for kind, count in {"coarse": 20, "fine": 100}.items():
        names = "".join(f"{kind} {number}\n" for number in range(count))
        (folder / f"{kind}_label_names.txt").write_text(names)
    return folder


def test_cifar_files_are_looked_through(cifar, tmp_path):
    check_cifar("cifar100", cifar, "here")
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in cifar.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "test.bin").unlink()
    with pytest.raises(UsageError, match=r"^here/test\.bin is missing"):
        check_cifar("cifar100", folder, "here")
    (folder / "test.bin").write_bytes(bytes(3_074))
    with pytest.raises(UsageError, match=r"has 3,074 bytes, but 10,000 records have 30,740,000"):
        check_cifar("cifar100", folder, "here")
    (folder / "test.bin").write_bytes(b"\x14" * 30_740_000)
    with pytest.raises(UsageError, match=r"test\.bin: a label is not below 20 and 100"):
        check_cifar("cifar100", folder, "here")


def test_other_images_in_the_form_of_cifar_10_are_noticed(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(30_730_000))
    with pytest.raises(UsageError, match=r"^here/data_batch_1\.bin is not the published file"):
        check_cifar("cifar10", tmp_path, "here")


def test_an_archive_that_leads_out_or_is_damaged_is_refused(tmp_path, tensorflow):
    raw = tmp_path / "raw"
    raw.mkdir()
    archive = raw / "cifar-10-binary.tar.gz"
    archive.write_text("no archive")
    with pytest.raises(UsageError, match="not a complete tar"):
        prepare("cifar10", str(tmp_path / "data"), str(raw))
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(__file__, "../../outside")
    with pytest.raises(UsageError, match="not a complete tar"):
        prepare("cifar10", str(tmp_path / "data"), str(raw))
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_cifar_100_from_its_folder_is_the_standard_dataset(cifar, tmp_path, tensorflow):
    prepare("cifar100", str(tmp_path), str(cifar))
    examples, labels = DATASETS.build("cifar100('test')", data_dir=str(tmp_path)).load()
    records = np.fromfile(cifar / "test.bin", np.uint8).reshape(-1, 3_074)
    planes = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    expected = {bytes(image): label for image, label in zip(planes, records[:, 1], strict=True)}
    assert [expected[bytes(example)] for example in examples] == labels.tolist()
    assert len(labels) == 10_000


@pytest.mark.slow
def test_files_that_were_unpacked_will_do(raw, tmp_path, tensorflow):
    for name in FILES:
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((raw / name).read_bytes()))
        (raw / name).unlink()
    prepare("mnist", str(tmp_path / "data"), str(raw))
    assert len(DATASETS.build("mnist", data_dir=str(tmp_path / "data")).load().labels) == 60_000


def test_without_a_network_it_says_at_once_what_to_put_where(tmp_path, monkeypatch, tensorflow):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    words = r"kmnist: http.* cannot be reached \(Network is unreachable\).*train-images.*--raw_dir"
    with pytest.raises(UsageError, match=words):
        prepare("kmnist", str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def bangla(tmp_path_factory, tensorflow):
    """A small dataset of TFDS, prepared where a killed preparation has left what it had."""
    raw, data_dir = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("data")
    for name, count in (("training", 20), ("testing", 10)):
        images = np.arange(count * 32 * 32 * 3).reshape(count, 32, 32, 3).astype(np.uint8)
        np.savez(raw / f"{name}-images.npz", images=images, labels=np.arange(count) % 10)
    (data_dir / "downloads.unfinished.abc" / "prepared").mkdir(parents=True)
    (data_dir / "downloads.of_the_user").mkdir()
    folder = prepare("cmaterdb/bangla", str(data_dir), str(raw))
    assert folder == data_dir / "cmaterdb" / "bangla" / "1.0.0"
    return data_dir


def test_what_a_killed_preparation_has_left_is_removed(bangla):
    assert {path.name for path in bangla.iterdir()} == {"cmaterdb", "downloads.of_the_user"}
    assert {path.name for path in (bangla / "cmaterdb").iterdir()} == {"bangla", ".config"}
    assert [path.name for path in (bangla / "cmaterdb" / "bangla").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize(
    ("pattern", "damage", "words"),
    [
        ("dataset_info.json", lambda path: path.write_text("{"), "cannot be read .*: remove it, and prepare"),
        ("dataset_info.json", lambda path: path.unlink(), "holds no dataset that TFDS can read: remove it"),
        ("features.json", lambda path: path.write_text("{"), "features.json is damaged"),
        ("*train.array_record*", lambda path: path.write_bytes(path.read_bytes()[:-500]), "cannot be read"),
        ("*train.array_record*", lambda path: path.unlink(), "cannot be read"),
    ],
)  # fmt: skip
def test_prepared_files_that_are_damaged(bangla, tmp_path, pattern, damage, words):
    data_dir = tmp_path / "data"
    shutil.copytree(bangla, data_dir)
    (path,) = data_dir.glob(f"cmaterdb/bangla/1.0.0/{pattern}")
    damage(path)
    with pytest.raises((UsageError, RunError), match=words) as error:
        prepare("cmaterdb/bangla", str(data_dir), str(tmp_path))
        DATASETS.build("cmaterdb/bangla", data_dir=str(data_dir)).load()
    assert "\n" not in str(error.value)
