"""Reading what TFDS prepared, from the real MNIST files if they lie beside the checkout."""

import gzip
import json
import pathlib
import time

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.prepare import prepare
from gan.errors import UsageError
from tests.scripts import run_script

RAW = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tensorflow):
    """A data_dir with MNIST, prepared from the published files without a network."""
    if not RAW.is_dir():
        pytest.skip(f"the MNIST files are not in {RAW}")
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare("mnist", str(data_dir), str(RAW))
    return RAW, str(data_dir)


def test_prepared_mnist_is_the_published_files(prepared):
    raw, data_dir = prepared
    with gzip.open(raw / "t10k-images-idx3-ubyte.gz") as file:
        published = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28, 1)
    examples, labels = DATASETS.build("mnist('test')", data_dir=data_dir).load()
    assert examples.dtype == np.uint8
    assert labels.shape == (10_000,)
    assert sorted(map(bytes, examples)) == sorted(map(bytes, published))
    with gzip.open(raw / "t10k-labels-idx1-ubyte.gz") as file:
        published_labels = np.frombuffer(file.read()[8:], np.uint8)
    label_of = dict(zip(map(bytes, published), published_labels, strict=True))
    assert [label_of[bytes(example)] for example in examples] == labels.tolist()


def test_the_second_time_it_is_read_as_it_was_decoded(prepared):
    first = DATASETS.build("mnist('test[:100]')", data_dir=prepared[1]).load()
    folder = pathlib.Path(prepared[1]) / "mnist" / "3.0.1" / "decoded" / "test%5B%3A100%5D"
    assert len(np.load(folder / "examples.npy")) == 100
    for damage in (b"", b"no array"):
        (folder / "labels.npy").write_bytes(damage)
        again = DATASETS.build("mnist('test[:100]')", data_dir=prepared[1]).load()
        np.testing.assert_array_equal(first.examples, again.examples)
        np.testing.assert_array_equal(first.labels, again.labels)
    assert len(np.load(folder / "labels.npy")) == 100


def test_the_default_folder_is_tfds_s_own(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", prepared[1])
    assert len(DATASETS.build("mnist('test[:5]')").load().examples) == 5
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    with pytest.raises(UsageError, match="not prepared in data_dir /nowhere"):
        DATASETS.build("mnist('test[:5]')").load()


def test_prepared_again_is_at_once(prepared):
    begin = time.monotonic()
    prepare("mnist", prepared[1])
    assert time.monotonic() - begin < 5
    names = sorted(path.name for path in pathlib.Path(prepared[1]).iterdir())
    assert names == ["mnist"]  # no downloads are left
    (record, *_) = pathlib.Path(prepared[1]).rglob("mnist-train.*")
    assert ".array_record-" in record.name  # which is read without TensorFlow


def test_the_older_format_is_read_with_tensorflow_and_refused_without(
    tensorflow, tmp_path, monkeypatch
):
    import tensorflow_datasets as tfds

    images = np.random.default_rng(0).integers(0, 256, [5, 28, 28, 1], np.uint8)
    records = [(i, {"image": image, "label": i}) for i, image in enumerate(images)]
    builder = tfds.builder("mnist", data_dir=str(tmp_path), file_format="tfrecord")
    monkeypatch.setattr(builder, "_split_generators", lambda *_: {"train": records})
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_dir=str(tmp_path / "downloads"), download_config=config)

    args = ("--dataset", "mnist", "--data_dir", tmp_path)
    done = run_script("prepare_data.py", *args, without="tensorflow", code=2)
    assert "mnist: TFDS reads the older format tfrecord with TensorFlow, which" in done.stderr
    examples, labels = DATASETS.build("mnist", data_dir=str(tmp_path)).load()
    np.testing.assert_array_equal(examples, images[labels])
    assert sorted(labels) == [0, 1, 2, 3, 4]


def test_another_resolution(prepared):
    dataset = DATASETS.build("mnist('test[:5]', resolution=16)", data_dir=prepared[1])
    assert dataset.shape == (16, 16, 1)
    assert dataset.load().examples.shape == (5, 16, 16, 1)


