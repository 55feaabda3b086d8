import dataclasses
import errno
import json
import logging
import pathlib
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.checkpoints import Checkpoints
from gan.checkpoints.manifest import DamageError, newest_protocol
from gan.checkpoints.retention import Best, Every, Latest
from gan.checkpoints.trees import digest
from gan.config import TrainConfig
from gan.errors import RunError
from gan.trainers.experiment import build

CONFIG = TrainConfig(generator="mlp(4, 1)", discriminator="mlp(4, 1)", batch_size=8)
DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
TARGET = {"x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=DEVICE)}


def state(step):
    return {"x": jnp.arange(4.0) + step}


def unwrap_keys(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def restored(workdir):
    """The newest state that can be trusted."""
    with Checkpoints(workdir) as checkpoints:
        manifest = checkpoints.newest()
        return manifest and checkpoints.restore(manifest, TARGET)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run's folder with steps 10, 20 and 30; to be copied."""
    workdir = tmp_path_factory.mktemp("three")
    with Checkpoints(workdir) as checkpoints:
        for step in (10, 20, 30):
            checkpoints.save(step, state(step), {}, {})
    return workdir


@pytest.fixture
def workdir(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def test_a_state_comes_back_bit_by_bit_with_what_is_known_of_it(tmp_path):
    experiment = build(CONFIG)
    saved = experiment.init_on_mesh()
    config = dataclasses.asdict(CONFIG)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, saved, config, {"loss": 0.5, "bad": float("nan")}, periodic=False)
    with Checkpoints(tmp_path) as checkpoints:
        manifest = checkpoints.newest()
        assert (manifest.step, manifest.metrics, manifest.periodic) == (3, {"loss": 0.5}, False)
        assert manifest.config == json.loads(json.dumps(config))
        again = checkpoints.restore(manifest, experiment.state_target())
    assert jax.tree.structure(again) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, again, saved)
    assert digest(again) == digest(saved) == manifest.state


def test_arrays_without_elements_come_back(tmp_path):
    """GaLore's projector has some."""
    saved = {"empty": jnp.zeros([3, 0], jnp.bfloat16), "full": jnp.ones([2], jnp.bfloat16)}
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=DEVICE), saved)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, saved, {}, {})
        checkpoints.wait()
        again = checkpoints.restore(checkpoints.newest(), target)
    assert digest(again) == digest(saved)


def test_a_save_survives_an_exception(tmp_path):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state(1), {}, {})
        raise KeyboardInterrupt
    np.testing.assert_array_equal(restored(tmp_path)["x"], state(1)["x"])


def test_what_is_saved_does_not_change_when_the_state_is_donated(tmp_path):
    step = jax.jit(lambda x: {"x": x["x"] + 1}, donate_argnums=0)
    now = {"x": jnp.zeros(1_000_000)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, now, {}, {})
        for _ in range(20):
            now = step(now)
        target = {"x": jax.ShapeDtypeStruct((1_000_000,), jnp.float32, sharding=DEVICE)}
        checkpoints.wait()
        assert not checkpoints.restore(checkpoints.newest(), target)["x"].any()


def test_rules_of_retention_and_the_newest_periodic(tmp_path):
    rules = [Latest(1), Every(4), Best("fid")]
    with Checkpoints(tmp_path, rules) as checkpoints:
        for step, fid in enumerate([9, 5, 7, 8, 6, 9, 9], start=1):
            checkpoints.save(step, state(step), {}, {"fid": fid}, periodic=step <= 6)
    assert Checkpoints(tmp_path).all_steps() == [2, 4, 6, 7]


def test_scores_of_two_protocols_are_not_put_in_one_order(tmp_path):
    with Checkpoints(tmp_path, [Best("eval/fid"), Best("loss")]) as checkpoints:
        for step, fid, protocol in (
            (1, 2.0, "old"),
            (2, 9.0, "new"),
            (3, 8.0, "new"),
            (4, 9.0, "new"),
        ):
            scores = {"eval/fid": fid, "loss": float(step)}
            checkpoints.save(step, state(step), {}, scores, periodic=False, protocol=protocol)
    # 3 is the best by the newest protocol, 4 the newest; 1 stays for its loss alone
    assert Checkpoints(tmp_path).all_steps() == [1, 3, 4]
    assert newest_protocol([Checkpoints(tmp_path).verify(step) for step in (1, 3)]) == "new"
    assert newest_protocol([]) == ""


@pytest.mark.parametrize(
    "target",
    [
        {"x": jax.ShapeDtypeStruct((5,), jnp.float32)},
        {"x": jax.ShapeDtypeStruct((4,), jnp.int32)},
        {"y": jax.ShapeDtypeStruct((4,), jnp.float32)},
    ],
)
def test_another_shape_type_or_name_is_one_clear_line(workdir, target):
    checkpoints = Checkpoints(workdir)
    with pytest.raises(RunError, match=r"x is \(\(4,\), 'float32'\) there and") as error:
        checkpoints.restore(checkpoints.newest(), target)
    assert "\n" not in str(error.value)


