"""The weights of the Inception network of FID: fetched, checked, and read without running code.

PyTorch-FID publishes them as a pickle, which could run anything. Here a reader that knows tensors
and nothing else turns them into a `.npz`, once.
"""

import contextlib
import functools
import hashlib
import http.client
import io
import pickle
import shutil
import struct
import tempfile
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gan.errors import UsageError
from gan.manifests import digest
from gan.models.inception import SIZE, InceptionV3
from gan.user_cache import cache_folder

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"

_SECONDS = 8.0
_EPSILON = 1e-3  # of the batch normalisation
_MAGIC = 0x1950A86A20F9469CFC6C  # how torch's older files start
Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Of an `InceptionV3`.

    Attributes:
      params: float32 arrays: `InceptionV3().apply({"params": params}, x)`.
      digest: SHA-256 over name, type, shape and bytes of every array.
    """

    params: Mapping[str, Any]
    digest: str


def load(path: Path, cache: Path | None = None) -> Weights:
    """Reads weights.

    Args:
      path: A `.npz` that `convert` wrote, or the published `.pth`.
      cache: A folder, where the conversion of a `.pth` is kept for the next time; None is the user's.

    Raises:
      UsageError: for a file that is not there, or is none of these.
    """
    path = path.expanduser()
    _check_exists(path)
    if path.suffix == ".npz":
        return _load_npz(path)
    if path.suffix not in (".pth", ".pt"):
        raise UsageError(f"{path} is neither a .npz of `convert` nor {PUBLISHED}")
    converted = _converted(cache)
    _check_sha256(path, PUBLISHED_SHA256)
    if not converted.is_file():
        convert(path, converted, sha256=None)
    return _load_npz(converted)


def at_hand(cache: Path | None = None) -> Path | None:
    """The published weights in the cache: converted, else as published, else None."""
    published = (cache or cache_folder("inception")) / PUBLISHED
    return next((path for path in (_converted(cache), published) if path.is_file()), None)


def convert(source: Path, destination: Path, sha256: str | None = PUBLISHED_SHA256) -> None:
    """Turns PyTorch-FID's weights into a `.npz` of our arrays, without running code in the file.

    Args:
      source: A state dict that `torch.save` wrote, in either of its formats.
      destination: The `.npz`; it appears whole or not at all.
      sha256: Of `source`; None takes any weights of this network.

    Raises:
      UsageError: for a wrong checksum, a file that is no state dict, an array that is missing or
        has a wrong shape, a place that cannot be written.
    """
    if destination.suffix != ".npz":
        raise UsageError(f"{destination}: the name of converted weights ends in .npz")
    _check_exists(source)
    if sha256 is not None:
        _check_sha256(source, sha256)
    arrays = _fold(source, _read(source))
    try:
        with _beside(destination) as part:
            np.savez(part, allow_pickle=False, **arrays)
    except OSError as error:
        raise UsageError(f"{destination} cannot be written: {error}") from error


def fetch(cache: Path | None = None) -> Path:
    """Downloads the published `.pth`, unless it is there, and returns its path.

    Raises:
      UsageError: where it cannot be downloaded (seconds later), or is not what was published.
    """
    place = (cache or cache_folder("inception")) / PUBLISHED
    if place.is_file() and _sha256(place) == PUBLISHED_SHA256:
        return place
    try:
        with _beside(place) as part:
            with urllib.request.urlopen(URL, timeout=_SECONDS) as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            _check_sha256(part, PUBLISHED_SHA256, said=URL)
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(
            f"{URL} cannot be downloaded to {place} ({getattr(error, 'reason', error)}). Get it "
            f"elsewhere, and put it there: the file with SHA-256 {PUBLISHED_SHA256}"
        ) from error
    return place


def _converted(cache: Path | None) -> Path:
    return (cache or cache_folder("inception")) / f"{PUBLISHED.removesuffix('.pth')}.npz"


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; Inception weights are {PUBLISHED}, from {URL}")


def _check_sha256(path: Path, wanted: str, said: object = None) -> None:
    if (found := _sha256(path)) != wanted:
        raise UsageError(f"{said or path} has SHA-256 {found}; accepted: {wanted}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A path to write to; what is there moves to `place`, unless something was raised."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part.", dir=place.parent) as folder:
        part = Path(folder) / place.name
        yield part
        part.replace(place)


@functools.cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """Of the network's arrays, by dotted name."""
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    params = jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"]
    return {name: leaf.shape for name, leaf in flatten_dict(params, sep=".").items()}


