"""Parts of one's own: how they are found, refused, remembered, and kept from strangers."""

import json
import pathlib
import py_compile
import shutil
import sys
import textwrap

import numpy as np
import pytest

import gan.trainers.experiment  # noqa: F401 - registers our own parts
from gan import parts, registry
from gan.config import SETTINGS, TrainConfig
from gan.errors import RunError, UsageError
from gan.losses import LOSSES
from gan.registry import REGISTRIES
from gan.trainers import run as api
from tests.scripts import run_script_here

LOSS = """
    import pathlib
    from gan.losses import LOSSES, hinge

    with pathlib.Path(__file__).with_suffix(".executed").open("a") as file:
        file.write("x")

    @LOSSES.register("mine")
    def mine():
        return hinge()
"""
CONFIG = {
    "dataset": "gaussians", "generator": "mlp(width=8)", "discriminator": "mlp(width=8)",
    "batch_size": 8, "num_steps": 2, "log_every_steps": 2, "sample_every_steps": 0, "mesh": "data(1)",
}  # fmt: skip


def write(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return str(path)


def forget_all() -> None:
    """Makes this process one that has executed no part of anybody."""
    parts._LOADED.clear()
    registry.forget(lambda origin: origin != registry.OURS)
    registry.load_installed.cache_clear()
    for name in [name for name in sys.modules if "@" in name]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A user who has trained with nothing, in a folder of their own."""
    before = set(sys.modules)
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    forget_all()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def executed(path: pathlib.Path) -> int:
    marks = path.with_suffix(".executed")
    return len(marks.read_text()) if marks.exists() else 0


@pytest.fixture
def other_run(tmp_path):
    """A run that was trained with a file of its own, by another user, in a folder of theirs."""
    config = CONFIG | {"loss": "mine", "parts": [write(tmp_path / "theirs" / "my_loss.py", LOSS)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_CACHE_DIR", str(tmp_path / "their_cache"))
        api.train(config, tmp_path / "theirs" / "run")
    forget_all()
    (tmp_path / "theirs" / "my_loss.executed").unlink()
    return tmp_path / "theirs" / "run"


# What is loaded


def test_a_file_is_executed_once_and_again_when_it_has_changed(tmp_path):
    path = tmp_path / "my_loss.py"
    name = write(path, LOSS)
    assert parts.load([name]) == (name,)
    assert LOSSES.origin("mine") == name
    parts.load([name])
    assert executed(path) == 1
    write(path, LOSS.replace('"mine"', '"new"'))
    parts.load([name])
    assert executed(path) == 2
    assert "new" in LOSSES
    assert "mine" not in LOSSES  # the file does not register it any more


def test_a_change_that_fails_leaves_what_was(tmp_path):
    name = write(tmp_path / "my_loss.py", LOSS)
    parts.load([name])
    write(tmp_path / "my_loss.py", LOSS + "\n    raise ValueError('half')")
    with pytest.raises(UsageError, match=r"my_loss.py, line 12: ValueError: half"):
        parts.load([name])
    assert "mine" in LOSSES


def test_a_file_may_import_one_that_is_named_before_it(tmp_path):
    helper = write(tmp_path / "a" / "my_helper.py", "from gan.losses import hinge as chosen")
    user = """
        from gan.losses import LOSSES
        from my_helper import chosen
        LOSSES.register("mine")(chosen)
    """
    parts.load([helper, write(tmp_path / "a" / "my_loss.py", user)])
    assert LOSSES.maker("mine").__name__ == "hinge"
    # Another folder has files of the same names: they are other modules.
    helper = write(tmp_path / "b" / "my_helper.py", "from gan.losses import minimax as chosen")
    other = write(tmp_path / "b" / "my_loss.py", user.replace("mine", "other"))
    parts.load([helper, other])
    assert LOSSES.maker("other").__name__ == "minimax"


def test_a_file_named_like_a_module_of_python_does_not_replace_it(tmp_path):
    parts.load([write(tmp_path / "json.py", LOSS)])
    assert sys.modules["json"] is json
    assert "mine" in LOSSES


def test_a_module_and_a_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "my_module.py", LOSS)
    parts.load(["my_module"])
    assert "mine" in LOSSES
    write(tmp_path / "my_package" / "__init__.py", "")
    write(tmp_path / "my_package" / "losses.py", LOSS.replace("mine", "packed"))
    parts.load(["my_package.losses"])
    assert "packed" in LOSSES
    digest = parts.digests_of(["my_package.losses"])
    write(tmp_path / "my_package" / "__init__.py", "# its siblings are a part of it")
    assert parts._find("my_package.losses").sha256 != digest["my_package.losses"]


def test_an_installed_package_announces_its_parts(tmp_path, monkeypatch, caplog):
    for name, text in (
        ("good_parts", LOSS),
        ("bad_parts", LOSS.replace("mine", "bad") + "\n    1 / 0"),
    ):
        write(tmp_path / f"{name}.py", text)
        info = tmp_path / f"{name}-1.0.dist-info"
        write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        write(info / "entry_points.txt", f"[flax_gan.parts]\nall = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.load_installed.cache_clear()
    assert "mine" in LOSSES
    assert LOSSES.origin("mine") == str(tmp_path / "good_parts.py")
    assert "bad" not in LOSSES
    assert "the parts of the package bad_parts are left out: ZeroDivisionError" in caplog.text
    api.train(CONFIG | {"loss": "mine"}, tmp_path / "run")
    assert "can load this run" not in caplog.text  # any program of this user finds them
    assert api.load(tmp_path / "run").step == 2


# What is refused

DYNAMICS = """
    from dataclasses import dataclass
    from gan.dynamics import DYNAMICS, Dynamics

    @DYNAMICS.register("mine")
    @dataclass(frozen=True)
    class Mine(Dynamics):
        pass
"""
BAD = {
    "x = = 1": "line 1: SyntaxError: invalid syntax",
    "import sys\nsys.exit(3)": "line 2: SystemExit: 3",
    "\n1 / 0": "line 2: ZeroDivisionError: division by zero",
    "import nothing_like_it": "line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
    LOSS.replace('"mine"', '"hinge"'): "line 8: loss 'hinge' is taken, by flax-gan",
    LOSS.replace('"mine"', '"my-loss"'): "line 8: loss 'my-loss': a name has letters, digits and _",
    LOSS + "\n    LOSSES.register('mine')(lambda: 1)": "loss 'mine' is taken, by ",
    DYNAMICS: "line 5: dynamics 'mine': Mine lacks step",
    DYNAMICS.replace("(Dynamics)", ""): "line 5: dynamics 'mine': Mine must derive from Dynamics",
    DYNAMICS.replace("(frozen=True)", "").replace("pass", "def step(self, *a): ..."): (
        "line 5: dynamics 'mine': Mine must be frozen: @dataclass(frozen=True)"
    ),
    """
    from gan.metrics.metric import METRICS, Metric, Need

    @METRICS.register("mine")
    class Mine(Metric):
        needs = Need.VECTORS

        def compute(self, real, fake):
            return {}
    """: "line 4: metric 'mine': Mine lacks scores",
    """
    from gan.models.network import DISCRIMINATORS, Discriminator

    @DISCRIMINATORS.register("mine")
    class Mine(Discriminator):
        width: int = 3
    """: "line 4: discriminator 'mine': Mine lacks __call__",
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD.items(), ids=range(len(BAD)))
def test_a_fault_is_one_line_with_its_place(tmp_path, text, words):
    name = write(tmp_path / "my_part.py", text)
    before = {kind: list(own) for kind, own in REGISTRIES.items()}
    with pytest.raises(UsageError) as error:
        parts.load([name])
    assert f"parts: {name}, " in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert {kind: list(own) for kind, own in REGISTRIES.items()} == before
    with pytest.raises(UsageError, match="my_part"):  # and again, not as if it were loaded
        parts.load([name])


def test_a_source_that_is_not_there(tmp_path):
    write(tmp_path / "my_loss.py", LOSS)
    with pytest.raises(UsageError, match=r"my_los.py' cannot be read: No such.*mean 'my_loss.py'"):
        parts.load([str(tmp_path / "my_los.py")])
    with pytest.raises(UsageError, match=r"'my_package.loss' is neither a .py file nor a module"):
        parts.load(["my_package.loss"])
    with pytest.raises(UsageError, match=r"cannot be read: it is not a regular file$"):
        (tmp_path / "folder.py").mkdir()
        parts.load([str(tmp_path / "folder.py")])


def test_two_files_with_one_name_for_a_part(tmp_path):
    first = write(tmp_path / "first.py", LOSS)
    second = write(tmp_path / "second.py", LOSS + "    # not the same content\n")
    with pytest.raises(UsageError, match=rf"second.py, line 8: loss 'mine' is taken, by {first}"):
        parts.load([first, second])


FAULTS = {  # in a part that is registered without a fault, and then built or used
    """
    from gan.losses import LOSSES, Loss

    @LOSSES.register("mine")
    def mine():
        return Loss(discriminator=lambda real, fake: real.mean(), generator=lambda real: 0.0)
    """: ({"loss": "mine"}, "no step can be made with these parts: "),
    """
    from gan.losses import LOSSES

    @LOSSES.register("mine")
    def mine():
        return 3
    """: ({"loss": "mine"}, "mine is no loss by itself, at most an argument of one: it makes int, not Loss"),
    """
    from gan.losses import LOSSES, Loss, hinge

    def oops(real, fake):
        return real @ fake.sum() / nothing

    @LOSSES.register("mine")
    def mine():
        return Loss(discriminator=oops, generator=oops)
    """: ({"loss": "mine"}, "my_part.py, line 5: "),
    """
    from flax import linen as nn
    from gan.models.network import DISCRIMINATORS, Discriminator

    @DISCRIMINATORS.register("mine")
    class Mine(Discriminator):
        @nn.compact
        def __call__(self, examples, labels, *, train):
            return nn.Dense(1)(examples)
    """: ({"discriminator": "mine"}, "the discriminator must return [8] for a batch of 8, and returns [8, 1]"),
    """
    from flax import linen as nn
    from gan.models.network import GENERATORS, Generator

    @GENERATORS.register("mine")
    class Mine(Generator):
        @nn.compact
        def __call__(self, latents, labels, *, train):
            return nn.Dense(1)(latents)
    """: ({"generator": "mine"}, "the generator must return [8, 2] for a batch of 8, and returns [8, 1]"),
    """
    import numpy as np
    from gan.data import DATASETS, Dataset, Examples

    @DATASETS.register("mine")
    def mine():
        load = lambda: Examples(np.zeros([50, 2]), np.zeros(50, np.int32))
        return Dataset("mine", (2,), 1, load)
    """: ({"dataset": "mine"}, "examples must be float32 [50, 2], and load returned float64 [50, 2]"),
    """
    import numpy as np
    from gan.data import DATASETS, Dataset, Examples

    @DATASETS.register("mine")
    def mine():
        load = lambda: Examples(np.zeros([50, 2], np.float32), np.arange(50, dtype=np.int32))
        return Dataset("mine", (2,), 10, load)
    """: ({"dataset": "mine"}, "labels must be in [0, 10), and are from 0 to 49"),
    """
    from gan.data import DATASETS, Dataset

    @DATASETS.register("mine")
    def mine():
        return Dataset("mine", (2,), 1, lambda: open("no_such_file"))
    """: ({"dataset": "mine"}, "my_part.py, line 6: FileNotFoundError"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "keys", "words"), [(k, *v) for k, v in FAULTS.items()], ids=range(8)
)
def test_a_part_that_cannot_work_is_refused_before_anything_is_written(tmp_path, text, keys, words):
    config = CONFIG | keys | {"parts": [write(tmp_path / "my_part.py", text)]}
    with pytest.raises(UsageError) as error:
        api.train(config, tmp_path / "run")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_script_ends_with_2_and_writes_nothing(tmp_path):
    config = write(tmp_path / "c.py", "def get_config():\n    return {'parts': 'p.py'}")
    args = ("train.py", "--config", config, "--workdir", tmp_path / "run")
    for text, words in (("", "cannot be read"), ("1 / 0", "p.py, line 1: ZeroDivisionError")):
        if text:
            write(tmp_path / "p.py", text)
        err = run_script_here(*args, code=2).stderr.splitlines()
        assert len(err) == 1
        assert words in err[0]
    assert not (tmp_path / "run").exists()


# What a run remembers


def test_a_run_finds_its_parts_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my_loss.py", LOSS)
    api.train(CONFIG | {"loss": "mine", "parts": "my_loss.py"}, "run")
    (manifest,) = (tmp_path / "run" / "checkpoints").glob("*/manifest.json")
    recorded = json.loads(manifest.read_text())["parts"]
    assert recorded == parts.digests_of([str(tmp_path / "my_loss.py")])
    forget_all()
    monkeypatch.chdir(tmp_path / "here")
    run_script_here("sample.py", "--workdir", tmp_path / "run", "--num_images", 20)
    run_script_here("evaluate.py", "--workdir", tmp_path / "run", "--num_images", 100)
    assert api.train(None, tmp_path / "run").step == 2
    json_config = tmp_path / "run" / "config.json"
    listed = run_script_here("train.py", "--list", "--config", json_config).stdout
    assert f"  mine  from {tmp_path / 'my_loss.py'}" in listed


def test_a_changed_part(tmp_path, caplog):
    path = tmp_path / "my_loss.py"
    config = CONFIG | {"loss": "mine", "parts": [write(path, LOSS)]}
    api.train(config, tmp_path / "run")
    write(path, LOSS + "    # another")
    with pytest.raises(UsageError, match=rf"{path} has changed since.*--parts={path} uses it"):
        api.load(tmp_path / "run")
    assert api.load(tmp_path / "run", parts=[str(path)]).step == 2
    assert (
        f"parts: {path} has changed since the run was saved, and is used as it is now"
        in caplog.text
    )
    api.train(config | {"num_steps": 4}, tmp_path / "run")  # the user's own config: it goes on
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    changes = [line["message"] for line in history if line["event"] == "change"]
    assert f"parts: {path} has changed since the run was saved" in changes
    assert api.load(tmp_path / "run").step == 4
    with pytest.raises(UsageError, match="has changed"):  # the older checkpoint is the old loss's
        api.load(tmp_path / "run", 2)


def test_a_part_that_was_moved(tmp_path):
    path = tmp_path / "my_loss.py"
    api.train(CONFIG | {"loss": "mine", "parts": [write(path, LOSS)]}, tmp_path / "run")
    renamed = path.rename(tmp_path / "renamed.py")
    forget_all()
    with pytest.raises(UsageError, match=r"cannot be read: No such file.*--parts=FILE"):
        api.load(tmp_path / "run")
    moved = api.load(tmp_path / "run", parts=[str(renamed)])
    assert moved.config.parts == (str(renamed),)


def test_a_part_that_only_this_process_knows_is_said(tmp_path, caplog):
    @LOSSES.register("of_this_process")
    def mine():
        return LOSSES.build("hinge")

    api.train(CONFIG | {"loss": "of_this_process"}, tmp_path / "run")
    assert (
        f"loss 'of_this_process', registered by {__file__}, is in no file of config.parts"
        in caplog.text
    )


def test_manifests_from_before_there_were_parts(tmp_path):
    api.train(CONFIG, tmp_path / "run")
    (path,) = (tmp_path / "run" / "checkpoints").glob("*/manifest.json")
    content = json.loads(path.read_text())
    del (
        content["parts"],
        content["sha256"],
        content["config"]["parts"],
        content["config"]["callbacks"],
    )
    from gan.checkpoints.manifest import _digest

    path.write_text(json.dumps(content | {"sha256": _digest(content)}))
    assert api.load(tmp_path / "run").step == 2


# What a stranger's run cannot do


def ways_in(run: pathlib.Path, here: pathlib.Path):
    config = write(here / "c.py", f"def get_config():\n    return {CONFIG | {'num_steps': 3}!r}")
    return [
        ("sample.py", "--workdir", run),
        ("evaluate.py", "--workdir", run, "--num_images", 100),
        ("evaluate.py", "--workdir", run, "--num_images", 100, "--steps", "all"),
        ("train.py", "--workdir", run),
        ("train.py", "--workdir", run, "--config.num_steps=3"),
        ("train.py", "--config", run / "config.json", "--workdir", here / "new"),
        ("train.py", "--config", run / "config.json", "--list"),
        ("train.py", "--config", config, "--config.latent_dim=8", "--workdir", here / "new",
         "--init_from", run),
        ("compare.py", "--config", run / "config.json", "--output", here / "new"),
        ("benchmark.py", "--config", run / "config.json", "--rounds", 1),
    ]  # fmt: skip


def test_code_of_a_strangers_run_is_never_executed(other_run, tmp_path):
    for args in ways_in(other_run, tmp_path / "here"):
        err = run_script_here(*args, code=2).stderr
        assert "you have not trained with" in err, args
        assert "uses it as it is now, if you trust it" in err
    for call in (
        api.load,
        lambda run: api.train(None, run),
        lambda run: api.train(run / "config.json"),
    ):
        with pytest.raises(UsageError, match="you have not trained with"):
            call(other_run)
    assert executed(other_run.parent / "my_loss.py") == 0
    # With the user's word, everything works.
    given = ("--parts", other_run.parent / "my_loss.py")
    run_script_here("sample.py", "--workdir", other_run, "--num_images", 4, *given)
    assert executed(other_run.parent / "my_loss.py") == 1


def edit_run(run: pathlib.Path, change) -> None:
    """Changes the config of a run as a stranger can, with manifests that are valid."""
    from gan.checkpoints.manifest import _digest

    path = run / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for path in (run / "checkpoints").glob("*/manifest.json"):
        content = json.loads(path.read_text())
        del content["sha256"]
        content["config"] = change(content["config"])
        path.write_text(json.dumps(content | {"sha256": _digest(content)}))


@pytest.mark.parametrize("trick", ["in its folder", "relative", "module", "package", "dotted"])
def test_tricks(other_run, tmp_path, monkeypatch, trick):
    """Files within the run, names that the import system would find, packages around them."""
    monkeypatch.syspath_prepend(other_run)  # as where a notebook is started there
    monkeypatch.chdir(other_run)
    evil = {"in its folder": "evil.py", "relative": "evil.py", "module": "evil.py",
            "package": "evil/__init__.py", "dotted": "evil/__init__.py"}[trick]  # fmt: skip
    write(other_run / evil, LOSS)
    if trick == "dotted":  # what is named is trusted, and the package around it is not
        trained = write(tmp_path / "harmless.py", "x = 1")
        api.train(CONFIG | {"parts": [trained]}, tmp_path / "mine")
        forget_all()
        write(other_run / "evil" / "harmless.py", "x = 1")
    name = {"in its folder": str(other_run / evil), "relative": "evil.py", "module": "evil",
            "package": "evil", "dotted": "evil.harmless"}[trick]  # fmt: skip
    edit_run(other_run, lambda config: config | {"parts": [name]})
    for args in (("sample.py", "--workdir", other_run), ("train.py", "--workdir", other_run)):
        assert "parts: " in run_script_here(*args, code=2).stderr
    assert executed(other_run / evil) == 0


def test_a_trusted_file_with_evil_bytecode_beside_it(tmp_path):
    """Python would take a `.pyc` for the file where its time and size are right."""
    api.train(
        CONFIG | {"loss": "mine", "parts": [write(tmp_path / "mine" / "my_loss.py", LOSS)]},
        tmp_path / "run",
    )
    stranger = tmp_path / "stranger"
    shutil.copytree(tmp_path / "run", stranger / "run")
    good = tmp_path / "mine" / "my_loss.py"
    evil = LOSS.replace(".executed", ".hijacked")
    path = pathlib.Path(
        write(stranger / "my_loss.py", evil + "    #" + "x" * (len(LOSS) - len(evil)))
    )
    cached = pathlib.Path(
        py_compile.compile(
            str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    )
    assert cached.exists()
    shutil.copy(good, path)
    edit_run(stranger / "run", lambda config: config | {"parts": [str(path)]})
    forget_all()
    api.load(stranger / "run")
    assert executed(path) == 1
    assert not path.with_suffix(".hijacked").exists()


def test_the_same_content_elsewhere_is_the_users_own(tmp_path):
    api.train(
        CONFIG | {"loss": "mine", "parts": [write(tmp_path / "a" / "my_loss.py", LOSS)]},
        tmp_path / "a" / "run",
    )
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    edit_run(tmp_path / "b" / "run", lambda c: c | {"parts": [str(tmp_path / "b" / "my_loss.py")]})
    forget_all()
    assert api.load(tmp_path / "b" / "run").step == 2
    assert api.load(tmp_path / "a" / "run").step == 2  # both, in one process


EVERY_KIND = """
    from gan.metrics.metric import Metric, Need, Score
    from gan.registry import REGISTRIES
    from gan.schedules import SCHEDULES

    OURS = {
        "data augmentation": "flip", "discriminator augmentation": "none", "averaging": "ema",
        "dataset": "digits", "discriminator": "mlp",
        "dynamics": "alternating", "features": "pixels", "generator": "mlp", "loss": "hinge",
        "mesh": "data", "optimizer": "adam", "placement": "auto", "policy": "skip",
        "regularizer": "r1", "rule of retention": "latest",
    }
    for kind, name in OURS.items():
        REGISTRIES[kind].register("mine")(REGISTRIES[kind].maker(name))
    SCHEDULES.register("my_schedule")(SCHEDULES.maker("cosine_decay_schedule"))

    @REGISTRIES["metric"].register("mine")
    class Mine(Metric):
        needs = Need.VECTORS
        scores = (Score("mine", higher_is_better=True),)

        def compute(self, real, fake):
            return {"mine": float(fake.moments.mean.mean())}
"""


def test_every_kind_of_part_can_be_ones_own(tmp_path, monkeypatch):
    """Each key of a config names one; the run is the same as with ours, and loads."""
    kinds = {setting.part for setting in SETTINGS.values() if setting.part} - {"callback"}
    sizes = {"generator": "mine(width=8)", "discriminator": "mine(width=8)"}
    own = CONFIG | {"parts": [write(tmp_path / "every.py", EVERY_KIND)]}
    for key, setting in SETTINGS.items():
        if setting.part in kinds:
            single = isinstance(getattr(TrainConfig(), key), str)
            own[key] = sizes.get(key, "mine") if single else ("mine",)
    for role in ("generator", "discriminator"):
        own[f"{role}_optimizer"] = "mine(my_schedule(2e-4, 10))"
    mine = api.train(own, tmp_path / "mine")
    ours = api.train(CONFIG | {
        "dataset": "digits", "data_augmentation": "flip", "averaging": "ema", "dynamics": "alternating",
        "loss": "hinge", "regularizers": "r1", "on_nonfinite": "skip", "mesh": "data",
        "generator_optimizer": "adam(cosine_decay_schedule(2e-4, 10))",
        "discriminator_optimizer": "adam(cosine_decay_schedule(2e-4, 10))",
    })  # fmt: skip
    np.testing.assert_array_equal(mine.sample(4, weights="raw"), ours.sample(4, weights="raw"))
    forget_all()
    monkeypatch.chdir(tmp_path)
    assert api.load("mine").step == 2


def test_what_imports_a_changed_file_is_executed_again(tmp_path):
    helper, user = tmp_path / "my_helper.py", tmp_path / "my_loss.py"
    names = [
        write(helper, "from gan.losses import hinge as chosen"),
        write(user, "from gan.losses import LOSSES\nfrom my_helper import chosen\nLOSSES.register('mine')(chosen)"),
    ]  # fmt: skip
    parts.load(names)
    write(helper, "from gan.losses import minimax as chosen")
    parts.load(names)
    assert LOSSES.maker("mine").__name__ == "minimax"


def test_a_neighbour_that_is_not_listed_is_named(tmp_path):
    write(tmp_path / "my_helper.py", "x = 1")
    with pytest.raises(UsageError, match=r"name my_helper\.py before it in config\.parts"):
        parts.load([write(tmp_path / "my_loss.py", "import my_helper")])


def test_a_dotted_file_name_imports_no_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "package_of_another.py", "raise SystemExit('it was imported')")
    parts.load([write(tmp_path / "package_of_another.part.py", LOSS)])
    assert "mine" in LOSSES


def test_a_part_that_was_renamed_and_changed(tmp_path):
    path = tmp_path / "my_loss.py"
    api.train(CONFIG | {"loss": "mine", "parts": [write(path, LOSS)]}, tmp_path / "run")
    renamed = path.rename(tmp_path / "renamed.py")
    write(renamed, LOSS + "    # changed")
    forget_all()
    assert api.load(tmp_path / "run", parts=str(renamed)).config.parts == (str(renamed),)
    forget_all()
    api.train(None, tmp_path / "run", parts=[str(renamed)])


def test_links_in_a_strangers_folder_are_not_written_through(other_run, tmp_path):
    given = ("--parts", other_run.parent / "my_loss.py")
    precious = pathlib.Path(write(tmp_path / "precious.txt", "mine"))
    for name, args in {
        "history.jsonl": ("train.py", "--workdir", other_run, "--config.num_steps=3", *given),
        "lock": ("train.py", "--workdir", other_run, *given),
        "evaluations.jsonl": ("evaluate.py", "--workdir", other_run, "--num_images", 50, *given),
    }.items():
        (other_run / name).unlink(missing_ok=True)
        (other_run / name).symlink_to(precious)
        assert f"{name} is a link" in run_script_here(*args, code=2).stderr
        assert precious.read_text() == "mine"
        (other_run / name).unlink()


STATES = """
    from dataclasses import dataclass
    import jax.numpy as jnp
    from gan.dynamics import DYNAMICS
    from gan.dynamics.simultaneous import Simultaneous

    @DYNAMICS.register("mine")
    @dataclass(frozen=True)
    class Mine(Simultaneous):
        def init(self, players):
            return jnp.zeros([], jnp.int32)

        def step(self, game, optimizers, players, dynamics_state, batches, key):
            output = super().step(game, optimizers, players, (), batches, key)
            return output._replace(dynamics_state=dynamics_state + 0.5)
"""


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        (STATES, {"dynamics": "mine"}, r"must keep the shape of dynamics_state, int32\[\], and returns float32\[\]"),
        ("", {"regularizers": ("r1", "r1(weight=2.0)")}, "two are named 'r1'"),
        ("""
        from flax import linen as nn
        from gan.models.network import GENERATORS, Generator

        @GENERATORS.register("mine")
        class Mine(Generator):
            def __call__(self, latents, labels):
                return latents
        """, {"generator": "mine"}, "the networks cannot be initialised: .*'train'"),
        ("""
        from gan.metrics.metric import METRICS, Metric, Need, Score

        @METRICS.register("mine")
        class Mine(Metric):
            needs = Need.VECTORS
            scores = (Score("fid", higher_is_better=False),)

            def compute(self, real, fake):
                return {"fid": 0.0}
        """, {"eval_every_steps": 2, "eval_num_images": 20}, "its score 'fid' is another's too"),
        ("""
        from gan.metrics.metric import METRICS, Metric, Score

        @METRICS.register("mine")
        class Mine(Metric):
            needs = "vectors"
            scores = (Score("mine", higher_is_better=False),)

            def compute(self, real, fake):
                return {"mine": 0.0}
        """, {"eval_every_steps": 2, "eval_num_images": 20}, "needs must be a Need, given 'vectors'"),
    ],
    ids=["state", "penalties", "signature", "score", "needs"],
)  # fmt: skip
def test_what_would_go_wrong_later_or_in_silence(tmp_path, text, keys, words):
    config = CONFIG | keys | {"parts": [write(tmp_path / "my_part.py", text)]}
    with pytest.raises(UsageError, match=words):
        api.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


METRIC = """
    import numpy as np
    from gan.metrics.metric import METRICS, Metric, Need, Score

    @METRICS.register("mine")
    class Mine(Metric):
        needs = Need.VECTORS
        scores = (Score("mine", higher_is_better=False),)

        def compute(self, real, fake):
            return RESULT
"""


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("{'mine': np.float32(0.5)}", None),
        ("{'other': 0.5}", "metric 'mine' must return mine, and returned other"),
        ("{'mine': None}", "metric 'mine': "),
        ("{'mine': 1 / 0}", r"metric 'mine': .*my_part\.py, line 11: ZeroDivisionError"),
    ],
)
def test_what_a_metric_returns(tmp_path, result, words):
    config = CONFIG | {"parts": [write(tmp_path / "my_part.py", METRIC.replace("RESULT", result))]}
    run = api.train(config)
    if words is None:
        assert run.evaluate("mine", num_images=50, features="pixels") == {"mine": 0.5}
        return
    with pytest.raises(RunError, match=words):
        run.evaluate("mine", num_images=50, features="pixels")
