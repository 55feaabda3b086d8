"""Reading what TFDS prepared, from the real MNIST files where they lie beside the checkout."""

import gzip
import pathlib
import shutil

import numpy as np
import pytest

from gan.data import DATASETS
from gan.errors import UsageError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with MNIST prepared by TFDS's own builder, which finds its downloads in place."""
    raw = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    if not raw.is_dir():
        pytest.skip(f"the MNIST files are not in {raw}")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import resource

    data_dir = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("mnist", data_dir=data_dir, file_format="array_record")
    downloads = data_dir / "downloads"
    for url, info in builder.url_infos.items():
        place = downloads / builder.name / resource.get_dl_fname(url, info.checksum)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / url.rpartition("/")[2], place)
        place.with_name(place.name + ".INFO").write_text(f'{{"urls": ["{url}"]}}')
    builder.download_and_prepare(
        download_dir=downloads,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    return raw, str(data_dir)


def test_prepared_mnist_is_the_published_files(prepared):
    raw, data_dir = prepared
    with gzip.open(raw / "t10k-images-idx3-ubyte.gz") as file:
        published = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28, 1)
    examples, labels = DATASETS.build("mnist('test')", data_dir=data_dir).load()
    assert examples.dtype == np.uint8
    assert labels.shape == (10_000,)
    assert sorted(map(bytes, examples)) == sorted(map(bytes, published))


def test_a_split_that_is_not_there(prepared):
    dataset = DATASETS.build("mnist('trian')", data_dir=prepared[1])
    with pytest.raises(UsageError, match=r"no split 'trian'; known: .*train"):
        dataset.load()
