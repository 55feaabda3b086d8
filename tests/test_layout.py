"""The shape of the project itself: folders, imports, packages."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

LAYERS = ["gan", "gan.models", "gan.trainers", "scripts"]
FOLDERS = {"gan": "gan", "models": "gan.models", "trainers": "gan.trainers", "scripts": "scripts"}


def imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> int | None:
    if module.split(".")[0] != "gan":
        return LAYERS.index("scripts") if module.startswith("scripts") else None
    inner = ".".join(module.split(".")[:2])
    return LAYERS.index(inner) if inner in LAYERS else 0


def test_imports_point_one_way(root):
    for folder, layer in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            if path == root / "gan" / "__init__.py":  # the public names, imported at first use
                continue
            for module in imports(path):
                other = layer_of(module)
                assert other is None or other <= LAYERS.index(layer), f"{path} imports {module}"


def test_configs_import_only_ml_collections_and_one_another(root):
    for path in (root / "configs").glob("*.py"):
        others = {module for module in imports(path) if not f"{module}.".startswith("gan.configs.")}
        assert {module.split(".")[0] for module in others} <= {"ml_collections"}


def test_every_package_is_listed(root):
    listed = set(
        tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    there = {
        name + "".join(f".{part}" for part in path.parent.relative_to(root / folder).parts)
        for folder, name in (FOLDERS | {"configs": "gan.configs"}).items()
        for path in (root / folder).rglob("__init__.py")
    }
    assert listed == there


def test_the_requirements_without_tensorflow_are_the_other_dependencies(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    others = [
        line
        for line in project["dependencies"]
        if re.match(r"[\w-]+", line).group() not in ("tensorflow", "tensorflow-cpu")
    ]
    assert len(others) == len(project["dependencies"]) - 2
    head, *lines = (root / "requirements-without-tensorflow.txt").read_text().splitlines()
    assert head.startswith("# ")
    assert lines == others


def modules(root):
    """Yields the path of each module of ours, without `__init__`."""
    for folder in ("gan", "models", "trainers"):
        for path in (root / folder).rglob("*.py"):
            if path.stem != "__init__":
                yield path


ROOMS = {  # whose files are tested together
    "gan/analysis": "trajectories", "gan/dynamics": "dynamics", "gan/games": "games",
    "gan/metrics": "metrics", "gan/data/sources": "datasets", "gan/regularizers": "regularizers",
    "trainers/comparison": "compare_script", "trainers/diagnosis": "spectrum_script", "trainers/population": "population",
}  # fmt: skip
ELSEWHERE = {  # tested by a file with a more telling name
    "nonfinite": "monitoring", "manifest": "checkpoints",
    "trees": "checkpoints", "state": "experiment", "cli": "train_script",
    "sharding": "train_step", "dataset": "datasets", "permutation": "batches", "decoded_cache": "tfds",
    "experiment_checks": "experiment", "experiment_warnings": "experiment", "resize": "image_decoding", "published_files": "prepare",
    "annotations": "registry", "network": "networks", "dcgan": "networks", "mlp": "networks", "resnet": "networks",
    "r3gan": "networks", "classifier": "features", "inception_weights": "inception",
    "train": "train_script",
    "evaluate": "evaluate_script", "results": "evaluate_script", "table": "evaluate_script",
    "cpu_convolutions": "convolutions", "geometry": "convolutions",
    "classifier_training": "features", "trained_classifier": "features",
}  # fmt: skip


def test_every_module_has_its_test(root):
    tests = {path.stem.removeprefix("test_") for path in (root / "tests").rglob("test_*.py")}
    for path in modules(root):
        room = ROOMS.get(path.parent.relative_to(root).as_posix(), path.stem)
        names = {path.stem, room, ELSEWHERE.get(path.stem)}
        assert names & tests, f"{path} has no test"
    stems = {path.stem for path in modules(root)}
    assert set(ELSEWHERE) <= stems


def test_the_house_stays_one_that_is_understood_at_sight(root):
    """A file or a room that outgrows these limits has to be reshaped."""
    longest = max(modules(root), key=lambda path: len(path.read_text().splitlines()))
    assert len(longest.read_text().splitlines()) < 400, longest
    assert len(list((root / "trainers").glob("*.py"))) <= 13
    loop = ast.parse((root / "trainers" / "train.py").read_text())
    ours = [node for node in ast.walk(loop) if isinstance(node, ast.ImportFrom)]
    assert len([node for node in ours if node.module.startswith("gan")]) <= 13


NOUN_PHRASES = {"A", "An", "The", "How", "Of", "What", "Whether", "Which", "Why"}


def test_docstrings_of_functions_begin_with_a_verb(root):
    wrong = []
    for path in [*modules(root), *(root / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not (doc := ast.get_docstring(node)):
                continue
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            described_as_nouns = "property" in decorators or ".register" in decorators
            if not described_as_nouns and doc.split()[0] in NOUN_PHRASES:
                wrong.append(f"{path.relative_to(root)}:{node.lineno} {doc.splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    [
        "import gan",
        "import gan.games, gan.dynamics, gan.optimizers, gan.data, gan.models, gan.checkpoints",
        "import gan.trainers.train, gan.trainers.evaluation.evaluate",
        "from gan.data import DATASETS; DATASETS.build('mnist'); DATASETS.build('digits').load()",
    ],
)
def test_nothing_imports_tensorflow_before_it_is_needed(code):
    check = f"{code}\nimport sys\nassert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=120)
