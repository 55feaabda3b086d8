"""Weights of the Inception network of FID: downloaded, verified, and read without running code.

The pytorch-fid project publishes them as a pickle, which can run any code when it is loaded. A
reader that knows nothing but tensors converts them to an `.npz` instead, once.
"""

import functools
import hashlib
import http.client
import io
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gan.errors import UsageError
from gan.files import cache_folder, replacing, user_path
from gan.models.inception import SIZE, InceptionV3
from gan.untrusted import check_sizes, open_plain, read_npz

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"

_TIMEOUT_SECONDS = 8.0
_MOST_BYTES = 2**30  # ten times those of the published file
_EPSILON = 1e-3  # of the batch normalisation
_MAGIC = 0x1950A86A20F9469CFC6C  # at the start of files of torch's legacy format
Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Weights:
    """Weights of an `InceptionV3`.

    Attributes:
      params: float32 arrays, for `InceptionV3().apply({"params": params}, x)`.
      digest: SHA-256 of the names, types, shapes and bytes of all arrays.
    """

    params: Mapping[str, Any]
    digest: str


def load(path: Path, cache: Path | None = None) -> Weights:
    """Reads weights.

    Args:
      path: An `.npz` that `convert` wrote, or the published `.pth`.
      cache: Folder in which the converted `.pth` is kept for next time; by default the user's
        cache.

    Raises:
      UsageError: for a file that does not exist, or is neither of these.
    """
    path = user_path(path)
    _check_exists(path)
    if path.suffix == ".npz":
        return _load_npz(path)
    if path.suffix not in (".pth", ".pt"):
        raise UsageError(f"{path} is neither an .npz of converted weights nor {PUBLISHED}")
    converted = _converted_path(cache)
    _check_sha256(path, PUBLISHED_SHA256)
    if not converted.is_file():
        convert(path, converted, sha256=None)
    return _load_npz(converted)


def at_hand(cache: Path | None = None) -> Path | None:
    """Returns the weights in the cache, preferably converted, or None if there are none."""
    published = (cache or cache_folder("inception")) / PUBLISHED
    return next((path for path in (_converted_path(cache), published) if path.is_file()), None)


def convert(source: Path, destination: Path, sha256: str | None = PUBLISHED_SHA256) -> None:
    """Converts the weights of pytorch-fid to an `.npz`, without running code in the file.

    Args:
      source: A state dict that `torch.save` wrote, in either of its formats.
      destination: The `.npz`; it appears whole or not at all.
      sha256: Checksum of `source`; None accepts any weights of this network.

    Raises:
      UsageError: for a wrong checksum, a file that is not a state dict, an array that is missing or
        has the wrong shape, or a destination that cannot be written.
    """
    if destination.suffix != ".npz":
        raise UsageError(f"{destination}: the name of converted weights must end in .npz")
    _check_exists(source)
    if sha256 is not None:
        _check_sha256(source, sha256)
    arrays = _fold(source, _read(source))
    try:
        with replacing(destination) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise UsageError(f"{destination} cannot be written: {error}") from error


def fetch(cache: Path | None = None) -> Path:
    """Downloads the published `.pth` unless it is in the cache, and returns its path.

    Raises:
      UsageError: if it cannot be downloaded (no server answers within seconds), or is not the
        published file.
    """
    import urllib.request  # few need it, and `gan.models` imports this module

    path = (cache or cache_folder("inception")) / PUBLISHED
    if path.is_file() and _sha256(path) == PUBLISHED_SHA256:
        return path
    try:
        with replacing(path, shared=True) as part:
            answer = urllib.request.urlopen(URL, timeout=_TIMEOUT_SECONDS)
            with answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            _check_sha256(part, PUBLISHED_SHA256, origin=URL)
    except (OSError, http.client.HTTPException) as error:
        raise UsageError(
            f"{URL} cannot be downloaded to {path} ({getattr(error, 'reason', error)}). Download "
            f"it elsewhere and put it there: the file with SHA-256 {PUBLISHED_SHA256}"
        ) from error
    return path


