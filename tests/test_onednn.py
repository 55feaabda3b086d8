"""oneDNN's convolutions: the same numbers as XLA's, in all that JAX does with a program, and nothing of it without oneDNN.

Tests that need it are skipped where it is not installed. In float32 numbers are held to XLA's in float64, to
`ROUNDINGS`; in bfloat16 to the same of the rounded operands, to one rounding of the result.
"""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gan
from gan.checkpoints import Checkpoints, manifest
from gan.models import convolutions, onednn
from gan.models.convolutions import convolve, input_gradient, kernel_gradient
from gan.models.geometry import Geometry

needs_onednn = pytest.mark.skipif(onednn.load() is None, reason="oneDNN is not installed")
CALL = "@gan_onednn_convolution"
ROUNDINGS = 1e-4
PASSES = ("convolve", "input_gradient", "kernel_gradient")
PLAIN = Geometry((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)))
SIZES = dict.fromkeys(("groups", "channels", "features"), st.integers(1, 4)) | {
    "image": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "kernel": st.tuples(st.integers(1, 5), st.integers(1, 5)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    "times": st.sampled_from([1, 8]),
}
POINTWISE = {
    "image": (5, 4), "kernel": (1, 1), "stride": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1, "channels": 2,
    "features": 3, "times": 8,
}  # fmt: skip
STRIDED = POINTWISE | {"kernel": (4, 1), "stride": (2, 3), "padding": ((1, 2), (0, 1)), "groups": 2}
IMAGE = POINTWISE | {
    "image": (8, 8),
    "kernel": (4, 4),
    "stride": (2, 2),
    "padding": ((1, 1), (1, 1)),
    "times": 1,
}
LOST = STRIDED | {"image": (2, 2), "kernel": (1, 1), "stride": (1, 1), "padding": ((3, 3), (3, 0))}

UNMET = POINTWISE | {
    "image": (1, 1),
    "kernel": (1, 2),
    "stride": (1, 2),
    "padding": ((0, 0), (0, 2)),
    "channels": 1,
}


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "padding", "meets"),
    [
        ((4, 4), (4, 4), (2, 2), (1, 1), True),
        ((2, 2), (4, 4), (2, 2), (1, 1), False),  # only two of four elements
        ((2, 2), (2, 2), (3, 3), (1, 0), False),  # only one of two
        ((2, 2), (1, 1), (1, 1), (1, 0), False),  # the first pixel of y is of padding
        ((1, 1), (3, 3), (1, 1), (1, 1), False),
        ((1, 1), (3, 3), (1, 1), (2, 2), True),
    ],
)
def test_whether_kernel_and_pixels_meet(image, kernel, stride, padding, meets):
    """Along either axis."""
    assert Geometry(image, kernel, stride, (padding, padding)).meets == meets
    across = Geometry((5, image[1]), (1, kernel[1]), (1, stride[1]), ((0, 0), padding))
    assert across.meets == meets


def arrays(geometry, channels, features, batch=2, seed=0):
    """Returns x, y and w, in float32."""
    rng, groups = np.random.default_rng(seed), geometry.groups
    shapes = (
        (batch, *geometry.image, channels * groups),
        (batch, *geometry.output, features * groups),
        (*geometry.kernel, channels, features * groups),
    )
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def native(geometry, x, w):
    return lax.conv_general_dilated(
        x, w, geometry.stride, geometry.padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups, precision="highest",
    )  # fmt: skip


def native_passes(geometry, x, y, w):
    to_x, to_w = (
        jax.linear_transpose(lambda x: native(geometry, x, w), x),
        jax.linear_transpose(lambda w: native(geometry, x, w), w),
    )
    return native(geometry, x, w), to_x(y)[0], to_w(y)[0]


def passes(geometry, x, y, w):
    return (
        convolve(geometry, x, w), input_gradient(geometry, y, w), kernel_gradient(geometry, x, y)
    )  # fmt: skip


def in_float64(function, *args):
    with jax.enable_x64(True):
        return jax.jit(function)(*(np.asarray(arg, np.float64) for arg in args))


