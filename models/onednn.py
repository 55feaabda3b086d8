"""oneDNN's convolutions on a CPU, where they are installed: `pip install 'flax-gan[onednn]'`, Linux on x86-64.

JAX's wheel lacks oneDNN, Intel's library of kernels, which PyTorch has. Here its convolutions are calls within
a compiled program (an XLA custom call), on XLA's own arrays. What of them happens in the program is in
`onednn.cpp`, which is compiled once, with the computer's own C++ compiler and against the headers of the jaxlib
that is installed, since these change between its versions, and then kept in the user's cache.

Programs for one CPU use it. Those for several devices, and exported ones, are made of XLA's own operations.
`GAN_ONEDNN=0` turns it off.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from gan.files import cache_folder
from gan.models.geometry import Geometry

Pass: TypeAlias = Literal["convolve", "input_gradient", "kernel_gradient"]
Form: TypeAlias = Callable[[Geometry, jax.Array, jax.Array], jax.Array]
PACKAGE = "onednn-cpu-gomp"

_TARGET = "gan_onednn_convolution"
_PASSES = ("convolve", "input_gradient", "kernel_gradient")
_OFF = ("0", "off", "false", "no")
_COMPILERS = ("c++", "g++", "clang++")
_loading = threading.Lock()
_limit: int | None = None  # of the threads, once `limit_threads` was called


class _UnusableError(Exception):
    """oneDNN is installed, and cannot be used; the message says why."""


@dataclass(frozen=True)
class Library:
    """oneDNN, loaded.

    Attributes:
      functions: Those that `onednn.cpp` exports.
      version: oneDNN's version, such as `3.2.0`.
      threads: In how many shares of the batch, each by a thread of XLA's, a large convolution is computed,
        unless `limit_threads` says fewer.
    """

    functions: ctypes.CDLL
    version: str
    threads: int


def describe(num_devices: int) -> str:
    """Returns by what the convolutions of a program for so many devices are computed: their bits differ."""
    library = load() if num_devices == 1 else None
    if library is None:
        return f"xla on {jax.default_backend()}"
    return f"onednn {library.version} in {_limit or library.threads} shares"


@contextlib.contextmanager
def limit_threads(number: int) -> Iterator[None]:
    """Has at most so many threads compute a convolution of the programs that are compiled meanwhile."""
    library = load()
    if library is not None:
        _set_threads(library, min(number, library.threads))
    try:
        yield
    finally:
        if library is not None:
            _set_threads(library, library.threads)


def _set_threads(library: Library, number: int) -> None:
    global _limit
    _limit = number
    library.functions.onednn_set_threads(number)
    _room.cache_clear()  # a convolution needs more of it in more shares


def load() -> Library | None:
    """Returns oneDNN; None where it is not installed, or turned off, or cannot be used, which is said once."""
    with _loading:  # XLA takes one library for a target, and several threads may ask first
        return _load_once()


@functools.cache
def _load_once() -> Library | None:
    if os.environ.get("GAN_ONEDNN", "").lower() in _OFF or jax.default_backend() != "cpu":
        return None  # that JAX's devices are started by now is needed: types must be there before targets
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    try:
        found = next((file for file in files if file.name == "libdnnl.so.3"), None)
        if found is None:
            raise _UnusableError(f"{PACKAGE} lacks libdnnl.so.3")
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise _UnusableError("it is for Linux on x86-64 alone")
        return _load(pathlib.Path(str(found.locate())).resolve())
    except (OSError, ValueError, _UnusableError) as error:
        logging.warning("oneDNN is installed and not used: %s", error)
        return None


def _load(dnnl: pathlib.Path) -> Library:
    functions = ctypes.CDLL(str(_compiled(dnnl)))
    capsule: Callable[[Any], Any] = jax.ffi.pycapsule
    functions.onednn_type_id.restype = functions.onednn_type_info.restype = ctypes.c_void_p
    functions.onednn_room.restype = ctypes.c_int64
    functions.onednn_version.restype = ctypes.POINTER(ctypes.c_int * 3)
    jax.ffi.register_ffi_type(
        _TARGET,
        {
            "type_id": capsule(functions.onednn_type_id()),
            "type_info": capsule(functions.onednn_type_info()),
        },
    )
    stages = {
        "instantiate": capsule(functions.onednn_instantiate),
        "execute": capsule(functions.onednn_execute),
    }
    jax.ffi.register_ffi_target(_TARGET, stages, platform="cpu")
    version = ".".join(map(str, functions.onednn_version().contents))
    return Library(functions, version, functions.onednn_threads())


def _compiled(dnnl: pathlib.Path) -> pathlib.Path:
    """Returns `onednn.cpp` as a library, compiled now or before."""
    source, headers = pathlib.Path(__file__).with_name("onednn.cpp"), jax.ffi.include_dir()
    compiler = _compiler()
    command = [
        *compiler, "-std=c++17", "-O3", "-fPIC", "-shared", "-w", str(source), "-I", headers,
        str(dnnl), f"-Wl,-rpath,{dnnl.parent}",
    ]  # fmt: skip
    made_from = [source.read_text(), importlib.metadata.version("jaxlib"), *command]
    key = hashlib.sha256("\n".join(made_from).encode()).hexdigest()[:32]
    folder = cache_folder("onednn")
    path = folder / f"{key}.so"
    if path.exists() and path.stat().st_uid == os.getuid():
        return path
    logging.info("compiling what calls oneDNN, once: some seconds")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = pathlib.Path(scratch, path.name)
        done = subprocess.run(
            [*command, "-o", str(made)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["it failed"]
            raise _UnusableError(f"{shlex.join(compiler)}: {lines[0]}")
        os.replace(made, path)
    return path


def _compiler() -> list[str]:
    """Returns the command of the C++ compiler: `$CXX`, or the first that is found."""
    if own := shlex.split(os.environ.get("CXX", "")):
        return own
    for found in map(shutil.which, _COMPILERS):
        if found:
            return [found]
    raise _UnusableError("there is no C++ compiler (c++): apt-get install g++, or name one in CXX")


def slow_bfloat16(num_devices: int) -> str | None:
    """Says why a step in bfloat16 is no faster than in float32 on a CPU; None where it is faster."""
    slow = (
        "XLA makes products in float32 and rounds them, so that a step is no faster than in float32"
    )
    if not _has_bfloat16():
        return f"this CPU has neither avx512_bf16 nor AMX: {slow}"
    if num_devices > 1:
        return f"on several devices of a CPU {slow}"
    if load() is None:
        return f"without oneDNN {slow}; pip install 'flax-gan[onednn]' has it computed by this CPU's own"
    return None


@functools.cache
def _has_bfloat16() -> bool:
    """Returns whether the processor multiplies in bfloat16."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def applies(which: Pass, geometry: Geometry, a: jax.Array, b: jax.Array) -> bool:
    """Returns whether oneDNN is there and computes such a pass, in this type, on this CPU's own instructions."""
    if load() is None or a.dtype != b.dtype or a.dtype not in (jnp.float32, jnp.bfloat16):
        return False
    if a.dtype == jnp.bfloat16 and not _has_bfloat16():
        return False
    if any(mesh.manual_axes or mesh.explicit_axes for mesh in map(_mesh, (a, b))):
        return False  # such axes are part of the result's type
    numbers = _numbers(which, geometry, a, b)
    possible = min(numbers[2:13]) > 0 and min(numbers[13:]) >= 0 and geometry.meets
    return possible and _room(numbers) is not None


