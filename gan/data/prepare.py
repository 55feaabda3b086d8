"""Makes a dataset ready through TFDS's own builder: from the network, or from files that lie here."""

import gzip
import hashlib
import pathlib
import shutil
import struct
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from gan.data.tfds import make_builder
from gan.errors import RunError, UsageError

_SECONDS = 10  # for a first answer from the network
_TAR_FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
_CIFAR = {
    "cifar10": {**{f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}, "test_batch.bin": 10_000},
    "cifar100": {"train.bin": 50_000, "test.bin": 10_000},
}
_LABEL_BYTES = {"cifar10": (10,), "cifar100": (20, 100)}  # one byte each, below so much


def prepare(name: str, data_dir: str | None = None, raw_dir: str | None = None) -> pathlib.Path:
    """Prepares a dataset as array_record, in a folder beside that is renamed at the end.

    Args:
      name: TFDS's name.
      data_dir: Where to; None is TFDS's own default.
      raw_dir: A folder with the files as published, for a machine without a network; None downloads.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UsageError: where a file is missing, or not what it should be; or there is no network.
      RunError: where the preparation fails.
    """
    builder = make_builder(name, data_dir)
    place = pathlib.Path(builder.data_dir)
    if builder.info.splits:
        logging.info("%s is prepared already, in %s", name, place)
        return place
    raw = None if raw_dir is None else pathlib.Path(raw_dir)
    if raw is None:
        _check_network(builder)
    elif not raw.exists():
        raise UsageError(f"--raw_dir={raw} does not exist")
    root = pathlib.Path(builder._data_dir_root)
    existed = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="downloads.", dir=root) as downloads:
            if raw is not None:
                _lay_out(builder, raw, pathlib.Path(downloads))
            _build(builder, downloads)
    except BaseException:
        if not existed:
            shutil.rmtree(root, ignore_errors=True)
        raise
    return place


def _build(builder: Any, downloads: str) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as error:  # TFDS raises what a wrong file or the network causes
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RunError(f"{builder.name} cannot be prepared: {reason}") from error
    for split, info in builder.info.splits.items():
        if not info.num_examples:
            raise RunError(f"{builder.name}: split {split} is empty")


def _check_network(builder: Any) -> None:
    """Asks for the first file: TFDS itself would try for minutes."""
    urls = list(builder.url_infos)
    if not urls:
        return
    request = urllib.request.Request(urls[0], headers={"Range": "bytes=0-0"})
    try:
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        files = ", ".join(url.rpartition("/")[2] for url in urls)
        raise UsageError(
            f"{builder.name}: {urls[0]} cannot be reached ({getattr(error, 'reason', error)}). "
            f"Without a network: put {files} into a folder, and pass it as --raw_dir"
        ) from error


def _lay_out(builder: Any, raw: pathlib.Path, downloads: pathlib.Path) -> None:
    """Puts the published files where TFDS keeps what it has downloaded."""
    from tensorflow_datasets.core.download import resource

    for url, info in builder.url_infos.items():
        cached = downloads / builder.name / resource.get_dl_fname(url, info.checksum)
        cached.parent.mkdir(parents=True, exist_ok=True)
        _copy(builder.name, raw, url.rpartition("/")[2], cached)
        cached.with_name(cached.name + ".INFO").write_text(f'{{"urls": ["{url}"]}}')
        same = hashlib.sha256(cached.read_bytes()).hexdigest() == info.checksum
        logging.info(
            "%s: %s", url.rpartition("/")[2],
            "the published file" if same else "packed otherwise than published; contents checked",
        )  # fmt: skip


def _copy(dataset: str, raw: pathlib.Path, name: str, place: pathlib.Path) -> None:
    """One published file, as published or unpacked, after a look at what is in it."""
    if dataset in _TAR_FOLDERS and name.endswith(".tar.gz"):
        _copy_cifar(dataset, raw, name, place)
        return
    source = raw / name
    if not source.exists() and (raw / name.removesuffix(".gz")).is_file():
        source = raw / name.removesuffix(".gz")
    if not source.is_file():
        raise UsageError(f"--raw_dir={raw}: {name} is not there")
    if "idx" in name and "ubyte" in name:
        _check_idx(source)
    if name.endswith(".gz") and source.suffix != ".gz":
        with source.open("rb") as plain, gzip.open(place, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(plain, packed)
    else:
        shutil.copyfile(source, place)


def _check_idx(path: pathlib.Path) -> None:
    """Whether a file of the MNIST family has the header, the size and the labels that it should."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} is no whole gzip file: {error}") from error
    dimensions = 3 if "idx3" in path.name else 1
    size = 4 + 4 * dimensions
    if len(content) < size or struct.unpack(">I", content[:4])[0] != 0x800 + dimensions:
        raise UsageError(f"{path} is no IDX file of {dimensions} dimension(s)")
    shape = struct.unpack(f">{dimensions}I", content[4:size])
    expected = 10_000 if path.name.startswith("t10k") else 60_000
    if shape[0] != expected or (dimensions == 3 and shape[1:] != (28, 28)):
        wanted = (expected, 28, 28)[:dimensions]
        raise UsageError(f"{path} holds {_times(shape)}, and should hold {_times(wanted)}")
    if len(content) - size != np.prod(shape):
        raise UsageError(
            f"{path} is truncated: {len(content) - size:,} of {np.prod(shape):,} bytes"
        )
    if dimensions == 1 and max(content[size:]) > 9:
        raise UsageError(f"{path}: label {max(content[size:])}, and there are 10 classes")


def _copy_cifar(dataset: str, raw: pathlib.Path, name: str, place: pathlib.Path) -> None:
    """The published archive, or one made of its unpacked folder."""
    folder = _TAR_FOLDERS[dataset]
    with tempfile.TemporaryDirectory() as scratch:
        if (archive := raw if raw.is_file() else raw / name).is_file():
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(scratch, filter="data")  # nothing climbs out
            except (tarfile.TarError, OSError, EOFError) as error:
                raise UsageError(f"{archive} is no whole tar.gz file: {error}") from error
            shutil.copyfile(archive, place)
            _check_cifar(dataset, pathlib.Path(scratch) / folder, f"{archive}: {folder}")
            return
        there = raw / folder if (raw / folder).is_dir() else raw
        _check_cifar(dataset, there, str(there))
        with tarfile.open(place, "w:gz", compresslevel=1) as tar:
            for path in _cifar_files(dataset, there):
                tar.add(path, f"{folder}/{path.name}")


def _cifar_files(dataset: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    yield from (folder / name for name in _CIFAR[dataset])
    yield from sorted(folder.glob("*.txt"))  # the names of the classes


def _check_cifar(dataset: str, folder: pathlib.Path, where: str) -> None:
    """Whether the binary files have the records and the labels that they should.

    Args:
      dataset: Its name.
      folder: With the files.
      where: That, in the user's words.

    Raises:
      UsageError: for the first that has not.
    """
    below = _LABEL_BYTES[dataset]
    size = len(below) + 32 * 32 * 3
    for name, count in _CIFAR[dataset].items():
        path = folder / name
        if not path.is_file():
            raise UsageError(f"{where}/{name} is not there")
        if path.stat().st_size != count * size:
            raise UsageError(
                f"{where}/{name} has {path.stat().st_size:,} bytes, and {count:,} records have "
                f"{count * size:,}"
            )
        labels = np.fromfile(path, np.uint8).reshape(count, size)[:, : len(below)]
        if (labels >= below).any():
            raise UsageError(f"{where}/{name}: a label is not below {_times(below)}")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in shape)