def assert_close(ours, theirs, rtol=ROUNDINGS):
    def check(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=ROUNDINGS * max(np.abs(b).max(), 1e-6))

    jax.tree.map(check, ours, theirs)


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def calls(function, *args):
    return jax.jit(function).lower(*args).as_text().count(CALL)


def penalised(function):
    """Returns a function of x and w: a loss, its gradients, and those of a penalty on its gradients."""

    def loss(x, w):
        y = function(x, w)
        return jnp.mean(jnp.tanh(y) * y)

    def penalty(x, w):
        dx, dw = jax.grad(loss, (0, 1))(x, w)
        return jnp.sum(dx**2) + jnp.sum(dw**3)

    return lambda x, w: (
        loss(x, w), jax.grad(loss, (0, 1))(x, w), jax.grad(penalty, (0, 1))(x, w)
    )  # fmt: skip


def geometry_of(image, kernel, stride, padding, groups):
    geometry = Geometry(image, kernel, stride, padding, groups)
    assume(min(geometry.output) > 0)
    return geometry


@needs_onednn
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@settings(deadline=None, max_examples=22)
@given(**SIZES)
@example(**POINTWISE)
@example(**STRIDED)
@example(**LOST)  # some outputs depend on padding alone
@example(
    **UNMET
)  # some of the kernel meets padding alone: oneDNN leaves its gradient as memory was
@example(**IMAGE)
def test_each_pass_is_laxs(
    dtype, image, kernel, stride, padding, groups, channels, features, times
):
    if dtype == jnp.bfloat16 and not onednn._has_bfloat16():
        pytest.skip("the processor has no bfloat16")
    geometry = geometry_of(image, kernel, stride, padding, groups)
    given = [array.astype(dtype) for array in arrays(geometry, channels * times, features * times)]
    program = jax.jit(lambda *arrays: passes(geometry, *arrays)).lower(*given)
    of_image = stride != (1, 1) and channels * times < 8 and groups == 1
    if of_image:  # one plain convolution, whose own padding may be negative
        assert program.as_text().count(CALL) >= (2 if geometry.meets else 0)
    else:
        assert program.as_text().count(CALL) == (3 if geometry.meets else 0)
    ours = program.compile()(*given)
    assert {array.dtype for array in ours} == {jnp.dtype(dtype)}
    theirs = in_float64(lambda *arrays: native_passes(geometry, *arrays), *given)
    assert_close(ours, theirs, 2**-8 if dtype == jnp.bfloat16 else ROUNDINGS)


@needs_onednn
@settings(deadline=None, max_examples=6)
@given(**SIZES)
@example(**POINTWISE)
@example(**STRIDED)
def test_first_and_second_derivatives_are_laxs(
    image, kernel, stride, padding, groups, channels, features, times
):
    geometry = geometry_of(image, kernel, stride, padding, groups)
    x, _, w = arrays(geometry, channels * times, features * times)
    program = jax.jit(penalised(lambda x, w: convolve(geometry, x, w))).lower(x, w)
    assert (program.as_text().count(CALL) > 2) == geometry.meets
    theirs = in_float64(penalised(lambda x, w: native(geometry, x, w)), x, w)
    assert_close(program.compile()(x, w), theirs)


def looped(function):
    return lambda xs, w: lax.fori_loop(0, len(xs), lambda i, y: y + function(xs[i], w), 0.0 * xs[0])


TRANSFORMS = {
    "vmap of both": lambda f: lambda xs, w: jax.vmap(f)(xs, jnp.stack([w, 2 * w, -w])),
    "vmap of x": lambda f: jax.vmap(f, (0, None)),
    "vmap of w": lambda f: lambda xs, w: jax.vmap(f, (None, 0), 1)(xs[0], jnp.stack([w, 2 * w])),
    "vmap of vmap": lambda f: (
        lambda xs, w: jax.vmap(lambda w: jax.vmap(f, (0, None))(xs, w))(jnp.stack([w, -w]))
    ),
    "scan": lambda f: lambda xs, w: lax.scan(lambda y, x: (y + f(x, w), y), 0.0 * xs[0], xs),
    "fori_loop": looped,
    "remat": lambda f: (
        lambda xs, w: jax.checkpoint(lambda x: jnp.sin(f(jnp.sin(f(x, w)), w)))(xs[0])
    ),
    "grad of grad": lambda f: lambda xs, w: penalised(f)(xs[0], w),
}


