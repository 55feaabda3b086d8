"""Config files: a run's own, and ones that import their neighbours."""

import json
import sys

import pytest

from gan import config_files
from gan.config import TrainConfig, to_json
from gan.errors import UsageError


def test_the_config_of_a_run_is_a_config_file(tmp_path):
    config = TrainConfig(num_steps=7, regularizers=("r1", "r2"))
    (tmp_path / "config.json").write_text(to_json(config))
    path = config_files.of_run(tmp_path)
    assert config_files.load(path) == config
    assert config_files.load(path, {"num_steps": "9"}).num_steps == 9
    with pytest.raises(UsageError, match="holds no run to go on with"):
        config_files.of_run(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "Expecting"), ("[]", "a JSON object is accepted"), ('{"seeed": 1}', "'seeed'")],
)
def test_a_damaged_json(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        config_files.load(tmp_path / "config.json")


def test_recipes_for_the_pixels_of_mnist_are_one_recipe(root):
    first, *others = (
        vars(config_files.load(root / "configs" / f"{name}.py"))
        for name in ("mnist", "mnist_unconditional", "fashion_mnist")
    )
    different = [{key for key in first if first[key] != other[key]} for other in others]
    assert different == [{"generator", "discriminator"}, {"dataset"}]
    for key in ("generator", "discriminator"):
        assert others[0][key] == first[key].replace(", conditional=True", "")


def test_configs_import_their_neighbours_each_in_its_own_folder(tmp_path):
    for name, steps in (("a", 3), ("b", 4)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "base.py").write_text(f"def get_config():\n    return {{'num_steps': {steps}}}\n")
        child = "def get_config():\n    from base import get_config as base\n    return base()\n"
        (folder / "child.py").write_text(child)
    before = list(sys.path)
    assert config_files.load(tmp_path / "a" / "child.py").num_steps == 3
    assert config_files.load(tmp_path / "b" / "child.py").num_steps == 4
    assert sys.path == before
    assert "base" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_fault_in_a_config_has_its_line(tmp_path):
    (tmp_path / "c.py").write_text("def get_config():\n    x = 1\n    return x / 0\n")
    with pytest.raises(UsageError, match=r"c\.py, line 3: ZeroDivisionError: division by zero"):
        config_files.load(tmp_path / "c.py")


def test_paths_of_parts_are_relative_to_the_config_or_to_the_command(tmp_path, monkeypatch):
    for folder in ("config", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.py").write_text(f"# in {folder}\n")
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "config" / "c.py"
    path.write_text("def get_config():\n    return {'parts': ['p.py']}\n")
    assert config_files.load(path).parts == (str(tmp_path / "config" / "p.py"),)
    here = (str(tmp_path / "here" / "p.py"),)
    assert config_files.load(path, {"parts": "p.py"}).parts == here
    assert config_files.load(path, given=["p.py"]).parts == here  # of the same name
    (tmp_path / "here" / "q.py").write_text("# another\n")
    both = (str(tmp_path / "config" / "p.py"), str(tmp_path / "here" / "q.py"))
    assert config_files.load(path, given=["q.py"]).parts == both
    (tmp_path / "config" / "config.json").write_text(json.dumps({"parts": both}))
    assert config_files.load(tmp_path / "config" / "config.json").parts == both