def test_another_way_to_resize_has_a_cache_of_its_own(prepared):
    ways = ("resize='crop'", "resize='stretch'", "resize='pad'")
    specs = [f"mnist('test[:5]', resolution=14, {way})" for way in ways]
    crop, *others = (DATASETS.build(spec, data_dir=prepared[1]).load().examples for spec in specs)
    for other in others:  # they are squares already
        np.testing.assert_array_equal(other, crop)
    folder = pathlib.Path(prepared[1]) / "mnist" / "3.0.1" / "decoded"
    assert len(list(folder.glob("test%5B%3A5%5D%2C14*"))) == 3


def test_names_of_classes(tmp_path):
    dataset = DATASETS.build("rock_paper_scissors", data_dir=str(tmp_path))
    assert dataset.class_names == ("rock", "paper", "scissors")
    assert DATASETS.build("mnist", data_dir=str(tmp_path)).class_names == ()  # just numbers
    assert DATASETS.build("celeb_a(resolution=64)", data_dir=str(tmp_path)).class_names == ()


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8, 4), "uint8"), ((8, 8, 3), "uint16")])
def test_images_of_other_kinds_are_refused(tmp_path, monkeypatch, shape, dtype):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=shape, dtype=np.dtype(dtype))
    monkeypatch.setattr(
        tfds.core.DatasetInfo, "features", tfds.features.FeaturesDict({"image": image})
    )
    with pytest.raises(
        UsageError, match=rf"mnist: its images are {dtype} \[8, 8, {shape[-1]}\]; uint8"
    ):
        DATASETS.build("mnist", data_dir=str(tmp_path))


def test_a_split_that_is_not_there(prepared):
    dataset = DATASETS.build("mnist('trian')", data_dir=prepared[1])
    with pytest.raises(UsageError, match=r"no split 'trian'; known: .*train"):
        dataset.load()


@pytest.mark.parametrize(
    ("spec", "shape", "num_classes"),
    [
        ("cifar100", (32, 32, 3), 100),
        ("emnist/letters", (28, 28, 1), 37),
        ("emnist/letters('test')", (28, 28, 1), 37),
        ("tfds('stl10', split='unlabelled')", (96, 96, 3), 10),
        ("celeb_a(resolution=64)", (64, 64, 3), 1),
    ],
)
def test_any_dataset_of_tfds_by_its_name(spec, shape, num_classes, tmp_path):
    dataset = DATASETS.build(spec, data_dir=str(tmp_path))
    assert (dataset.shape, dataset.num_classes) == (shape, num_classes)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("fashon_mnist", "did you mean 'fashion_mnist'"),
        ("emnist/leters", "no variant 'leters'; did you mean 'letters'"),
        ("celeb_a", r"218 x 178, not square; resolution=64"),
        ("celeb_a(resolution=0)", "resolution must be in .1, 4096., given 0"),
        ("ag_news_subset", "has no images: its records have"),
        ("mnist(splt='test')", "unknown argument 'splt'"),
    ],
)
def test_misuse(spec, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        DATASETS.build(spec, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "key", ["pythonClassName", "python_class_name", "python\\u0043lassName", "type"]
)
@pytest.mark.parametrize("name", ["evil", "evil:1.0.0", "mnist:1.0.0"])
def test_prepared_files_cannot_have_a_module_imported(tmp_path, monkeypatch, key, name):
    """TFDS would import the module of a feature; a stranger's run may name such files."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "data" / name.partition(":")[0] / "1.0.0"
    folder.mkdir(parents=True)
    features = f'{{"{key}": "evil_module.Image", "featuresDict": {{"features": {{}}}}}}'
    (folder / "features.json").write_text(features)
    info = {"name": folder.parent.name, "version": "1.0.0", "fileFormat": "array_record"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"names the code 'evil_module.Image'"):
        DATASETS.build(f"tfds({name!r})", data_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    "name", ["huggingface:mnist", "FooBar", "somebody:mnist/x", "../mnist", "/tmp/mnist"]
)
def test_datasets_of_others_are_not_loaded(tmp_path, name):
    with pytest.raises(UsageError, match="TFDS knows no dataset"):
        DATASETS.build(f"tfds({name!r})", data_dir=str(tmp_path))