@needs_onednn
@pytest.mark.parametrize("name", TRANSFORMS)
def test_under_the_transformations_of_jax(name):
    """With gradients through them."""
    _, _, w = arrays(PLAIN, 4, 4)
    xs = jnp.stack([arrays(PLAIN, 4, 4, seed=seed)[0] for seed in range(3)])

    def both(function):
        transformed = TRANSFORMS[name](lambda x, w: function(PLAIN, x, w))

        def loss(xs, w):
            return sum(jnp.mean(jnp.sin(leaf)) for leaf in jax.tree.leaves(transformed(xs, w)))

        return lambda xs, w: (transformed(xs, w), jax.grad(loss, (0, 1))(xs, w))

    assert calls(both(convolve), xs, w) > 1
    assert_close(jax.jit(both(convolve))(xs, w), in_float64(both(native), xs, w))


@needs_onednn
def test_one_by_one_as_well():
    """Outside jit, where each operation is a program."""
    x, y, w = arrays(PLAIN, 8, 8)
    theirs = in_float64(lambda *arrays: native_passes(PLAIN, *arrays), x, y, w)
    assert_close(passes(PLAIN, x, y, w), theirs)
    direct = onednn.convolution("convolve", convolutions._native_convolve, PLAIN, x, w)
    assert_close(direct, theirs[0])


@contextlib.contextmanager
def shares(number):
    """Has large convolutions be computed in so many shares, on whatever threads there are."""
    library = onednn.load()
    onednn._set_threads(library, number)
    try:
        yield
    finally:
        onednn._set_threads(library, library.threads)


LARGE = Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)))
LARGE_GROUPS = Geometry((16, 16), (4, 4), (2, 2), ((1, 1), (1, 1)), 2)


@needs_onednn
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("geometry", [LARGE, LARGE_GROUPS], ids=["plain", "groups"])
@pytest.mark.parametrize("number", [2, 3, 5, 7])
def test_shares_of_a_batch_are_the_whole(number, geometry, dtype):
    """Equal and unequal ones."""
    if dtype == jnp.bfloat16 and not onednn._has_bfloat16():
        pytest.skip("the processor has no bfloat16")
    given = [array.astype(dtype) for array in arrays(geometry, 32, 48, batch=7)]
    numbers = onednn._numbers("kernel_gradient", geometry, given[0], given[1])
    with shares(1):
        alone = onednn._room(numbers)
    with shares(number):
        size = given[2].size * 4
        assert (
            onednn._room(numbers) >= alone + (number - 1) * size
        )  # each has a gradient of its own
        ours = jax.jit(lambda *given: passes(geometry, *given))(*given)
    theirs = in_float64(lambda *arrays: native_passes(geometry, *arrays), *given)
    assert_close(ours, theirs, 2**-8 if dtype == jnp.bfloat16 else ROUNDINGS)


@needs_onednn
@pytest.mark.parametrize("number", [1, 4])
def test_eight_threads_have_the_bits_of_one(number):
    """Of one program and of two, at once and one after the other; in shares too, whoever computes them."""
    geometries = LARGE, LARGE_GROUPS
    tasks = []
    for seed in range(24):
        geometry = geometries[seed % 2]
        tasks.append((geometry, arrays(geometry, 16, 32, batch=8, seed=seed)))
    program = jax.jit(passes, static_argnums=0)
    with shares(number):
        expected = [program(geometry, *given) for geometry, given in tasks]
    barrier = threading.Barrier(8)

    def work(first):
        barrier.wait()
        return [
            program(geometry, *given) for geometry, given in tasks[first:] + tasks[:first]
        ], first

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for results, first in pool.map(work, range(8)):
            assert_same_bits(results, expected[first:] + expected[:first])


