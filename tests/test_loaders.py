"""Wherever the data are, the same batches come."""

import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data import batch_at
from gan.data.dataset import Examples
from gan.data.loaders import DeviceResident, Streaming
from gan.data.permutation import indices_at
from gan.sharding import data_mesh


def make(size, shape=(3, 3, 1)):
    """Examples that can be told by their values and by their labels."""
    rng = np.random.default_rng(size)
    return Examples(
        rng.integers(0, 256, [size, *shape]).astype(np.uint8), np.arange(size, dtype=np.int32)
    )


def make_loader(kind, examples, batch_size, num_batches, mesh):
    if kind == "streamed":
        return Streaming(examples, batch_size, num_batches, mesh)
    return DeviceResident(examples, mesh, split=kind == "sharded")


def drawn(loader, mesh, batch_size, seed, index, num_batches=1):
    data, num_steps = loader.at(seed, index // num_batches)
    assert num_steps >= 1
    with jax.set_mesh(mesh):
        batch = jax.jit(batch_at, static_argnums=1)(data, batch_size, np.uint32(seed), index)
    return np.asarray(batch.labels), np.asarray(batch.examples)


KINDS = ["replicated", "sharded", "streamed"]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(
    size=st.integers(1, 100),
    times=st.integers(1, 3),
    num_batches=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(0, 2_000), min_size=1, max_size=5),
)
def test_a_batch_is_what_its_indices_say(kind, devices, size, times, num_batches, seed, steps):
    """After any jump, as after a resume; on any number of devices; whatever has to be padded."""
    examples, mesh, batch_size = make(size), data_mesh(devices), 8 * times
    loader = make_loader(kind, examples, batch_size, num_batches, mesh)
    for step in steps:
        for index in range(step * num_batches, (step + 1) * num_batches):
            indices = np.asarray(indices_at(size, batch_size, seed, index))
            labels, images = drawn(loader, mesh, batch_size, seed, index, num_batches)
            np.testing.assert_array_equal(labels, indices)
            expected = examples.examples[indices] / 127.5 - 1
            np.testing.assert_allclose(images, expected, atol=1e-6)


def test_a_stream_goes_on_from_block_to_block(monkeypatch):
    monkeypatch.setattr("gan.data.loaders._BLOCK_BYTES", 8 * 9 * 5)  # five steps
    mesh = data_mesh(1)
    loader = Streaming(make(50), 8, 1, mesh)
    left = [loader.at(3, step).num_steps for step in range(12)]
    assert left == [5, 4, 3, 2, 1, 5, 4, 3, 2, 1, 5, 4]
    row = np.concatenate([drawn(loader, mesh, 8, 3, index)[0] for index in range(12, 50)])
    expected = np.concatenate([indices_at(50, 8, 3, index) for index in range(12, 50)])
    np.testing.assert_array_equal(row, expected)


def test_after_a_rollback_a_stream_has_the_other_seed():
    mesh = data_mesh(1)
    loader = Streaming(make(50), 8, 1, mesh)
    before = drawn(loader, mesh, 8, 0, 7)[0]
    after = drawn(loader, mesh, 8, 1, 7)[0]
    assert set(before) != set(after)
    np.testing.assert_array_equal(after, indices_at(50, 8, 1, 7))


def test_a_stream_reads_no_more_than_it_needs(tmp_path):
    """Most rows of a file stay unread."""

    class Counting(np.ndarray):
        read = 0

        def __getitem__(self, key):
            if isinstance(key, np.ndarray):
                Counting.read += key.size
            return np.asarray(super().__getitem__(key))

    examples = make(50_000)
    counting = Examples(examples.examples.view(Counting), examples.labels)
    loader = Streaming(counting, 8, 1, data_mesh(1))
    loader.at(0, 0)
    assert 0 < Counting.read < 20_000


def test_a_failure_while_reading_reaches_the_run():
    class Failing(np.ndarray):
        def __getitem__(self, key):
            if isinstance(key, np.ndarray):
                raise OSError("Stale file handle")
            return super().__getitem__(key)

    examples = make(50)
    loader = Streaming(
        Examples(examples.examples.view(Failing), examples.labels), 8, 1, data_mesh(1)
    )
    with pytest.raises(OSError, match="Stale file handle"):
        loader.at(0, 0)


def test_a_split_dataset_never_goes_whole_to_a_device():
    """The devices exchange a batch and its indices; nothing as long as the dataset."""
    size, mesh = 4_096, data_mesh(8)
    data = DeviceResident(make(size), mesh, split=True).at(0, 0).data
    assert {part.data.shape[0] for part in data.examples.addressable_shards} == {size // 8}
    with jax.set_mesh(mesh):
        compiled = jax.jit(batch_at, static_argnums=1).lower(data, 16, 0, 0).compile()
    text = compiled.as_text()
    assert "u8[512,3,3,1]" in text
    assert f"u8[{size}," not in text


PROCESS = """
import hashlib, sys
import jax, numpy as np
from jax.experimental import multihost_utils
from gan.sharding import data_mesh, join_processes
sys.path.insert(0, "tests")
if sys.argv[1] != "alone":
    join_processes(sys.argv[1])
from test_loaders import KINDS, make, make_loader
from gan.data import batch_at
mesh = data_mesh()
draw = jax.jit(batch_at, static_argnums=1, out_shardings=jax.NamedSharding(mesh, jax.P()))
for kind in KINDS:
    loader, total = make_loader(kind, make(1_001), 16, 2, mesh), hashlib.sha256()
    for step in (*range(5), 400, 2):
        data = loader.at(7, step).data
        for index in (2 * step, 2 * step + 1):
            with jax.set_mesh(mesh):
                batch = draw(data, 16, 7, index)
            total.update(np.asarray(batch.labels).tobytes())
            total.update(np.rint((np.asarray(batch.examples) + 1) * 127.5).astype("u1").tobytes())
    print(kind, total.hexdigest())
"""


def test_two_processes_draw_together_what_one_draws(root, free_port):
    def start(where, devices):
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS, where], cwd=root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)},
        )  # fmt: skip

    def lines(process):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return [line for line in out.splitlines() if line.split()[0] in KINDS]

    alone = lines(start("alone", 2))
    port = free_port()
    both = [start(f"localhost:{port},{i}/2", 1) for i in range(2)]
    first, second = map(lines, both)
    assert first == second == alone
    expected = hashlib.sha256()
    examples = make(1_001)
    for step in (*range(5), 400, 2):
        for index in (2 * step, 2 * step + 1):
            indices = np.asarray(indices_at(1_001, 16, 7, index))
            expected.update(examples.labels[indices].tobytes())
            expected.update(examples.examples[indices].tobytes())
    assert alone == [f"{kind} {expected.hexdigest()}" for kind in KINDS]