def _load_npz(path: Path) -> Weights:
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as content:
            found = {name: content[name] for name in _shapes() if name in content.files}
    except Exception as error:  # a damaged archive raises almost anything
        raise UsageError(f"{path} is no readable .npz of weights ({_line(error)})") from error
    arrays = {name: _array(path, found, name, shape) for name, shape in _shapes().items()}
    params = unflatten_dict({name: jnp.asarray(array) for name, array in arrays.items()}, sep=".")
    return Weights(params, digest(params))


def _array(path: Path, arrays: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array, which has to be there, with this shape, of floating-point numbers."""
    if name not in arrays:
        raise UsageError(f"{path} has no array {name!r}, which FID's Inception network needs")
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != "f":
        raise UsageError(
            f"{path}: {name!r} is {array.dtype} {list(array.shape)}, "
            f"and FID's Inception network needs float32 {list(shape)}"
        )
    return array.astype(np.float32, copy=False)


def _fold(path: Path, state: Arrays) -> Arrays:
    """PyTorch-FID's arrays as ours: y = scale (w * x - mean) + shift is one convolution with a bias."""
    get = functools.partial(_array, path, state)
    arrays = {}
    for name, shape in _shapes().items():
        module, _, kind = name.rpartition(".")
        if kind == "bias":
            continue
        channels = shape[-1:]
        if module == "fc":
            kernel, bias = get("fc.weight", shape[::-1]).T, get("fc.bias", channels)
        else:
            mean, variance, scale, shift = (
                get(f"{module}.bn.{part}", channels).astype(np.float64)
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            scale /= np.sqrt(variance + _EPSILON)
            height, width, inputs, outputs = shape
            kernel = get(f"{module}.conv.weight", (outputs, inputs, height, width))
            kernel, bias = kernel.transpose(2, 3, 1, 0) * scale, shift - mean * scale
        arrays[name] = np.ascontiguousarray(kernel, np.float32)
        arrays[f"{module}.bias"] = bias.astype(np.float32)
    return arrays


@dataclass(frozen=True)
class _Storage:
    """Numbers in a file, in a row."""

    dtype: str
    key: str
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, content: bytes) -> np.ndarray:
        """Its numbers, from those of its storage."""
        numbers = np.frombuffer(content, self.storage.dtype)
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(numbers):
            raise ValueError("a tensor lies outside its storage")
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Reader(pickle.Unpickler):
    """Knows ordered dictionaries, tensors and storages by name, and no other class or function."""

    _KNOWN: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
        ("torch", "HalfStorage"): "<f2",
        ("torch", "FloatStorage"): "<f4",
        ("torch", "DoubleStorage"): "<f8",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return self._KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *_ = pid
        if kind != "storage" or dtype not in self._KNOWN.values():
            raise pickle.UnpicklingError(f"it refers to {kind!r}, which is not allowed")
        return _Storage(dtype, str(key), int(size))


def _read(path: Path) -> Arrays:
    """A state dict's arrays, by name."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read_zip(archive)
        with path.open("rb") as file:
            return _read_legacy(file)
    except Exception as error:  # damaged bytes raise almost anything
        raise UsageError(
            f"{path} is no state dict of torch.save with nothing but tensors ({_line(error)})"
        ) from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _read_zip(archive: zipfile.ZipFile) -> Arrays:
    """`<name>/data.pkl`, and each storage in `<name>/data/<key>`."""
    (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    tensors = _tensors(_Reader(io.BytesIO(archive.read(index))).load())
    folder = index.removesuffix(".pkl")
    return {
        name: tensor.array(archive.read(f"{folder}/{tensor.storage.key}"))
        for name, tensor in tensors.items()
    }


def _read_legacy(file: BinaryIO) -> Arrays:
    """Pickles of a magic number, a version, the system, the object and the keys; then storages."""
    magic, _, _, state, keys = (_Reader(file).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("another magic number")
    tensors = _tensors(state)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    contents = {}
    for key in keys:
        if struct.unpack("<q", file.read(8))[0] != storages[key].size:
            raise ValueError(f"storage {key} has another size")
        contents[key] = file.read(storages[key].nbytes)
    return {name: tensor.array(contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(state: Any) -> dict[str, _Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, _Tensor)}