def start(code, **environment):
    """Starts Python on some code, which begins with what all need."""
    head = """
    import os, sys
    import jax, jax.numpy as jnp, numpy as np
    from gan.models import onednn
    from gan.models.convolutions import convolve
    from gan.models.geometry import Geometry
    geometry = Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal([8, 16, 16, 16]), jnp.float32)
    w = jnp.asarray(rng.standard_normal([3, 3, 16, 16]) / 10, jnp.float32)
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(code, **environment):
    with start(code, **environment) as process:
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    return output, errors


ON, OFF = {"GAN_ONEDNN": "1"}, {"GAN_ONEDNN": "0"}
CACHED = """
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.split("/")[-1]))
program = jax.jit(jax.value_and_grad(lambda x, w: jnp.mean(convolve(geometry, x, w) ** 2), (0, 1)))
value, (dx, dw) = program(x, w)
np.savez(os.environ["RESULT"], value=value, dx=dx, dw=dw)
print(onednn.load() is not None, events.count("cache_hits"))
"""


@needs_onednn
@pytest.mark.parametrize("order", [(ON, OFF, ON), (OFF, ON, OFF)], ids=["on first", "off first"])
def test_compiled_programs_are_kept_for_the_next_process(tmp_path, order):
    """With oneDNN and without, in one folder, neither meets the other's."""
    shared = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    results, hits = [], []
    for index, setting in enumerate(order):
        path = tmp_path / f"{index}.npz"
        output, _ = run(CACHED, RESULT=str(path), **shared, **setting)
        used, found = output.split()
        assert used == str(setting is ON)
        results.append(dict(np.load(path)))
        hits.append(int(found))
    # What makes no convolution may be found by all: the seconds process finds no more of the rest.
    assert hits[0] == 0
    assert hits[2] > hits[1]
    assert_same_bits(results[2], results[0])
    assert_close(results[1], results[0])


LEAK = """
import resource, gc
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
sizes = []
for index in range(1_000):
    size = 4 + index
    g = geometry._replace(image=(size, 4))
    jax.jit(lambda x, w: convolve(g, x, w) + index)(jnp.ones([1, size, 4, 8]), w[:, :, :8, :8])
    if index % 100 == 99:
        jax.clear_caches()
        sizes.append(resident())
print(onednn.load() is not None, *sizes)
"""


@needs_onednn
@pytest.mark.slow
def test_a_thousand_compilations_leave_no_memory_behind():
    """Of as many geometries; oneDNN's own cache of up to 1,024 kernels, 50 kB each, is turned off."""
    used, *sizes = run(LEAK, ONEDNN_PRIMITIVE_CACHE_CAPACITY="0", **ON)[0].split()
    assert used == "True"
    assert float(sizes[-1]) - float(sizes[2]) < 25, sizes  # MB; XLA's own convolutions leave 7


def mesh_of(count):
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


@needs_onednn
def test_programs_of_several_devices_have_xlas_convolutions():
    x, y, w = arrays(PLAIN, 8, 8, batch=4)

    def program(x, y, w):
        return passes(PLAIN, x, y, w)

    mesh = mesh_of(2)
    split = [
        jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))
        for array, axes in ((x, ["data"]), (y, ["data"]), (w, []))
    ]
    assert calls(program, x, y, w) == 3
    assert calls(program, *split) == 0
    assert_close(jax.jit(program)(*split), jax.jit(program)(x, y, w))
    alone = [jax.device_put(array, NamedSharding(mesh_of(1), PartitionSpec())) for array in split]
    assert calls(program, *alone) == 3


@needs_onednn
@pytest.mark.parametrize("check_vma", [True, False])
def test_within_shard_map_there_are_xlas_convolutions(check_vma):
    x, _, w = arrays(PLAIN, 8, 8, batch=4)
    ws = jnp.stack([w, -w])  # one for each device; x is on both
    axes = PartitionSpec("data")
    program = jax.jit(
        jax.shard_map(
            lambda x, w: convolve(PLAIN, x, w[0])[None], mesh=mesh_of(2), check_vma=check_vma,
            in_specs=(PartitionSpec(), axes), out_specs=axes,
        )
    )  # fmt: skip
    assert CALL not in program.lower(x, ws).as_text()
    assert_close(program(x, ws), jnp.stack([native(PLAIN, x, w) for w in ws]))