def _mesh(x: jax.Array) -> Any:
    return jax.typeof(x).sharding.mesh


def convolution(
    which: Pass, otherwise: Form, geometry: Geometry, a: jax.Array, b: jax.Array
) -> jax.Array:
    """Computes a pass with oneDNN.

    Args:
      which: The pass.
      otherwise: What computes it in programs for several devices, and in exported ones.
      geometry: Its geometry.
      a: x of `convolve` and `kernel_gradient`, y of `input_gradient`.
      b: w of `convolve` and `input_gradient`, y of `kernel_gradient`.
    """
    return _convolution_p.bind(a, b, which=which, otherwise=otherwise, geometry=geometry)


def _numbers(which: Pass, geometry: Geometry, a: Any, b: Any) -> tuple[int, ...]:
    """Returns the geometry as `onednn.cpp` takes it."""
    groups = geometry.groups
    if which == "kernel_gradient":
        channels, features = a.shape[-1], b.shape[-1]
    else:
        channels, features = b.shape[2] * groups, b.shape[3]
    (top, bottom), (left, right) = geometry.padding
    return (
        _PASSES.index(which), int(a.dtype == jnp.bfloat16), a.shape[0], *geometry.image, channels, features,
        *geometry.output, *geometry.kernel, *geometry.stride, top, left, bottom, right, groups,
    )  # fmt: skip


