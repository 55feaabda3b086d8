"""The shape of the project itself: folders, imports, packages."""

import ast
import pathlib
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
            for module in imports(path):
                other = layer_of(module)
                assert other is None or other <= LAYERS.index(layer), f"{path} imports {module}"


def test_configs_import_only_ml_collections(root):
    for path in (root / "configs").glob("*.py"):
        assert {module.split(".")[0] for module in imports(path)} <= {"ml_collections"}


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


def test_every_module_has_its_test(root):
    tests = {path.stem.removeprefix("test_") for path in (root / "tests").glob("test_*.py")}
    shared = {  # tested by a file with a more telling name
        "game": "games", "adversarial": "games", "quadratic": "dynamics", "dirac": "play", "theory": "dynamics", "game_report": "games_script",
        "compare": "compare_script", "dataset": "datasets",
        "digits": "datasets", "gaussians": "datasets", "dcgan": "networks",
        "mlp": "networks", "resnet": "networks", "r3gan": "networks", "registry": "networks", "state": "experiment", "loop": "train_script",
        "sampling": "train_script", "reports": "train_script", "opponent": "benchmark", "noise": "datasets", "cli": "train_script", "catalog": "train_script",
        "sharding": "train_step", "nonfinite": "health", "run": "start", "manifests": "checkpoints",
        "cache": "tfds", "pixels": "images", "preview": "prepare_script", "published": "prepare", "user_cache": "features", "classifier": "features", "frechet": "evaluation", "kernel": "evaluation", "marginals": "evaluation", "mixtures": "evaluation", "neighbours": "evaluation", "vendi": "evaluation", "inception_weights": "inception", "results": "evaluate_script",
    }  # fmt: skip
    tests |= {path.stem.removeprefix("test_") for path in (root / "tests/integration").glob("*.py")}
    for folder in ("gan", "models", "trainers"):
        for path in (root / folder).rglob("*.py"):
            if path.stem != "__init__":
                assert shared.get(path.stem, path.stem) in tests, f"{path} has no test"


@pytest.mark.parametrize(
    "code",
    [
        "import gan",
        "import gan.games, gan.dynamics, gan.optimizers, gan.data, gan.models, gan.checkpoints",
        "import gan.trainers.loop, gan.trainers.catalog",
        "from gan.data import DATASETS; DATASETS.build('mnist'); DATASETS.build('digits').load()",
    ],
)
def test_nothing_imports_tensorflow_before_it_is_needed(code):
    check = f"{code}\nimport sys\nassert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=120)