@needs_onednn
def test_an_axis_of_an_explicit_mesh_stays_in_the_type():
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Explicit,), devices=jax.devices()[:2])
    x, _, w = arrays(PLAIN, 8, 8, batch=4)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    w = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    result = jax.jit(lambda x, w: convolve(PLAIN, x, w))(placed, w)
    assert jax.typeof(result).sharding.spec[0] == "data"
    assert_close(result, native(PLAIN, x, np.asarray(w)))


@needs_onednn
@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda")])
def test_exported_programs_have_xlas_convolutions(platforms):
    x, y, w = arrays(PLAIN, 8, 8)
    program = jax.jit(lambda x, y, w: passes(PLAIN, x, y, w))
    exported = jax.export.export(program, platforms=platforms)(x, y, w)
    assert CALL not in exported.mlir_module()
    kept = jax.export.deserialize(exported.serialize())
    assert_close(kept.call(x, y, w), program(x, y, w))


@needs_onednn
def test_other_platforms_have_their_own():
    given = arrays(PLAIN, 8, 8)
    traced = jax.jit(lambda x, y, w: passes(PLAIN, x, y, w)).trace(*given)
    assert CALL not in traced.lower(lowering_platforms=("cuda",)).as_text()


def call(numbers, room=0, a=None, b=None, shape=None):
    """Calls oneDNN as the lowering does, with what it would not give."""
    x, _, w = arrays(PLAIN, 8, 8)
    outputs = [
        jax.ShapeDtypeStruct(shape or x.shape, jnp.float32),
        jax.ShapeDtypeStruct((room,), jnp.uint8),
    ]
    function = jax.ffi.ffi_call("gan_onednn_convolution", outputs)
    return jax.jit(lambda x, w: function(x, w, geometry=np.array(numbers, np.int64))[0])(
        x if a is None else a, w if b is None else b
    ).block_until_ready()


def numbers_of(geometry=PLAIN, channels=8, features=8):
    x, _, w = arrays(geometry, channels, features)
    return onednn._numbers("convolve", geometry, x, w)


DESCRIBED = r"convolve in float32 of x \[2, 6, 6, 8\], y \[2, 6, 6, 8\], kernel 3x3, stride 1x1, padding 1\+1 and 1\+1"
WRONG = {
    "a pass": (0, 3), "a type": (1, 2), "no rows": (3, 0), "half a channel": (17, 3), "no groups": (17, 0),
    "a padding": (13, -1),
}  # fmt: skip


@needs_onednn
@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_geometry_is_an_error_that_has_its_numbers(name):
    numbers, (place, value) = list(numbers_of()), WRONG[name]
    numbers[place] = value
    message = "oneDNN: no geometry: " + " ".join(map(str, numbers))
    with pytest.raises(RuntimeError, match=message):
        onednn._room(tuple(numbers))
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        call(numbers)


@needs_onednn
def test_errors_of_onednn_name_the_geometry():
    numbers = list(numbers_of())
    numbers[7] = 5  # rows of y, which has 6
    message = r"dnnl_convolution_forward.*: invalid arguments, convolve in float32 of x .*y \[2, 5, 6, 8\]"
    with pytest.raises(RuntimeError, match=message):
        onednn._room(tuple(numbers))
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        call(numbers)
    room = onednn._room(numbers_of())
    assert room > 0
    x, _, w = arrays(PLAIN, 8, 8)
    call(numbers_of(), room)
    with pytest.raises(jax.errors.JaxRuntimeError, match="too little room, " + DESCRIBED):
        call(numbers_of(), room - 1)
    for wrong in (
        {"a": x[:1]},
        {"b": w[:2]},
        {"shape": (1, 6, 6, 8)},
        {"a": x.astype(jnp.bfloat16)},
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="another geometry, " + DESCRIBED):
            call(numbers_of(), room, **wrong)


