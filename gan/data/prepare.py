"""Prepares a dataset with TFDS's own builder, from the network or from local files."""

import contextlib
import gzip
import hashlib
import pathlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from gan.data.published_files import (
    CIFAR_FOLDERS,
    CIFAR_RECORDS,
    check_cifar,
    check_idx,
    has_digests,
)
from gan.data.sources.tfds import check_tensorflow, make_builder
from gan.errors import RunError, UsageError
from gan.files import user_path
from gan.scratch import remove_left, scratch_folder
from gan.untrusted import open_plain

_MOST_TAR_BYTES = 2**28  # CIFAR's have up to 204,800,000 unpacked
_SCRATCH = "downloads.unfinished."  # how names of temporary folders among the datasets begin
_TIMEOUT_SECONDS = 10  # for a first answer from the network


def prepare(name: str, data_dir: str | None = None, raw_dir: str | None = None) -> pathlib.Path:
    """Prepares a dataset as array_record; it appears whole or not at all.

    Args:
      name: TFDS name of the dataset.
      data_dir: Folder of all prepared datasets; by default TFDS's own.
      raw_dir: Folder with the published files, for a machine without a network; None downloads
        them.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UsageError: if a file is missing or is not the published one, or if there is no network or no
        TensorFlow.
      RunError: if the preparation fails.
    """
    builder = make_builder(name, data_dir)
    folder, root = pathlib.Path(builder.data_dir), pathlib.Path(builder._data_dir_root)
    remove_left(root, _SCRATCH)
    if builder.info.splits:
        logging.info("%s is already prepared, in %s", name, folder)
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is there, and holds no dataset that TFDS can read: remove it")
    check_tensorflow(f"{name}: TFDS prepares datasets")
    raw = None if raw_dir is None else user_path(raw_dir)
    if raw is None:
        _check_network(builder)
    elif not raw.exists():
        raise UsageError(f"--raw_dir={raw} does not exist")
    existed = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with scratch_folder(root, _SCRATCH) as scratch:
            downloads = scratch / "downloads"
            downloads.mkdir()
            if raw is not None:
                _lay_out_downloads(builder, raw, downloads)
            prepared = make_builder(name, str(scratch / "prepared"))
            _build(prepared, str(downloads))
            _move(scratch / "prepared", pathlib.Path(prepared.data_dir), root)
    except BaseException:
        if not existed:
            _remove_empty_folders(root)
        raise
    return folder


def _move(source: pathlib.Path, prepared: pathlib.Path, root: pathlib.Path) -> None:
    """Moves what was prepared to its place: what TFDS knows of all variants, and the dataset last."""
    for path in sorted(source.rglob("*")):
        place = root / path.relative_to(source)
        if path.is_file() and prepared not in path.parents and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    place = root / prepared.relative_to(source)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        prepared.rename(place)
    except OSError as error:
        if not place.is_dir():
            raise
        logging.warning("%s was prepared by another process meanwhile: %s", place, error.strerror)


def _remove_empty_folders(root: pathlib.Path) -> None:
    """Removes the empty folders; another preparation may be writing to the others."""
    for folder in sorted([root, *root.rglob("*")], reverse=True):
        if folder.is_dir():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _build(builder: Any, downloads: str) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except Exception as error:  # TFDS passes on whatever a wrong file or the network causes
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RunError(f"{builder.name} cannot be prepared: {reason}") from error
    for split, info in builder.info.splits.items():
        if not info.num_examples:
            raise RunError(f"{builder.name}: split {split} is empty")


def _check_network(builder: Any) -> None:
    """Raises UsageError if the first file cannot be reached; TFDS itself would try for minutes."""
    urls = list(builder.url_infos)
    if not urls:
        return
    request = urllib.request.Request(urls[0], headers={"Range": "bytes=0-0"})
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # the server answers
    except OSError as error:
        files = ", ".join(url.rpartition("/")[2] for url in urls)
        raise UsageError(
            f"{builder.name}: {urls[0]} cannot be reached ({getattr(error, 'reason', error)}). "
            f"Without a network: put {files} into a folder and pass it as --raw_dir"
        ) from error


def _lay_out_downloads(builder: Any, raw: pathlib.Path, downloads: pathlib.Path) -> None:
    """Puts the published files where TFDS looks for its downloads."""
    from tensorflow_datasets.core.download import resource

    for url, info in builder.url_infos.items():
        cached = downloads / builder.name / resource.get_dl_fname(url, info.checksum)
        cached.parent.mkdir(parents=True, exist_ok=True)
        _copy(builder.name, raw, url.rpartition("/")[2], cached)
        cached.with_name(cached.name + ".INFO").write_text(f'{{"urls": ["{url}"]}}')
        same = hashlib.sha256(cached.read_bytes()).hexdigest() == info.checksum
        logging.info("%s: %s", url.rpartition("/")[2], _describe(builder.name, same))


def _describe(dataset: str, same: bool) -> str:
    if same:
        return "the published file"
    if has_digests(dataset):
        return "the published content, packed differently"
    return "packed differently; no checksum of the published content is known: see --preview"


def _copy(dataset: str, raw: pathlib.Path, name: str, destination: pathlib.Path) -> None:
    """Checks a published file, packed or unpacked, and copies it packed."""
    if dataset in CIFAR_FOLDERS and name.endswith(".tar.gz"):
        _copy_cifar(dataset, raw, name, destination)
        return
    source = raw / name
    if not source.exists() and (raw / name.removesuffix(".gz")).is_file():
        source = raw / name.removesuffix(".gz")
    if not source.is_file():
        raise UsageError(f"--raw_dir={raw}: {name} is missing")
    if "idx" in name and "ubyte" in name:
        check_idx(dataset, source)
    if name.endswith(".gz") and source.suffix != ".gz":
        with source.open("rb") as plain, gzip.open(destination, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(plain, packed)
    else:
        shutil.copyfile(source, destination)


def _copy_cifar(dataset: str, raw: pathlib.Path, name: str, destination: pathlib.Path) -> None:
    """Checks and copies the published archive, or packs its unpacked folder."""
    folder = CIFAR_FOLDERS[dataset]
    with tempfile.TemporaryDirectory() as scratch:
        if (archive := raw if raw.is_file() else raw / name).is_file():
            try:
                _unpack(archive, pathlib.Path(scratch))
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                raise UsageError(f"{archive} is not a complete tar.gz file: {error}") from error
            check_cifar(dataset, pathlib.Path(scratch) / folder, f"{archive}: {folder}")
            shutil.copyfile(archive, destination)
            return
        unpacked = raw / folder if (raw / folder).is_dir() else raw
        check_cifar(dataset, unpacked, str(unpacked))
        with tarfile.open(destination, "w:gz", compresslevel=1) as tar:
            for path in _cifar_files(dataset, unpacked):
                tar.add(path, f"{folder}/{path.name}")


def _unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpacks a `.tar.gz`, as far as it is no larger than the published ones."""
    with open_plain(archive) as file, gzip.open(file) as packed, tempfile.TemporaryFile() as plain:
        while plain.tell() <= _MOST_TAR_BYTES and (block := packed.read(2**20)):
            plain.write(block)
        if plain.tell() > _MOST_TAR_BYTES:
            raise tarfile.TarError(f"it unpacks to more than {_MOST_TAR_BYTES:,} bytes")
        plain.seek(0)
        with tarfile.open(fileobj=plain) as tar:
            tar.extractall(folder, filter="data")  # refuses paths that lead out


def _cifar_files(dataset: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    yield from (folder / name for name in CIFAR_RECORDS[dataset])
    yield from sorted(folder.glob("*.txt"))  # names of the classes
