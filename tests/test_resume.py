"""How a run goes on: after a change of its config, from another run, past what is damaged."""

import dataclasses
import errno
import json
import shutil
import signal

import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.checkpoints.manifest import DamageError, read_manifest, verify, write_manifest
from gan.checkpoints.trees import digest
from gan.config import TrainConfig
from gan.errors import RunError, Stopped, UsageError
from gan.trainers import train as train_module
from gan.trainers.experiment import build
from gan.trainers.resume import Origin
from gan.trainers.train import train

CONFIG = TrainConfig(
    dataset="gaussians",
    generator="mlp(8, 1)",
    discriminator="mlp(8, 1)",
    generator_optimizer="optimistic_adam(1e-3)",
    discriminator_optimizer="optimistic_adam(1e-3)",
    batch_size=8,
    latent_dim=4,
    num_steps=30,
    log_every_steps=10,
    checkpoint_every_steps=10,
    sample_every_steps=0,
    mesh="data(1)",
)


def changed(**changes):
    return dataclasses.replace(CONFIG, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 30 steps, with checkpoints 10, 20 and 30; to be copied."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    train(CONFIG, workdir)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def newest(workdir):
    return Checkpoints(workdir).newest()


def messages(workdir, event):
    lines = map(json.loads, (workdir / "history.jsonl").read_text().splitlines())
    return [line["message"] for line in lines if line["event"] == event]


def test_a_damaged_newest_checkpoint_is_passed_over_and_the_end_is_the_same(whole, workdir):
    path = max((workdir / "checkpoints" / "30").rglob("*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    train(CONFIG, workdir)
    assert f"resuming {workdir} at step 20" in messages(workdir, "resume")
    assert newest(workdir).state == newest(whole).state
    assert (workdir / "checkpoints" / "30.archived_1").is_dir()


def test_where_no_checkpoint_is_valid_the_run_starts_anew_and_leaves_them(whole, workdir):
    for manifest in (workdir / "checkpoints").glob("*/manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(UsageError, match="loss was 'non_saturating' and is now 'hinge'"):
        train(changed(loss="hinge"), workdir)
    train(CONFIG, workdir)
    assert "no checkpoint" in messages(workdir, "lost")[0]
    assert newest(workdir).state == newest(whole).state
    aside = {path.name for path in (workdir / "checkpoints").glob("*.archived_1")}
    assert aside == {"10.archived_1", "20.archived_1", "30.archived_1"}


def test_what_may_change_is_taken_with_old_and_new(workdir):
    more = changed(num_steps=40, log_every_steps=5, keep_checkpoints=("latest(1)",))
    train(more, workdir)
    assert messages(workdir, "change") == [
        "keep_checkpoints was ('latest(3)',) and is now ('latest(1)',)",
        "log_every_steps was 10 and is now 5",
        "num_steps was 30 and is now 40",
    ]
    assert Checkpoints(workdir).all_steps() == [40]
    assert json.loads((workdir / "config.json").read_text())["num_steps"] == 40


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"dataset": "gaussians(modes=4)"}, {"generator": "mlp(9, 1)"}, {"loss": "hinge"},
     {"batch_size": 16}, {"averaging": ()}],
)  # fmt: skip
def test_what_may_not_change_is_refused_with_the_difference(workdir, change):
    before = (workdir / "config.json").read_text()
    ((key, value),) = change.items()
    with pytest.raises(UsageError) as error:
        train(changed(num_steps=40, **change), workdir)
    line = f"{key} was {getattr(CONFIG, key)!r} and is now {value!r}"
    assert f"holds another run: {line}" in str(error.value)
    assert "num_steps" not in str(error.value)
    assert (workdir / "config.json").read_text() == before


def test_the_data_may_move(whole, workdir, tmp_path):
    """Between a stop and the next start, from a device into files and back."""
    train(changed(num_steps=15, data_placement="streamed"), tmp_path / "moved")
    train(changed(num_steps=24, data_placement="sharded"), tmp_path / "moved")
    train(changed(data_placement="streamed"), tmp_path / "moved")
    assert newest(tmp_path / "moved").state == newest(whole).state


def test_fewer_steps_than_made_is_complete_and_changes_nothing(workdir):
    before = (workdir / "config.json").read_text(), (workdir / "history.jsonl").read_text()
    state = train(changed(num_steps=5), workdir)
    assert int(state.step) == 30
    assert (
        (workdir / "config.json").read_text(),
        (workdir / "history.jsonl").read_text(),
    ) == before


def test_a_run_that_has_no_checkpoint_yet_takes_any_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(CONFIG)))
    train(changed(loss="hinge", num_steps=10), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["loss"] == "hinge"


def test_where_every_state_is_damaged_the_new_checkpoints_are_kept(whole, workdir):
    """The old ones have higher steps, and manifests that are true."""
    for step in (10, 20, 30):
        states = (workdir / "checkpoints" / str(step)).rglob("*")
        path = max(states, key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (workdir / "checkpoints" / "30").rename(workdir / "checkpoints" / "50")
    train(changed(num_steps=5), workdir)
    assert newest(workdir).step == 5
    train(changed(keep_checkpoints=("latest(1)",)), workdir)
    assert newest(workdir).step == 30
    assert newest(workdir).state == newest(whole).state
    names = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert names == {"10.archived_1", "20.archived_1", "30", "50"}


def test_a_state_that_cannot_be_restored_is_passed_over(whole, workdir, monkeypatch):
    """As if it had been wrong before its files were hashed."""
    restore = Checkpoints.restore

    def wrong(self, manifest, target):
        if manifest.step == 30:
            raise DamageError("wrong")
        return restore(self, manifest, target)

    monkeypatch.setattr(Checkpoints, "restore", wrong)
    train(changed(num_steps=40), workdir)
    assert f"resuming {workdir} at step 20" in messages(workdir, "resume")


def test_what_cannot_be_read_just_now_is_no_damage(workdir, monkeypatch):
    """A share that is away for a minute must not start a run anew."""

    def away(folder):
        raise OSError(errno.ESTALE, "Stale file handle", str(folder))

    monkeypatch.setattr("gan.checkpoints.checkpoints.verify", away)
    with pytest.raises(RunError, match="30 cannot be read: Stale file handle"):
        train(changed(num_steps=40), workdir)


def test_a_changed_dynamics_is_an_explicit_choice(workdir):
    other = changed(num_steps=40, dynamics="lookahead(steps=2)")
    with pytest.raises(UsageError, match="dynamics was 'simultaneous' and is now 'lookahead"):
        train(other, workdir)
    state = train(other, workdir, on_optimizer_change="reset")
    assert int(state.dynamics_state.step) == 10
    assert "dynamics: its state starts anew" in messages(workdir, "change")


def test_after_a_change_the_run_can_go_back_to_where_it_was_made(whole, workdir):
    """And needs no flag any more, were it stopped at once."""
    other = changed(num_steps=31, generator_optimizer="adam(1e-4)")
    train(other, workdir, on_optimizer_change="reset")
    manifest = Checkpoints(workdir).verify(30)
    assert manifest.config["generator_optimizer"] == "adam(1e-4)"
    assert manifest.periodic
    # And the change can be taken back by hand: the checkpoint before it is whole.
    aside = verify(workdir / "checkpoints" / "30.archived_1")
    assert aside.state == newest(whole).state


def test_a_change_stopped_before_its_first_step_never_was(workdir, monkeypatch):
    """Ctrl-C while it compiles: the line of before the change goes on."""
    other = changed(num_steps=40, generator_optimizer="adam(1e-4)")
    with monkeypatch.context() as patch:

        def stopped(*_):
            raise Stopped(signal.SIGINT, "stopped while compiling")

        patch.setattr("gan.trainers.train.compile_program", stopped)
        with pytest.raises(Stopped):
            train(other, workdir, on_optimizer_change="reset")
    assert int(train(changed(num_steps=40), workdir).step) == 40


def test_a_rollback_past_the_change_takes_it_again(workdir, monkeypatch):
    """The checkpoints after the change are damaged when the run has to go back."""
    other = changed(num_steps=40, generator_optimizer="adam(1e-4)", on_nonfinite="rollback")
    load, steps = train_module.roll_back, []

    def damage_then_roll_back(experiment, folder, state, on_optimizer_change):
        folder.checkpoints.wait()
        (folder.path / "checkpoints" / "30" / "manifest.json").write_text("{")
        state = load(experiment, folder, state, on_optimizer_change)
        steps.append(int(state.step))
        return state

    make_steps, calls = train_module.make_steps, []

    def nonfinite_once(*args, **kwargs):
        calls.append(args)
        return (args[3], True) if len(calls) == 1 else make_steps(*args, **kwargs)

    monkeypatch.setattr(train_module, "roll_back", damage_then_roll_back)
    monkeypatch.setattr(train_module, "make_steps", nonfinite_once)
    state = train(other, workdir, on_optimizer_change="reset")
    assert steps == [20]  # a checkpoint of before the change
    assert int(state.step) == 40


def test_what_was_passed_over_is_in_the_history(workdir):
    (workdir / "checkpoints" / "30" / "manifest.json").write_text("{")
    train(CONFIG, workdir)
    (message,) = messages(workdir, "passed_over")
    assert message == f"passed over what cannot be trusted in {workdir}/checkpoints: 30"


@pytest.mark.parametrize("policy", ["reset", "keep_moments"])
def test_another_optimizer_is_an_explicit_choice(workdir, policy):
    other = changed(num_steps=40, generator_optimizer="adam(1e-4)")
    with pytest.raises(UsageError, match="--on_optimizer_change=reset"):
        train(other, workdir)
    train(other, workdir, on_optimizer_change=policy)
    became = "starts anew" if policy == "reset" else "keeps count, mu, nu"
    assert messages(workdir, "change") == [
        "generator_optimizer was 'optimistic_adam(1e-3)' and is now 'adam(1e-4)'",
        "num_steps was 30 and is now 40",
        f"generator: its optimizer's state {became}",
    ]
    # From its own checkpoint on there is nothing to choose any more.
    train(dataclasses.replace(other, num_steps=50), workdir)
    assert newest(workdir).step == 50


def test_a_branch_starts_from_another_runs_state(whole, tmp_path):
    branch = tmp_path / "branch"
    end = train(CONFIG, branch, origin=Origin(f"{whole}@20"))
    assert digest(end) == newest(whole).state  # the same config goes the same way
    assert messages(branch, "branch") == [f"branching from {whole} at step 20"]
    assert Checkpoints(branch).all_steps() == [20, 30]
    other = tmp_path / "other"
    train(changed(seed=3, loss="hinge", num_steps=40), other, origin=Origin(str(whole)))
    assert messages(other, "change") == [
        "loss was 'non_saturating' and is now 'hinge'",
        "num_steps was 30 and is now 40",
        "seed was 0 and is now 3",
    ]
    lines = (other / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [40]


def test_a_branch_types_the_same_line_to_go_on(whole, tmp_path):
    once = train(CONFIG, tmp_path, origin=Origin(f"{whole}@10"))
    again = train(CONFIG, tmp_path, origin=Origin(f"{whole}@10"))
    assert digest(once) == digest(again)
    assert len(messages(tmp_path, "branch")) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{whole}@15", "the checkpoints there are 10, 20, 30"),
        ("{whole}/nowhere", "there is no folder .*/nowhere"),
        ("{whole}/checkpoints", "the checkpoints there are none"),
        ("{whole}", "goes on from step 30, and num_steps = 30 is where the run ends"),
    ],
)
def test_a_branch_from_what_is_not_there(whole, tmp_path, source, words):
    with pytest.raises(UsageError, match=words):
        train(CONFIG, tmp_path / "new", origin=Origin(source.format(whole=whole)))
    assert not (tmp_path / "new").exists()


def test_a_branch_from_what_is_damaged(whole, workdir, tmp_path):
    (workdir / "checkpoints" / "20" / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"step 20 cannot be trusted: .*No such file"):
        train(CONFIG, tmp_path / "new", origin=Origin(f"{workdir}@20"))
    assert not (tmp_path / "new").exists()


def test_a_branch_with_another_network_is_refused(whole, tmp_path):
    with pytest.raises(UsageError, match=r"generator = 'mlp\(9, 1\)': its .* would be"):
        config = changed(generator="mlp(9, 1)", num_steps=40)
        train(config, tmp_path / "new", origin=Origin(str(whole)))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("devices", [(8, 1), (1, 8)])
def test_on_another_number_of_devices_it_goes_on_within_rounding(whole, tmp_path, devices):
    for steps, count in zip((10, 30), devices, strict=True):
        state = train(changed(num_steps=steps, mesh=f"data({count})"), tmp_path)
    one = train(CONFIG, whole)
    import jax

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), state, one)