@needs_onednn
def test_a_program_is_computed_by_the_threads_that_it_was_compiled_for():
    geometry = LARGE
    x, y, w = arrays(geometry, 32, 32, batch=16)
    numbers = onednn._numbers("kernel_gradient", geometry, x, y)
    every, room = onednn.load().threads, onednn._room(numbers)
    with onednn.limit_threads(1):
        assert onednn.describe(1).endswith(" in 1 shares")
        assert every == 1 or onednn._room(numbers) < room  # each adds up a part of the batch
        program = jax.jit(lambda *given: passes(geometry, *given))
        alone = program(x, y, w)
    assert onednn.describe(1).endswith(f" in {every} shares")
    assert onednn._room(numbers) == room
    assert_same_bits(program(x, y, w), alone)
    for found, other in zip(alone, passes(geometry, x, y, w), strict=True):
        assert_close(found, other)


@needs_onednn
def test_threads_that_others_limit_do_not_change_a_call():
    """As threadpoolctl does, for one thread of the process: a kernel's room and bits depend on their number."""
    openmp = ctypes.CDLL("libgomp.so.1")
    x, y, w = arrays(Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1))), 32, 32, batch=16)
    geometry = Geometry((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)))
    expected = jax.jit(lambda *given: passes(geometry, *given))(x, y, w)
    before = openmp.omp_get_max_threads()
    try:
        for count in (1, before + 3):
            openmp.omp_set_num_threads(count)
            onednn._room.cache_clear()
            assert_same_bits(jax.jit(lambda *given: passes(geometry, *given))(x, y, w), expected)
            assert openmp.omp_get_max_threads() == count
    finally:
        openmp.omp_set_num_threads(before)


@needs_onednn
def test_what_it_has_not_is_left_to_xla(monkeypatch):
    given = arrays(PLAIN, 8, 8)

    def program(*given):
        return passes(PLAIN, *given)

    def count(*given):
        return calls(lambda *given: program(*given), *given)

    assert count(*given) == 3
    assert count(*(array.astype(jnp.float16) for array in given)) == 0
    with jax.enable_x64(True):
        assert count(*(array.astype(jnp.float64) for array in given)) == 0
    x, _, w = given
    assert calls(lambda x, w: convolve(PLAIN, x, w), x[:0], w) == 0
    cropped = PLAIN._replace(padding=((-1, 0), (0, 0)))
    assert calls(lambda x, w: convolve(cropped, x, w), x, w) == 0
    monkeypatch.setattr(onednn, "_has_bfloat16", lambda: False)
    assert count(*(array.astype(jnp.bfloat16) for array in given)) == 0
    monkeypatch.setattr(onednn, "_room", lambda numbers: None)
    assert count(*given) == 0


ENDS = """
from jax import lax
program = jax.jit(lambda x, w: lax.fori_loop(0, 50, lambda _, y: jnp.tanh(convolve(geometry, y, w)), x))
program(x, w).block_until_ready()
print("ready", onednn.load() is not None, flush=True)
results = [program(x, w) for _ in range(20)]
if os.environ["END"] == "exit":
    sys.exit(3)
while True:
    program(x, w).block_until_ready()
"""
CRASH = re.compile("dumped|Fatal|Segmentation|terminate called|Aborted")


@needs_onednn
def test_a_process_ends_as_any_other():
    """At its end, by Ctrl-C and by a kill, with calls under way."""
    ends = {"exit": 3, "SIGINT": -signal.SIGINT, "SIGKILL": -signal.SIGKILL}
    processes = {end: start(ENDS, END=end, **ON) for end in ends}
    try:
        for end, process in processes.items():
            assert process.stdout.readline() == "ready True\n"
            if end != "exit":
                time.sleep(0.3)
                process.send_signal(signal.Signals[end])
            _, errors = process.communicate(timeout=120)
            assert process.returncode == ends[end], errors
            assert not CRASH.search(errors)
            assert ("KeyboardInterrupt" in errors) == (end == "SIGINT")
    finally:
        for process in processes.values():
            process.kill()
            with process:  # closes its pipes
                pass


@dataclasses.dataclass
class File:
    """A file of an installed package."""

    path: str = "/none/lib/libdnnl.so.3"

    @property
    def name(self):
        return pathlib.Path(self.path).name

    def locate(self):
        return self.path


