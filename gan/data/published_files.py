"""Checks of raw dataset files against what their makers published."""

import gzip
import hashlib
import pathlib
import struct
import zlib

import numpy as np

from gan.errors import UsageError
from gan.untrusted import open_plain

CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
CIFAR_RECORDS = {
    "cifar10": {**{f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}, "test_batch.bin": 10_000},
    "cifar100": {"train.bin": 50_000, "test.bin": 10_000},
}
_CIFAR_LABELS = {"cifar10": (10,), "cifar100": (20, 100)}  # number of classes of each label byte

_MOST_IDX_BYTES = 16 + 60_000 * 28 * 28

# MD5 of the unpacked files, as in many projects that check them.
_DIGESTS = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "cifar10": {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
}


def check_idx(dataset: str, path: pathlib.Path) -> None:
    """Checks a file of the MNIST family, gzipped or not: header, size, labels and checksum.

    Args:
      dataset: TFDS name of the dataset to which it should belong.
      path: Path of the file, which has its published name.

    Raises:
      UsageError: for the first difference from what was published.
    """
    try:
        content = _read_idx(path)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is not a complete gzip file: {error}") from error
    dimensions = 3 if "idx3" in path.name else 1
    size = 4 + 4 * dimensions
    if len(content) < size or struct.unpack(">I", content[:4])[0] != 0x800 + dimensions:
        raise UsageError(f"{path} is not an IDX file of {dimensions} dimension(s)")
    shape = struct.unpack(f">{dimensions}I", content[4:size])
    expected = 10_000 if path.name.startswith("t10k") else 60_000
    if shape[0] != expected or (dimensions == 3 and shape[1:] != (28, 28)):
        published = (expected, 28, 28)[:dimensions]
        raise UsageError(f"{path} holds {_times(shape)}, but should hold {_times(published)}")
    if len(content) - size != np.prod(shape):
        raise UsageError(
            f"{path} is truncated: {len(content) - size:,} of {np.prod(shape):,} bytes"
        )
    if dimensions == 1 and max(content[size:]) > 9:
        raise UsageError(f"{path}: label {max(content[size:])}, but there are 10 classes")
    _check_digest(dataset, path.name.removesuffix(".gz"), content, str(path))


def _read_idx(path: pathlib.Path) -> bytes:
    """Reads a file, unpacked, up to one byte more than the largest has: it may be a bomb."""
    with open_plain(path) as file:
        if path.suffix != ".gz":
            return file.read(_MOST_IDX_BYTES + 1)
        with gzip.open(file) as unpacked:
            return unpacked.read(_MOST_IDX_BYTES + 1)


def check_cifar(dataset: str, folder: pathlib.Path, where: str) -> None:
    """Checks the binary files of CIFAR: number of records, labels and checksums.

    Args:
      dataset: `cifar10` or `cifar100`.
      folder: Folder with the files.
      where: The folder as messages call it.

    Raises:
      UsageError: for the first file that is not as published.
    """
    num_classes = _CIFAR_LABELS[dataset]
    size = len(num_classes) + 32 * 32 * 3  # of a record
    for name, count in CIFAR_RECORDS[dataset].items():
        path = folder / name
        if not path.is_file():
            raise UsageError(f"{where}/{name} is missing")
        if path.stat().st_size != count * size:
            raise UsageError(
                f"{where}/{name} has {path.stat().st_size:,} bytes, but {count:,} records have "
                f"{count * size:,}"
            )
        content = path.read_bytes()
        labels = np.frombuffer(content, np.uint8).reshape(count, size)[:, : len(num_classes)]
        if (labels >= num_classes).any():
            raise UsageError(
                f"{where}/{name}: a label is not below {' and '.join(map(str, num_classes))}"
            )
        _check_digest(dataset, name, content, f"{where}/{name}")


def has_digests(dataset: str) -> bool:
    """Returns whether the checksums of a dataset's unpacked files are known."""
    return dataset in _DIGESTS


def _check_digest(dataset: str, name: str, content: bytes, where: str) -> None:
    given = hashlib.md5(content, usedforsecurity=False).hexdigest()
    owners = {
        digest: (owner, file) for owner, files in _DIGESTS.items() for file, digest in files.items()
    }
    owner, file = owners.get(given, (dataset, name))
    if (owner, file) != (dataset, name):
        raise UsageError(f"{where} is {owner}'s {file}, not {dataset}'s {name}")
    published = _DIGESTS.get(dataset, {}).get(name, given)
    if given != published:
        raise UsageError(
            f"{where} is not the published file: its MD5 is {given}, but should be {published}"
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in shape)
