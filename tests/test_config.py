import json
import re

import pytest

from gan import config, config_files
from gan.errors import UsageError
from gan.registry import REGISTRIES


def write(path, body):
    path.write_text("from ml_collections import ConfigDict\n\n\ndef get_config():\n" + body)
    return path


def test_load_applies_overrides_with_their_types(tmp_path):
    path = write(tmp_path / "c.py", "    return ConfigDict({'num_steps': 7, 'loss': 'hinge'})\n")
    loaded = config_files.load(
        path,
        {
            "batch_size": "8",
            "generator_optimizer": "adam(1e-4)",
            "regularizers": "r1(weight=2.0)",
            "averaging": "('ema', 'uniform')",
            "data_dir": "/data",
        },
    )
    expected = config.TrainConfig(
        num_steps=7,
        loss="hinge",
        batch_size=8,
        generator_optimizer="adam(1e-4)",
        regularizers=("r1(weight=2.0)",),
        averaging=("ema", "uniform"),
        data_dir="/data",
    )
    assert loaded == expected


def test_json_round_trip():
    written = config.TrainConfig(regularizers=("r1", "r2"), seed=3)
    assert config.from_mapping(json.loads(config.to_json(written))) == written


def test_the_old_name_of_a_key_is_read_wherever_it_is_given(tmp_path):
    path = write(tmp_path / "c.py", "    return ConfigDict({'augmentation': 'flip'})\n")
    assert config_files.load(path).data_augmentation == ("flip",)
    for name in ("augmentation", "data_augmentation"):  # the command line overrules the file
        loaded = config_files.load(path, {name: "('flip(0.3)',)"})
        assert loaded.data_augmentation == ("flip(0.3)",)
    saved = json.loads(config.to_json(config.TrainConfig(data_augmentation=("flip",))))
    assert "augmentation" not in saved
    old = {"augmentation": saved.pop("data_augmentation")} | saved
    assert config.from_mapping(old).data_augmentation == ("flip",)
    with pytest.raises(UsageError, match="augmentation is the old name of data_augmentation; give"):
        config.from_mapping(old | {"data_augmentation": "flip"})


@pytest.mark.parametrize(
    ("body", "overrides", "words"),
    [
        ("    return {'num_step': 1}\n", {}, ["unknown key 'num_step'", "'num_steps'"]),
        ("    return {}\n", {"num_step": "1"}, ["unknown key 'num_step'", "'num_steps'"]),
        ("    return {}\n", {"num_steps": "many"}, ["num_steps must be int", "'many'"]),
        ("    return {}\n", {"num_steps": "1.5"}, ["num_steps must be int", "1.5"]),
        ("    return {'loss': 3}\n", {}, ["loss must be str", "3"]),
        ("    return {}\n", {"num_steps": "0"}, ["num_steps must be in [1, 2147483648), given 0"]),
        ("    return {}\n", {"seed": "-1"}, ["seed must be in [0, 4294967296), given -1"]),
        (
            "    return {}\n",
            {"seed": str(2**32)},
            ["seed must be in [0, 4294967296), given 4294967296"],
        ),
        ("    return 3\n", {}, ["must return a ConfigDict, not int"]),
        ("    return 1 / 0\n", {}, ["ZeroDivisionError"]),
    ],
)
def test_errors(tmp_path, body, overrides, words):
    with pytest.raises(UsageError) as error:
        config_files.load(write(tmp_path / "c.py", body), overrides)
    for word in words:
        assert word in str(error.value)


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "digits.py", "    return {}\n")
    with pytest.raises(UsageError, match=r"digit\.py does not exist; did you mean 'digits\.py'"):
        config_files.load(tmp_path / "digit.py")


def test_file_without_get_config(tmp_path):
    (tmp_path / "c.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"no get_config\(\)"):
        config_files.load(tmp_path / "c.py")


def test_file_with_a_syntax_error(tmp_path):
    (tmp_path / "c.py").write_text("def get_config(:\n")
    with pytest.raises(UsageError, match="SyntaxError"):
        config_files.load(tmp_path / "c.py")


@pytest.mark.parametrize(
    ("row", "on_resume"), [("taken, with old", "ALLOW"), ("refused, unless", "TRANSFER")]
)
def test_the_docs_list_what_may_change_on_resume(root, row, on_resume):
    lines = (root / "docs" / "reliability.md").read_text().splitlines()
    (line,) = (line for line in lines if f"| {row}" in line)
    keys = set(re.findall("`(.*?)`", line.split("|")[1]))
    assert keys == {
        key for key, setting in config.SETTINGS.items() if setting.on_resume.name == on_resume
    }


def test_every_key_is_described_and_names_a_registry():
    import gan.trainers.experiment  # noqa: F401 - registers all parts

    described = config.TrainConfig.__doc__
    for key, setting in config.SETTINGS.items():
        assert re.search(rf"^ *{key}: ", described, re.MULTILINE)
        assert setting.part is None or setting.part in REGISTRIES


def test_every_key_is_listed_with_its_type_default_and_meaning():
    lines = config.describe_keys()
    assert len(lines) == len(config.SETTINGS)
    assert "num_steps=10000  [int, in [1, 2147483648)]  Generator updates to make." in lines
    data_dir = next(line for line in lines if line.startswith("data_dir="))
    assert "data_dir=None  [str or None]  Folder where TFDS has prepared its datasets" in data_dir