def test_a_part_without_arrays_that_has_another_name_is_no_damage(workdir):
    """As a renamed field of the state would have: Orbax itself only says that it cannot."""
    checkpoints = Checkpoints(workdir)
    manifest = checkpoints.newest()
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state(30))
    with pytest.raises(RunError, match="more is None there and empty in this run"):
        checkpoints.restore(manifest, {**target, "more": ()})


@pytest.mark.parametrize(
    "optimizer", ["noisy_sgd(0.1, key=1)", "optimistic_adam(0.1)", "muon(0.1)"]
)
@pytest.mark.parametrize("dynamics", ["past_extragradient", "lookahead(extragradient)"])
def test_optimizers_and_dynamics_come_back_with_all_they_remember(tmp_path, optimizer, dynamics):
    config = dataclasses.replace(CONFIG, generator_optimizer=optimizer, dynamics=dynamics)
    experiment = build(config)
    saved = experiment.init_on_mesh()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, saved, {}, {})
        checkpoints.wait()
        again = checkpoints.restore(checkpoints.newest(), experiment.state_target())
    assert jax.tree.structure(again) == jax.tree.structure(saved)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(unwrap_keys(a), unwrap_keys(b)), again, saved
    )


# Damage: the newest checkpoint, 30, is damaged in some way; 20 is the newest valid one.