def image_run(path, **changes):
    """A config for images whose class is told by their folder or their label."""
    return changed(
        dataset=f"npz('{path}')", generator="mlp(8, 1, conditional=True)",
        discriminator="mlp(8, 1, conditional=True)", **changes,
    )  # fmt: skip


def write_images(path, counts, side=4, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (sum(counts), side, side), np.uint8)
    np.savez(path, images=images, labels=np.arange(len(counts)).repeat(counts))


def test_data_that_were_moved_are_recognised(tmp_path):
    write_images(tmp_path / "a.npz", [9, 8])
    workdir = tmp_path / "run"
    train(image_run(tmp_path / "a.npz"), workdir)
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    train(image_run(tmp_path / "b.npz", num_steps=40), workdir)
    assert any(line.startswith("dataset was ") for line in messages(workdir, "change"))
    write_images(tmp_path / "a.npz", [9, 8])
    train(image_run(tmp_path / "a.npz", num_steps=40), tmp_path / "other")
    assert newest(workdir).state == newest(tmp_path / "other").state


@pytest.mark.parametrize(
    ("counts", "how", "line"),
    [
        ([9, 9], {}, "there were 17 examples and there are 18"),
        ([9, 4, 4], {}, "the classes were 0, 1 and are 0, 1, 2"),
        ([9, 8], {"seed": 1}, "as many examples of each class, with other values"),
        ([9, 8], {"side": 6}, "an example was 4 x 4 x 1 and is 6 x 6 x 1"),
    ],
)
def test_data_that_changed_are_refused_with_what_changed(tmp_path, counts, how, line):
    path, workdir = tmp_path / "a.npz", tmp_path / "run"
    write_images(path, [9, 8])
    train(image_run(path), workdir)
    before = (workdir / "config.json").read_text()
    write_images(path, counts, **how)
    for num_steps in (30, 40):  # complete, and to go on
        with pytest.raises(UsageError, match=f"holds another run: the data have changed: {line}"):
            train(image_run(path, num_steps=num_steps), workdir)
    assert (workdir / "config.json").read_text() == before
    if len(counts) == 2 and "side" not in how:  # the networks are the same
        train(image_run(path, num_steps=40), tmp_path / "branch", origin=Origin(str(workdir)))
        assert any(line in text for text in messages(tmp_path / "branch", "change"))
    else:
        with pytest.raises(UsageError, match=f"the data have changed: {line}"):
            train(image_run(path, num_steps=40), tmp_path / "branch", origin=Origin(str(workdir)))


