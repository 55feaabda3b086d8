"""Tables of comparisons in the docs have the numbers of the comparisons."""

import json

import pytest

from tests.benchmarks import results

CONTENT = {
    "protocol": {
        "machine": "2 cores", "config": {"dataset": "digits", "num_steps": 100, "eval_num_images": 2_500},
        "learning_rates": [1e-3, 2e-3], "tuning_seeds": [1_000, 1_001], "tuning_steps": None, "seeds": [0, 1, 2],
        "score": {"name": "fid", "higher_is_better": False, "number_format": ".2f"},
    },
    "methods": {
        "a": {"learning_rate": 1e-3, "at_edge_of_grid": True, "last_iterate": [3.0, 5.0, None]},
        "b": {"learning_rate": None, "at_edge_of_grid": False, "last_iterate": [3.0, 5.0, 7.0]},
    },
    "tables": {"steps": {"cost": "all runs are read at 100 steps: at their end", "baseline": "b", "rows": [
        {"method": "a", "step": 100, "values": [1.0, 2.0, 3.0], "better_than": {"b": 1.0},
         "others": {"recall": {"values": [0.5, 0.25, 0.75]}}},
        {"method": "b", "step": 100, "values": [4.0, 4.0, 4.0], "better_than": {"a": 0.0},
         "others": {"recall": {"values": [0.5, 0.5, 0.5]}}},
    ]}, "gradients": {"rows": [
        {"method": "b", "values": [4.0, 4.0, 7.0]}, {"method": "a", "values": [6.0, 6.0, None]},
    ]}},
}  # fmt: skip


@pytest.mark.parametrize("page", list(results.pages()), ids=lambda path: path.name)
def test_the_tables_in_the_docs_are_those_of_the_comparisons(page):
    assert results.written(page.read_text()) == page.read_text()


def test_a_table_has_means_with_intervals_and_the_protocol():
    lines = results.make_table(CONTENT).splitlines()
    assert lines[0] == (
        "digits, fid (lower is better) of 2,500 samples, 3 seeds, 2 cores; all runs are read at 100 steps: at "
        "their end. Learning rate: the best of 0.001, 0.002 after 100 steps from 2 other seeds."
    )
    assert lines[2:] == [
        "|  | learning rate | fid | better | recall | last iterate | at equal gradients |",
        "|---|---|---|---|---|---|---|",
        "| a | 0.001* | 2.00 [1.00, 3.00] | 100% | 0.50 [0.25, 0.75] | 1 of 3 not finite | 1 of 3 not finite |",
        "| b | its own | 4.00 [4.00, 4.00] | (baseline) | 0.50 [0.50, 0.50] | 5.00 | 5.00 |",
    ]


def test_a_row_for_each_recipe_as_it_is():
    methods = CONTENT["methods"] | {results.AS_IT_IS: {
        "config": {"dataset": "digits", "num_steps": 3_000}, "seconds_per_step": 0.05, "last_iterate": [4.0, 6.0, 8.0],
    }}  # fmt: skip
    row = {
        "method": results.AS_IT_IS,
        "values": [1.0, 2.0, 3.0],
        "others": {"confident": {"values": [0.9, 0.9, 0.9]}},
    }
    other = CONTENT["tables"]["steps"]["rows"][0]
    own = CONTENT | {"methods": methods, "tables": {"steps": {"rows": [other, row]}}}
    recall = row | {"others": {"recall": {"values": [0.5, 0.5, 0.5]}}}
    second = own | {"tables": {"steps": {"rows": [recall]}}}
    assert results.make_recipe_table({"first": own, "second": second}).splitlines() == [
        "| recipe | data | steps | seeds | score | confident | recall | last iterate | minutes | machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| `first` | digits | 3,000 | 3 | fid 2.00 [1.00, 3.00] | 0.900 [0.900, 0.900] | - | 6.00 | 2.5 | 2 cores |",
        "| `second` | digits | 3,000 | 3 | fid 2.00 [1.00, 3.00] | - | 0.500 [0.500, 0.500] | 6.00 | 2.5 | 2 cores |",
    ]


def test_what_is_kept_has_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(results, "DOCS", tmp_path)
    (tmp_path / "images").mkdir()
    content = {"config": {"data_dir": str(tmp_path), "seed": 0}}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    for suffix in ("csv", "png"):
        (tmp_path / f"comparison.{suffix}").touch()
    results.keep(tmp_path, "recipes/mine")
    assert results.read("recipes/mine") == {"config": {"data_dir": None, "seed": 0}}


def test_other_numbers_in_a_page_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "KEPT", tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps(CONTENT))
    page = "Before.\n\n<!-- results: mine -->\n<!-- end of results -->\n\nAfter.\n"
    text = results.written(page)
    assert text.startswith("Before.\n\n<!-- results: mine -->\n\ndigits, fid")
    assert text.endswith("| 5.00 | 5.00 |\n\n<!-- end of results -->\n\nAfter.\n")
    assert results.written(text) == text
    assert results.written(text.replace("2.00", "1.00")) == text
