"""Recipes score, after a tenth of their length, what they scored when docs/results.md was made.

`pytest -m results` runs these. The bands are the scores of all seeds at that step, in docs/results/,
and half as much again around them. Datasets that nobody prepared are skipped.
"""

import csv
import json
import math

import pytest

import gan
from gan import config_files
from gan.data import DATASETS
from gan.errors import UsageError
from tests.benchmarks.results import AS_IT_IS, KEPT

pytestmark = [pytest.mark.optimized, pytest.mark.results]
MARGIN = 1.5


def recipes():
    for path in sorted(KEPT.glob("recipes/*.json")):
        yield pytest.param(path.stem, json.loads(path.read_text()), id=path.stem)


def band(name, content, step):
    """Returns the least and the greatest score of the recipe's runs at a step."""
    score = content["protocol"]["score"]["name"]
    with (KEPT / "recipes" / f"{name}.csv").open() as file:
        scores = [
            float(row[score])
            for row in csv.DictReader(file)
            if (row["method"], row["purpose"], row["weights"]) == (AS_IT_IS, "reported", weights_of(content))
            and int(row["step"]) == step
        ]  # fmt: skip
    assert scores, f"{name}: no run was scored at step {step}"
    return min(scores), max(scores)


def weights_of(content):
    """Returns the name of the weights by which a recipe is scored."""
    averaging = content["methods"][AS_IT_IS]["config"]["averaging"]
    return averaging[0].partition("(")[0] if averaging else "raw"


@pytest.mark.parametrize(("name", "content"), recipes())
def test_after_a_tenth_of_its_length_a_recipe_scores_what_it_did(name, content, root, tmp_path):
    protocol, config = content["protocol"], content["methods"][AS_IT_IS]["config"]
    tenth = config["num_steps"] // 10
    changes = {
        "num_steps": tenth,
        "eval_every_steps": tenth,
        "sample_every_steps": 0,
        "mesh": "data(1)",
    }
    changes |= {"eval_num_images": config["eval_num_images"]}
    overrides = {key: str(value) for key, value in changes.items()}
    recipe = config_files.load(root / "configs" / f"{name}.py", overrides)
    try:
        DATASETS.build(recipe.dataset, data_dir=recipe.data_dir).load()
    except UsageError as error:
        pytest.skip(str(error))
    run = gan.train(recipe, tmp_path / "run")
    low, high = band(name, content, tenth)
    found = run.metrics[-1][f"eval/{protocol['score']['name']}"]
    assert math.isfinite(found) and low / MARGIN <= found <= high * MARGIN