@functools.cache
def _room(numbers: tuple[int, ...]) -> int | None:
    """Returns the bytes that a call needs besides its arrays; None where oneDNN has no such convolution.

    Raises:
      RuntimeError: where oneDNN fails.
    """
    library = load()
    assert library is not None
    message = ctypes.create_string_buffer(1_000)
    given = (ctypes.c_int64 * len(numbers))(*numbers)
    size = library.functions.onednn_room(
        given, ctypes.c_size_t(len(numbers)), message, ctypes.c_size_t(len(message))
    )
    if size == -2:
        raise RuntimeError(message.value.decode())
    return None if size == -1 else size


def _abstract(a: Any, b: Any, *, which: Pass, otherwise: Form, geometry: Geometry) -> Any:
    """Returns the shape and type of a pass's result."""
    if which == "convolve":
        shape: Sequence[int] = (a.shape[0], *geometry.output, b.shape[3])
    elif which == "input_gradient":
        shape = (a.shape[0], *geometry.image, b.shape[2] * geometry.groups)
    else:
        shape = (*geometry.kernel, a.shape[3] // geometry.groups, b.shape[3])
    return a.update(shape=tuple(shape))


def _lower(ctx: Any, a: Any, b: Any, *, which: Pass, otherwise: Form, geometry: Geometry) -> Any:
    module, room = ctx.module_context, None
    alone = getattr(module.axis_context, "num_devices", None) == 1
    on_cpu = tuple(module.platforms) == ("cpu",)  # in programs for several all branches are lowered
    if on_cpu and alone and not module.lowering_parameters.for_export:
        numbers = _numbers(which, geometry, *ctx.avals_in)
        room = _room(numbers)
    if room is None:
        form = mlir.lower_fun(partial(otherwise, geometry), multiple_results=False)
        return form(ctx, a, b)
    spare = ctx.avals_out[0].update(shape=(max(room, 1),), dtype=jnp.dtype(jnp.uint8))
    call = ctx.replace(avals_out=[*ctx.avals_out, spare])
    return jax.ffi.ffi_lowering(_TARGET)(call, a, b, geometry=np.array(numbers, np.int64))[:1]


def _batch(arrays: Any, axes: Any, *, which: Pass, otherwise: Form, geometry: Geometry) -> Any:
    """Computes a convolution for each member of a batch of convolutions, one after the other."""
    size = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
    each = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arrays, axes, strict=True)
    ]
    one = partial(convolution, which, otherwise, geometry)
    return jax.lax.map(lambda pair: one(*pair), tuple(each)), 0


_convolution_p = Primitive("onednn_convolution")
_convolution_p.def_abstract_eval(_abstract)
_convolution_p.def_impl(
    lambda a, b, **params: jax.jit(partial(_convolution_p.bind, **params))(a, b)
)
mlir.register_lowering(_convolution_p, _lower)
batching.primitive_batchers[_convolution_p] = _batch