def files(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def is_passed_over(workdir, caplog, folder="30"):
    """Whether step 20 is restored, with a warning, and nothing that was there is gone."""
    before = {path: path.read_bytes() for path in files(workdir)}
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        np.testing.assert_array_equal(restored(workdir)["x"], state(20)["x"])
    assert f"checkpoints/{folder} is passed over" in caplog.text
    assert before == {path: path.read_bytes() for path in files(workdir)}


@pytest.fixture
def caplog(caplog):
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    logger.propagate = False
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.propagate = True


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "longer"])
def test_any_damage_of_any_file_falls_back(workdir, damage, caplog):
    newest = workdir / "checkpoints" / "30"
    assert len(files(newest)) > 5
    for path in files(newest):
        whole = path.read_bytes()
        match damage:
            case "missing":
                path.unlink()
            case "empty":
                path.write_bytes(b"")
            case "truncated":
                path.write_bytes(whole[: len(whole) // 2])
            case "flipped":
                middle = len(whole) // 2
                flipped = bytes([whole[middle] ^ 1])
                path.write_bytes(whole[:middle] + flipped + whole[middle + 1 :])
            case "longer":
                path.write_bytes(whole + b"\0")
        is_passed_over(workdir, caplog)
        path.write_bytes(whole)
    np.testing.assert_array_equal(restored(workdir)["x"], state(30)["x"])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_bit_of_a_manifest_may_flip(three, data):
    place = three / "checkpoints" / "30" / "manifest.json"
    whole = place.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    place.write_bytes(changed)
    try:
        manifest = Checkpoints(three).newest()
    finally:
        place.write_bytes(whole)
    # White space of the JSON is no part of what it says.
    assert manifest.step == 20 or not (whole[bit // 8 : bit // 8 + 1]).strip()


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"sha256": ""}', '{"step": 30}'])
def test_a_manifest_that_says_nothing(workdir, content, caplog):
    (workdir / "checkpoints" / "30" / "manifest.json").write_text(content)
    is_passed_over(workdir, caplog)


def test_folders_and_files_of_others(workdir, caplog):
    folder = workdir / "checkpoints"
    shutil.rmtree(folder / "30")
    (folder / "35").mkdir()
    is_passed_over(workdir, caplog, "35")
    (folder / "40").write_text("a file")
    is_passed_over(workdir, caplog, "40")
    (folder / "50").mkdir()
    (folder / "50" / "manifest.json").mkdir()
    is_passed_over(workdir, caplog, "50")
    shutil.copytree(folder / "20", folder / "60")  # a copy is not step 60
    is_passed_over(workdir, caplog, "60")
    (folder / "notes.txt").write_text("mine")
    (folder / "007").mkdir()
    (folder / "20" / ".DS_Store").write_text("takes nothing from what is there")
    is_passed_over(workdir, caplog, "60")


def test_nothing_that_holds_is_none(tmp_path):
    assert restored(tmp_path) is None
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    assert restored(tmp_path) is None


def test_saving_sets_aside_what_is_in_the_way_and_replaces_its_own(workdir):
    folder = workdir / "checkpoints"
    (folder / "40").mkdir()
    (folder / "40" / "mine").write_text("keep me")
    (folder / "30" / "manifest.json").unlink()
    with Checkpoints(workdir) as checkpoints:
        for step in (20, 30, 40):
            checkpoints.save(step, state(step + 1), {}, {})
    assert (folder / "40.archived_1" / "mine").read_text() == "keep me"
    names = {path.name for path in folder.iterdir()}
    assert names == {"20", "30", "40", "30.archived_1", "40.archived_1"}
    np.testing.assert_array_equal(restored(workdir)["x"], state(41)["x"])


def test_clean_up_removes_what_was_being_saved_or_deleted_and_nothing_else(workdir):
    folder = workdir / "checkpoints"
    for name in ("40.saving", "10.deleting_2", "x.saving", "40.saving.mine", "50"):
        (folder / name).mkdir()
    (folder / "60.saving").write_text("a file")
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.all_steps() == [10, 20, 30, 50]
        checkpoints.clean_up()
    left = {"10", "20", "30", "x.saving", "40.saving.mine", "50", "60.saving"}
    assert {path.name for path in folder.iterdir()} == left


def test_clean_up_names_a_save_that_lacked_nothing_else(workdir):
    """A kill between the manifest and the name, or between two names for one step."""
    folder = workdir / "checkpoints"
    (folder / "30").rename(folder / "30.saving")
    shutil.copytree(folder / "20", folder / "20.saving")
    shutil.copytree(folder / "10", folder / "40.saving")  # is not step 40
    Checkpoints(workdir).clean_up()
    assert {path.name for path in folder.iterdir()} == {"10", "20", "30"}
    np.testing.assert_array_equal(restored(workdir)["x"], state(30)["x"])


def test_what_cannot_be_deleted_is_no_reason_to_fail(workdir, monkeypatch):
    def busy(path):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(shutil, "rmtree", busy)
    with Checkpoints(workdir, [Latest(1)]) as checkpoints:
        checkpoints.save(40, state(40), {}, {})
    assert Checkpoints(workdir).all_steps() == [40]
    Checkpoints(workdir).clean_up()


def test_steps_after_the_one_that_is_saved_count_for_nothing(workdir):
    with Checkpoints(workdir, [Latest(1)]) as checkpoints:
        checkpoints.save(15, state(15), {}, {})
    assert Checkpoints(workdir).all_steps() == [15, 20, 30]
    Checkpoints(workdir).delete_after(20)
    assert Checkpoints(workdir).all_steps() == [15, 20]


@pytest.mark.parametrize("wait", ["wait", "save", "close"])
def test_a_failed_save_is_one_clear_line_and_leaves_the_last_good_one(workdir, monkeypatch, wait):
    checkpoints = Checkpoints(workdir)

    def no_space(place: pathlib.Path, *args, **kwargs):
        place.mkdir()
        (place / "half").write_text("written")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints._orbax, "save", no_space)
    checkpoints.save(40, state(40), {}, {})
    words = r"40 cannot be saved: No space left on device; the newest valid one is 30$"
    with pytest.raises(RunError, match=words):
        if wait == "close":
            with checkpoints:
                pass
        elif wait == "save":
            checkpoints.save(50, state(50), {}, {})
        else:
            checkpoints._pending.exception()
            checkpoints.raise_if_failed()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["10", "20", "30"]


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    checkpoints, free = Checkpoints(tmp_path), threading.Event()
    save = checkpoints._orbax.save
    monkeypatch.setattr(checkpoints._orbax, "save", lambda *a, **k: free.wait(60) and save(*a, **k))
    with checkpoints:
        checkpoints.save(1, state(1), {}, {})
        checkpoints.raise_if_failed()
        assert checkpoints.all_steps() == []  # it does not count before it has its manifest
        free.set()
    assert checkpoints.all_steps() == [1]


def test_the_digest_is_the_states_wherever_it_lies():
    value = {"x": jnp.arange(8.0), "key": jax.random.key(3), "n": jnp.int32(1)}
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    spread = jax.device_put(value, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    assert digest(spread) == digest(value) == digest(jax.tree.map(unwrap_keys, value))
    for other in (
        value | {"x": value["x"].at[7].set(np.nextafter(np.float32(7), np.float32(8)))},
        value | {"x": value["x"].reshape(2, 4)},
        value | {"n": jnp.uint32(1)},
        value | {"key": jax.random.key(4)},
        {"y" if name == "x" else name: leaf for name, leaf in value.items()},
    ):
        assert digest(other) != digest(value)


def test_a_state_that_orbax_would_read_wrongly_is_not_taken(workdir):
    """As if a byte flipped on the way from the disk."""
    with Checkpoints(workdir) as checkpoints:
        manifest = dataclasses.replace(checkpoints.newest(), state="0" * 64)
        with pytest.raises(DamageError, match="is not the one that was saved"):
            checkpoints.restore(manifest, TARGET)


def test_verify_says_what_is_wrong(workdir):
    checkpoints = Checkpoints(workdir)
    next(path for path in files(workdir / "checkpoints" / "30") if path.parent.name == "d").unlink()
    with pytest.raises(DamageError, match="No such file"):
        checkpoints.verify(30)
    with pytest.raises(DamageError, match=r"manifest\.json: No such file"):
        checkpoints.verify(31)