def test_a_run_from_before_the_data_were_described_goes_on(workdir, whole):
    for step in (10, 20, 30):
        rewrite(workdir / "checkpoints" / str(step), data={})
    with pytest.raises(
        UsageError, match=r"dataset was 'gaussians' and is now 'gaussians\(modes=8\)'"
    ):
        train(changed(dataset="gaussians(modes=8)", num_steps=40), workdir)
    train(changed(num_steps=40), workdir)
    assert newest(workdir).data["class_counts"] == newest(whole).data["class_counts"]


def rewrite(folder, **changes):
    """Writes a manifest anew, with its digest."""
    write_manifest(folder, dataclasses.replace(read_manifest(folder), **changes))


def test_a_description_that_is_none_is_damage(workdir):
    rewrite(workdir / "checkpoints" / "30", data={"name": "x"})
    train(changed(num_steps=40), workdir)
    assert f"resuming {workdir} at step 20" in messages(workdir, "resume")


@pytest.mark.parametrize(
    "counts", [[9, 8, 7], [9, 8, 0, 7, 5], [20]], ids=["more", "gaps", "fewer"]
)
@pytest.mark.parametrize("reset_step", [False, True])
def test_fine_tuning_on_other_classes(tmp_path, counts, reset_step):
    """What fits is the old run's; what does not is as in a new run; and it can be resumed."""
    write_images(tmp_path / "a.npz", [9, 8])
    old = train(image_run(tmp_path / "a.npz"), tmp_path / "old")
    write_images(tmp_path / "b.npz", counts)
    config = image_run(tmp_path / "b.npz", num_steps=31, keep_checkpoints=("latest(9)",))
    if len(counts) == 1:
        keep = {"keep_checkpoints": ("latest(9)",)}
        config = changed(dataset=config.dataset, num_steps=31, **keep)
    with pytest.raises(UsageError, match="--on_shape_mismatch=reset starts such arrays anew"):
        train(config, tmp_path / "new", origin=Origin(str(tmp_path / "old")))
    origin = Origin(str(tmp_path / "old"), on_shape_mismatch="reset", reset_step=reset_step)
    train(config, tmp_path / "new", origin=origin)
    first = 0 if reset_step else 30
    with Checkpoints(tmp_path / "new") as checkpoints:
        experiment = build(config).with_data(build(config).load_examples())
        fresh, start = (
            experiment.init(),
            checkpoints.restore(checkpoints.verify(first), experiment.state_target()),
        )
    for role in ("generator", "discriminator"):
        then, now, new = (state.players.of(role).params for state in (old, start, fresh))
        for layer, arrays in now.items():
            for name, array in arrays.items():
                fits = then[layer][name].shape == array.shape
                expected = then[layer][name] if fits else new[layer][name]
                np.testing.assert_array_equal(array, expected)
                assert fits == ((layer, name) != ("Dense_0", "kernel"))
    lines = messages(tmp_path / "new", "change")
    assert any("generator: its optimizer's state starts anew, and so do Dense_0.kernel" in line
               for line in lines)  # fmt: skip
    again = train(dataclasses.replace(config, num_steps=40), tmp_path / "new", origin=origin)
    assert int(again.step) == 40


def test_steps_counted_anew_are_those_of_schedules(whole, tmp_path):
    rate = "optimistic_adam(linear_schedule(1e-3, 0.0, 30))"
    config = changed(generator_optimizer=rate, num_steps=12, log_every_steps=4)
    origin = Origin(str(whole), reset_step=True)
    train(config, tmp_path, origin=origin, on_optimizer_change="keep_moments")
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [4, 8, 12]
    rates = [line["learning_rate/generator"] for line in logged]
    np.testing.assert_allclose(rates, [1e-3 * (1 - step / 30) for step in (3, 7, 11)], rtol=1e-5)