def compiler(folder, script):
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def loading(monkeypatch, tmp_path):
    """Returns a function that loads anew, where a package is installed, and returns what was said."""
    lines = []
    monkeypatch.setattr(onednn.logging, "warning", lambda text, *args: lines.append(text % args))
    monkeypatch.setattr(onednn.importlib.metadata, "files", lambda name: [File()])
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GAN_ONEDNN", raising=False)
    monkeypatch.delenv("CXX", raising=False)

    def load():
        assert onednn._load_once.__wrapped__() is None
        return lines

    return load


def said(why):
    return [f"oneDNN is installed and not used: {why}"]


def test_without_a_compiler_it_is_said(loading, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert loading() == said(
        "there is no C++ compiler (c++): apt-get install g++, or name one in CXX"
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'in file x'; echo 'x:1: error: no such thing' >&2; exit 1", "x:1: error: no such thing"),
        ("exit 1", "it failed"),
    ],
)  # fmt: skip
def test_of_a_compiler_that_fails_the_error_is_said(loading, monkeypatch, tmp_path, script, why):
    path = compiler(tmp_path, script)
    monkeypatch.setenv("CXX", path)
    assert loading() == said(f"{path}: {why}")
    assert not list((tmp_path / "cache" / "onednn").iterdir())


def test_of_a_compiler_that_is_not_there_the_name_is_said(loading, monkeypatch):
    monkeypatch.setenv("CXX", "/none/c++ -O1")
    assert loading() == said("[Errno 2] No such file or directory: '/none/c++'")
    monkeypatch.setenv("CXX", "'c++")
    assert loading()[1:] == said("No closing quotation")


