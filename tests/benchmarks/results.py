"""Makes the tables of comparisons in the docs anew from what `scripts/compare.py` left.

    python -m tests.benchmarks.results --keep runs/compare/digits digits            # keeps one, as docs/results/digits.*
    python -m tests.benchmarks.results --keep runs/results/digits recipes/digits    # and one of a recipe, as it is
    python -m tests.benchmarks.results                                              # writes all tables into the docs

A table of methods stands between `<!-- results: NAME -->` and `<!-- end of results -->`. One of recipes as they are, one a
row, stands between `<!-- recipes: NAME NAME ... -->` and `<!-- end of recipes -->`: the method `AS_IT_IS` of the comparisons
recipes/NAME. tests/test_results.py compares them with the files.
"""

import argparse
import json
import math
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

from gan.text_tables import format_markdown
from gan.trainers.comparison.ranking import Estimate

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
KEPT = DOCS / "results"
_OTHER_COSTS = ("gradients", "seconds")
AS_IT_IS = "as it is"
_PLACE = re.compile(r"(<!-- (results|recipes): (.+?) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def keep(folder: pathlib.Path, name: str) -> None:
    """Takes a finished comparison over into the docs: its numbers, without this machine's folders, and its picture."""
    (KEPT / name).parent.mkdir(parents=True, exist_ok=True)
    text = (folder / "comparison.json").read_text()
    (KEPT / f"{name}.json").write_text(re.sub(r'("data_dir": )".*?"', r"\1null", text))
    shutil.copy(folder / "comparison.csv", KEPT / f"{name}.csv")
    picture = f"comparison_{name.replace('/', '_')}.png"
    shutil.copy(folder / "comparison.png", DOCS / "images" / picture)


def read(name: str) -> dict[str, Any]:
    """Returns the content of a comparison that is kept."""
    return json.loads((KEPT / f"{name}.json").read_text())


def written(text: str) -> str:
    """Returns the text of a page with all of its tables made anew."""

    def table(found: re.Match[str]) -> str:
        if found[2] == "results":
            text = make_table(read(found[3]))
        else:
            text = make_recipe_table({name: read(f"recipes/{name}") for name in found[3].split()})
        return f"{found[1]}\n{text}\n\n{found[4]}"

    return _PLACE.sub(table, text)


def pages() -> Iterable[pathlib.Path]:
    """Yields the pages of the docs that have such tables."""
    for path in sorted(DOCS.glob("*.md")):
        if _PLACE.search(path.read_text()):
            yield path


def make_table(content: dict[str, Any]) -> str:
    """Formats a comparison read at equal steps, the best method first; and its score at other equal costs.

    Args:
      content: The content of its `comparison.json`.
    """
    protocol, table = content["protocol"], content["tables"]["steps"]
    names = sorted({name for row in table["rows"] for name in row["others"]})
    costs = [match for match in _OTHER_COSTS if match in content["tables"]]
    head = ["", "learning rate", protocol["score"]["name"], "better", *names, "last iterate"]
    head += [f"at equal {match}" for match in costs]
    rows = [_row(own, content, names, costs) for own in table["rows"]]
    return "\n\n".join([_caption(content), format_markdown([head, *rows])])


def make_recipe_table(contents: dict[str, dict[str, Any]]) -> str:
    """Formats what recipes reach as they are, at their ends.

    Args:
      contents: The contents of comparisons' `comparison.json`, by the recipes' names.
    """
    kept = {name: _row_of(content, AS_IT_IS) for name, content in contents.items()}
    names = sorted({name for row in kept.values() for name in row["others"]})
    head = [
        "recipe",
        "data",
        "steps",
        "seeds",
        "score",
        *names,
        "last iterate",
        "minutes",
        "machine",
    ]
    return format_markdown(
        [head, *(_recipe(name, contents[name], kept[name], names) for name in contents)]
    )


def _recipe(
    name: str, content: dict[str, Any], row: dict[str, Any], names: Sequence[str]
) -> list[str]:
    protocol, method = content["protocol"], content["methods"][AS_IT_IS]
    config, number_format = method["config"], protocol["score"]["number_format"]
    seconds = method["seconds_per_step"]  # None where `--report_only` measured none
    minutes = "-" if seconds is None else f"{config['num_steps'] * seconds / 60:.1f}"
    return [
        f"`{name}`", config["dataset"], f"{config['num_steps']:,}", str(len(protocol["seeds"])),
        f"{protocol['score']['name']} {_estimate(row['values'], number_format)}",
        *(_other(row, other, ".3f") for other in names),
        _estimate(method["last_iterate"], number_format, interval=False),
        minutes, protocol["machine"],
    ]  # fmt: skip


def _row_of(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a method's row at equal steps."""
    return next(row for row in content["tables"]["steps"]["rows"] if row["method"] == name)


def _other(row: dict[str, Any], name: str, number_format: str = ".2f") -> str:
    """Formats a further score of a row; a dash where the method does not have it."""
    return _estimate(row["others"][name]["values"], number_format) if name in row["others"] else "-"


def _caption(content: dict[str, Any]) -> str:
    protocol, table = content["protocol"], content["tables"]["steps"]
    seeds, config = protocol["seeds"], protocol["config"]
    direction = "higher" if protocol["score"]["higher_is_better"] else "lower"
    text = (
        f"{config['dataset']}, {protocol['score']['name']} ({direction} is better) of "
        f"{config['eval_num_images']:,} samples, {len(seeds)} seeds, {protocol['machine']}; {table['cost']}."
    )
    tuned = any(method["learning_rate"] is not None for method in content["methods"].values())
    if tuned and len(protocol["learning_rates"]) > 1:
        steps = protocol["tuning_steps"] or config["num_steps"]
        grid = ", ".join(f"{rate:g}" for rate in protocol["learning_rates"])
        count = len(protocol["tuning_seeds"])
        text += (
            f" Learning rate: the best of {grid} after {steps:,} steps "
            f"from {count} other seed{'s' * (count > 1)}."
        )
    return text


def _row(
    own: dict[str, Any], content: dict[str, Any], names: Sequence[str], costs: Sequence[str]
) -> list[str]:
    name = own["method"]
    method, baseline = content["methods"][name], content["tables"]["steps"]["baseline"]
    number_format = content["protocol"]["score"]["number_format"]
    rate = "its own" if method["learning_rate"] is None else f"{method['learning_rate']:g}"
    better = own["better_than"].get(baseline)
    elsewhere = [
        next(row["values"] for row in content["tables"][cost]["rows"] if row["method"] == name)
        for cost in costs
    ]
    return [
        name,
        rate + "*" * method["at_edge_of_grid"],
        _estimate(own["values"], number_format),
        "(baseline)" if name == baseline else "-" if better is None else f"{better:.0%}",
        *(_other(own, other) for other in names),
        _estimate(method["last_iterate"], number_format, interval=False),
        *(_estimate(values, number_format, interval=False) for values in elsewhere),
    ]


def _estimate(values: Sequence[float | None], number_format: str, interval: bool = True) -> str:
    """Formats a mean with its interval; says how many scores are not finite."""
    estimate = Estimate.of([math.inf if value is None else value for value in values])
    if estimate.num_infinite:
        return f"{estimate.num_infinite} of {len(values)} not finite"
    text = f"{estimate.mean:{number_format}}"
    if not interval or estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} [{low:{number_format}}, {high:{number_format}}]"


def main() -> None:
    """Keeps a comparison, or writes all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", nargs=2, metavar=("FOLDER", "NAME"))
    flags = parser.parse_args()
    if flags.keep:
        keep(pathlib.Path(flags.keep[0]), flags.keep[1])
    for path in pages():
        path.write_text(written(path.read_text()))
        print(path.name)


if __name__ == "__main__":
    main()