def _converted_path(cache: Path | None) -> Path:
    return (cache or cache_folder("inception")) / f"{PUBLISHED.removesuffix('.pth')}.npz"


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; the Inception weights are {PUBLISHED}, from {URL}")


def _check_sha256(path: Path, expected: str, origin: str | None = None) -> None:
    if (found := _sha256(path)) != expected:
        raise UsageError(f"{origin or path} has SHA-256 {found}; accepted: {expected}")


def _sha256(path: Path) -> str:
    try:
        file = open_plain(path, _MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the network's arrays, by dotted name."""
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    params = jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"]
    return {name: leaf.shape for name, leaf in flatten_dict(params, sep=".").items()}


def _load_npz(path: Path) -> Weights:
    from gan.checkpoints.trees import digest  # brings Orbax, which is slow to import

    try:
        found = read_npz(path, _shapes().keys())
    except Exception as error:  # a damaged archive can raise almost anything
        raise UsageError(f"{path} is not a readable .npz of weights ({_summary(error)})") from error
    arrays = {name: _array(path, found, name, shape) for name, shape in _shapes().items()}
    params = unflatten_dict({name: jnp.asarray(array) for name, array in arrays.items()}, sep=".")
    return Weights(params, digest(params))


def _array(path: Path, arrays: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns one array as float32; raises UsageError if it is missing, or of another kind."""
    if name not in arrays:
        raise UsageError(f"{path} has no array {name!r}, which FID's Inception network needs")
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != "f":
        raise UsageError(
            f"{path}: {name!r} is {array.dtype} {list(array.shape)}, "
            f"but FID's Inception network needs float32 {list(shape)}"
        )
    return array.astype(np.float32, copy=False)


def _fold(path: Path, state: Arrays) -> Arrays:
    """Folds batch normalisation, scale (w * x - mean) + shift, into convolutions with a bias."""
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
    """A flat array of numbers in the file."""

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
        """Returns the tensor, given the bytes of its storage."""
        numbers = np.frombuffer(content, self.storage.dtype)
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(numbers):
            raise ValueError("a tensor lies outside its storage")
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor has no storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Reader(pickle.Unpickler):
    """An unpickler that knows ordered dictionaries, tensors and storages, and nothing else."""

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
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not allowed")
        return self._KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *_ = pid
        if kind != "storage" or dtype not in self._KNOWN.values():
            raise pickle.UnpicklingError(f"it refers to {kind!r}, which is not allowed")
        return _Storage(dtype, str(key), int(size))


def _read(path: Path) -> Arrays:
    """Reads the arrays of a state dict, by name."""
    try:
        with open_plain(path, _MOST_BYTES) as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return _read_legacy(file)
            with zipfile.ZipFile(file) as archive:
                check_sizes(archive.infolist())
                return _read_zip(archive)
    except Exception as error:  # damaged bytes can raise almost anything
        raise UsageError(
            f"{path} is not a torch.save state dict of tensors alone ({_summary(error)})"
        ) from error


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _read_zip(archive: zipfile.ZipFile) -> Arrays:
    """Reads `<name>/data.pkl`, and each storage from `<name>/data/<key>`."""
    (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    tensors = _only_tensors(_Reader(io.BytesIO(archive.read(index))).load())
    folder = index.removesuffix(".pkl")
    return {
        name: tensor.array(archive.read(f"{folder}/{tensor.storage.key}"))
        for name, tensor in tensors.items()
    }


def _read_legacy(file: BinaryIO) -> Arrays:
    """Reads pickles of a magic number, version, system, object and keys, and then the storages."""
    magic, _, _, state, keys = (_Reader(file).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("wrong magic number")
    tensors = _only_tensors(state)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    contents = {}
    for key in keys:
        if struct.unpack("<q", file.read(8))[0] != storages[key].size:
            raise ValueError(f"storage {key} has the wrong size")
        contents[key] = file.read(storages[key].nbytes)
    return {name: tensor.array(contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _only_tensors(state: Any) -> dict[str, _Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, _Tensor)}