def test_of_a_cache_that_cannot_be_written_the_reason_is_said(loading, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("CXX", "c++")
    (line,) = loading()
    assert re.fullmatch(said(r"\[Errno \d+\] Not a directory: '.*'")[0], line)


def test_other_systems_and_other_packages_are_named(loading, monkeypatch):
    monkeypatch.setattr(onednn.platform, "machine", lambda: "aarch64")
    assert loading() == said("it is for Linux on x86-64 alone")
    monkeypatch.setattr(onednn.importlib.metadata, "files", lambda name: [File("README")])
    assert loading()[1:] == said("onednn-cpu-gomp lacks libdnnl.so.3")


@pytest.mark.parametrize("off", ["0", "off", "FALSE"])
def test_turned_off_or_not_installed_it_is_not_there_without_a_word(loading, monkeypatch, off):
    with monkeypatch.context() as patch:
        patch.setenv("GAN_ONEDNN", off)
        assert loading() == []

    def missing(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(onednn.importlib.metadata, "files", missing)
    assert loading() == []


def test_the_compilers_arguments_are_its_own_and_it_is_asked_once(loading, monkeypatch, tmp_path):
    log = tmp_path / "log"
    path = compiler(tmp_path, f'echo "$@" >> {log}; for last; do :; done; echo made > "$last"')
    monkeypatch.setenv("CXX", f"{path} -march=native '-DTWO WORDS'")
    made = [onednn._compiled(pathlib.Path("/none/libdnnl.so.3")) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].parent == tmp_path / "cache" / "onednn"
    assert made[0].read_text() == "made\n"
    (line,) = log.read_text().splitlines()
    assert line.startswith("-march=native -DTWO WORDS -std=c++17 ")
    monkeypatch.setenv("CXX", path)
    assert onednn._compiled(pathlib.Path("/none/libdnnl.so.3")) != made[0]


@needs_onednn
def test_a_process_that_cannot_compile_says_one_line_and_goes_on(tmp_path):
    code = "print(float(jnp.sum(convolve(geometry, x, w) ** 2)))"
    cannot = {"CXX": "/none/c++", "GAN_CACHE_DIR": str(tmp_path)}
    (without, errors), (used, _) = run(code, **ON, **cannot), run(code, **ON)
    (line,) = [line for line in errors.splitlines() if "oneDNN" in line]
    assert line.endswith(
        "oneDNN is installed and not used: [Errno 2] No such file or directory: '/none/c++'"
    )
    assert_close(float(without), float(used))


def test_threads_that_ask_at_once_load_it_once(monkeypatch):
    asked = []

    def load(path):
        asked.append(path)
        time.sleep(0.05)
        return onednn.Library(None, "3.2.0", 2)

    monkeypatch.setattr(onednn.importlib.metadata, "files", lambda name: [File()])
    monkeypatch.setattr(onednn.sys, "platform", "linux")
    monkeypatch.setattr(onednn.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(onednn, "_load", load)
    monkeypatch.delenv("GAN_ONEDNN", raising=False)
    anew = functools.cache(onednn._load_once.__wrapped__)
    monkeypatch.setattr(onednn, "_load_once", anew)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: onednn.load(), range(8)))
    assert len(asked) == 1
    assert {id(library) for library in found} == {id(found[0])}
    assert onednn.describe(1) == "onednn 3.2.0 in 2 shares"
    assert onednn.describe(2) == "xla on cpu"


SLOW = "XLA makes products in float32 and rounds them, so that a step is no faster than in float32"


@pytest.mark.parametrize(
    ("processor", "there", "devices", "line"),
    [
        (False, True, 1, f"this CPU has neither avx512_bf16 nor AMX: {SLOW}"),
        (True, True, 2, f"on several devices of a CPU {SLOW}"),
        (
            True, False, 1,
            f"without oneDNN {SLOW}; pip install 'flax-gan[onednn]' has it computed by this CPU's own",
        ),
        (True, True, 1, None),
    ],
)  # fmt: skip
def test_why_bfloat16_is_slow(monkeypatch, processor, there, devices, line):
    monkeypatch.setattr(onednn, "_has_bfloat16", lambda: processor)
    monkeypatch.setattr(onednn, "load", lambda: object() if there else None)
    assert onednn.slow_bfloat16(devices) == line


DIGITS = {
    "dataset": "digits", "generator": "dcgan(width=8)", "discriminator": "dcgan(width=8)", "batch_size": 8,
    "latent_dim": 4, "num_steps": 4, "log_every_steps": 2, "checkpoint_every_steps": 2, "sample_every_steps": 0,
    "mesh": "data(1)",
}  # fmt: skip
POINTS = DIGITS | {"dataset": "gaussians", "generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)"}


def newest(folder):
    return Checkpoints(folder).newest()


@needs_onednn
def test_two_steps_and_two_more_are_four_bit_by_bit(tmp_path):
    gan.train(DIGITS, tmp_path / "whole")
    gan.train(DIGITS | {"num_steps": 2}, tmp_path / "halves")
    gan.train(DIGITS, tmp_path / "halves")
    whole, halves = newest(tmp_path / "whole"), newest(tmp_path / "halves")
    assert re.fullmatch(r"onednn [\d.]+ in \d+ shares", whole.convolutions)
    assert (whole.step, whole.state) == (halves.step, halves.state)


def changes(folder):
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [line["message"] for line in lines if line["event"] == "change"]


def test_a_run_that_goes_on_with_others_says_so(tmp_path, monkeypatch):
    convolutions = "onednn 3.2.0 in 2 shares"
    monkeypatch.setattr(onednn, "describe", lambda devices: convolutions)
    folder = tmp_path / "run"
    for steps in (2, 4):
        gan.train(POINTS | {"num_steps": steps}, folder)
    assert newest(folder).convolutions == convolutions
    of_config = changes(folder)
    convolutions = "xla on cpu"
    gan.train(POINTS | {"num_steps": 6}, folder)
    *others, line = changes(folder)[len(of_config) :]
    assert line == (
        "convolutions were computed by onednn 3.2.0 in 2 shares, and are by xla on cpu: not bit by bit alike"
    )
    assert len(others) == len(of_config)
    assert newest(folder).convolutions == "xla on cpu"


def test_older_checkpoints_do_not_say_by_what_they_were_computed(tmp_path):
    gan.train(POINTS | {"num_steps": 2}, tmp_path)
    path = tmp_path / "checkpoints" / "2" / "manifest.json"
    content = json.loads(path.read_text())
    del content["convolutions"], content["sha256"]
    path.write_text(json.dumps(content | {"sha256": manifest._digest(content)}))
    assert newest(tmp_path).convolutions == ""
    gan.train(POINTS, tmp_path)
    assert newest(tmp_path).step == 4
    assert not any("convolutions" in line for line in changes(tmp_path))
