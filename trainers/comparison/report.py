"""The report of a comparison: a table, every score as CSV, everything as JSON, and a picture."""

import contextlib
import csv
import dataclasses
import math
import pathlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import optax

from gan import machine
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.files import replacing, write_json
from gan.metrics.metric import Score
from gan.text_tables import format_markdown
from gan.trainers.comparison.design import Design
from gan.trainers.comparison.matching import MATCHES, Match, common_cost
from gan.trainers.comparison.methods import Method
from gan.trainers.comparison.picture import draw
from gan.trainers.comparison.ranking import (
    Estimate,
    MethodResult,
    Row,
    choose_baseline,
    costs_of_steps,
    rank,
)
from gan.trainers.comparison.runs import Outcome


@dataclass(frozen=True)
class Found:
    """Everything that a comparison found.

    Attributes:
      config: The config that the methods have in common.
      design: How they were compared.
      score: The score by which they are ranked.
      others: Further scores that the table has.
      results: What was found of each method with a reported run.
      tuning: The outcomes of the runs for tuning, by method.
      left_out: The methods without a reported run.
    """

    config: TrainConfig
    design: Design
    score: Score
    others: Sequence[Score]
    results: Sequence[MethodResult]
    tuning: dict[str, list[Outcome]]
    left_out: Sequence[Method]

    def rank(self, match: Match) -> list[Row]:
        """Ranks the methods; see `ranking.rank`."""
        others = [score for score in self.others if score.name != self.score.name]
        return rank(self.results, match, self.score, others)

    def baseline(self, rows: Sequence[Row]) -> str:
        """Returns the name of the method with which the others are compared."""
        there = {row.result.method.name for row in rows}
        chosen = self.design.baseline
        return chosen if chosen is not None and chosen in there else choose_baseline(rows)


def write_report(found: Found, output: pathlib.Path) -> str:
    """Writes `comparison.csv`, `.json` and `.png`, and returns the table of `design.match`.

    Raises:
      UsageError: where the methods cannot be read at that cost.
    """
    match = found.design.match
    rows = found.rank(match)
    _write_csv(found, output / "comparison.csv")
    write_json(output / "comparison.json", _describe(found))
    draw(
        output / "comparison.png",
        found.config.dataset,
        rows,
        found.score,
        match,
        found.baseline(rows),
    )
    files = f"{output}/comparison.png, .csv and .json have all scores and the protocol"
    return "\n\n".join([_caption(found, rows), _table(found, rows), *_notes(found), files])


def _caption(found: Found, rows: Sequence[Row]) -> str:
    """Says what is compared, where it is read, and by which statistics."""
    design, score = found.design, found.score
    direction = "higher" if score.higher_is_better else "lower"
    what = (
        f"{found.config.dataset}: {score.name} ({direction} is better) of "
        f"{found.config.eval_num_images:,} samples, {_count(design.num_seeds, 'seed')}"
    )
    statistics = (
        f"mean [95% bootstrap interval]; better: how often a run is better than one of "
        f"{found.baseline(rows)}"
    )
    return "\n".join([what, _tuned(found), _matched(found, rows, design.match), statistics])


def _tuned(found: Found) -> str:
    """Says where the learning rates are from."""
    design = found.design
    if all(own.rate is None for own in found.results):
        return "learning rates: each method's own"
    grid = ", ".join(f"{rate:g}" for rate in design.learning_rates)
    if len(design.learning_rates) == 1:
        return f"learning rate {grid}"
    others = _count(design.num_tuning_seeds, "other seed")
    return f"learning rates: the best of {grid} on {others}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _matched(found: Found, rows: Sequence[Row], match: Match) -> str:
    """Says at which cost the methods are read."""
    lengths = {own.method.name: own.num_steps for own in found.results}
    cost = common_cost(lengths, costs_of_steps(found.results, match))
    amount = f"{cost:,.3g}" if match == "seconds" else f"{cost:,.0f}"
    whole = all(row.step == row.result.num_steps for row in rows)
    place = "at their end" if whole else "where that was spent, the cheapest at its end"
    return f"all runs are read at {amount} {match}: {place}"


def _table(found: Found, rows: Sequence[Row]) -> str:
    """Formats a row for each method, the best first."""
    baseline = found.baseline(rows)
    ends = found.design.match == "steps"
    names = dict.fromkeys(name for row in rows for name in row.others)
    head = ["", "learning rate", found.score.name, "better", *names]
    head += [f"{found.score.name} of the last iterate"] * ends + ["step", "gradients", "seconds"]
    table = [head]
    for row in rows:
        own = row.result
        name = own.method.name
        chance = "(baseline)" if name == baseline else _percent(row.better.get(baseline, math.nan))
        last = Estimate.of(own.scores_of_last_iterate(found.score))
        table.append(
            [
                name,
                "its own" if own.rate is None else f"{own.rate:g}{'*' if own.at_edge else ''}",
                _estimate(row.deciding, found.score.number_format),
                chance,
                *(_estimate(row.others[o], ".3f") if o in row.others else "-" for o in names),
                *([_estimate(last, found.score.number_format)] * ends),
                f"{row.step:,.0f}",
                "-" if own.gradients is None else f"{row.step * own.gradients:,.0f}",
                "-" if own.seconds is None else f"{row.step * own.seconds:,.3g}",
            ]
        )
    return format_markdown(table)


def _estimate(estimate: Estimate, number_format: str) -> str:
    """Formats a mean with its interval; says how many scores are not finite."""
    if estimate.num_infinite:
        rest = estimate.mean_of_finite
        others = "" if math.isnan(rest) else f", the others {rest:{number_format}}"
        return f"{estimate.num_infinite} of {len(estimate.values)} not finite{others}"
    if math.isnan(estimate.mean):
        return "not evaluated so early"
    text = f"{estimate.mean:{number_format}}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} [{low:{number_format}}, {high:{number_format}}]"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _notes(found: Found) -> list[str]:
    """Returns what is to be known besides the numbers, each a line."""
    notes = []
    if edges := [own.method.name for own in found.results if own.at_edge]:
        notes.append(
            f"* the best learning rate is the smallest or largest of the grid, and a better one may lie "
            f"beyond (--learning_rates): {', '.join(edges)}"
        )
    for own in found.results:
        if (there := len(own.reported)) < found.design.num_seeds:
            notes.append(
                f"{own.method.name}: only {there} of {found.design.num_seeds} runs are finished"
            )
        for outcome in own.reported:
            if outcome.failure is not None:
                notes.append(
                    f"{own.method.name}, seed {outcome.run.config.seed} failed: {outcome.failure}"
                )
            elif missing := [step for step in outcome.run.steps if step not in outcome.along]:
                notes.append(
                    f"{own.method.name}, seed {outcome.run.config.seed}: no score at {len(missing)} steps, "
                    f"which count as the worst; history.jsonl in its folder says why"
                )
    for method in found.left_out:
        reason = (
            "no finite score at any learning rate" if found.tuning[method.name] else "not run yet"
        )
        notes.append(f"{method.name} is left out: {reason}")
    if notes:
        notes = ["\n".join(notes)]
    return notes


def _write_csv(found: Found, path: pathlib.Path) -> None:
    """Writes a line for each run, evaluated step and weights."""
    outcomes = [outcome for own in found.tuning.values() for outcome in own]
    outcomes += [outcome for own in found.results for outcome in own.reported]
    costs = {own.method.name: (own.gradients, own.seconds) for own in found.results}
    names = sorted(_score_names(outcomes))
    with replacing(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = [
            "method",
            "learning_rate",
            "purpose",
            "seed",
            "step",
            "gradients",
            "seconds",
            "weights",
        ]
        writer.writerow([*head, *names, "failed"])
        for outcome in outcomes:
            run = outcome.run
            scored = [(step, run.weights, scores) for step, scores in outcome.along.items()]
            if outcome.last_iterate and run.weights != "raw":
                scored.append((run.config.num_steps, "raw", outcome.last_iterate))
            if outcome.failure is not None:
                scored.append((run.config.num_steps, run.weights, {}))
            for step, weights, scores in scored:
                spent = [
                    "" if cost is None else f"{cost * step:.6g}"
                    for cost in costs.get(run.method.name, (None, None))
                ]
                rate = "" if run.rate is None else run.rate
                line = [run.method.name, rate, run.purpose, run.config.seed, step, *spent, weights]
                numbers = [f"{scores[name]:.9g}" if name in scores else "" for name in names]
                writer.writerow([*line, *numbers, int(not scores)])


def _describe(found: Found) -> dict[str, Any]:
    """Returns the protocol, and what was found, as JSON has it."""
    design = found.design
    protocol = next(
        outcome.protocol for own in found.results for outcome in own.reported if outcome.protocol
    )
    tables: dict[str, Any] = {}
    for match in MATCHES:
        with contextlib.suppress(UsageError):  # a cost that is not known
            rows = found.rank(match)
            tables[match] = {
                "cost": _matched(found, rows, match), "baseline": found.baseline(rows),
                "rows": [_describe_row(row) for row in rows],
            }  # fmt: skip
    return {
        "protocol": {
            "machine": machine.describe(),
            "versions": {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__},
            "config": dataclasses.asdict(found.config),
            "methods": {method.name: dict(method.settings) for method in design.methods},
            "learning_rates": list(design.learning_rates),
            "tuning_seeds": sorted({o.run.config.seed for own in found.tuning.values() for o in own}),
            "tuning_steps": design.tuning_steps,
            "seeds": sorted({o.run.config.seed for own in found.results for o in own.reported}),
            "evaluations": design.num_evaluations,
            "score": dataclasses.asdict(found.score),
            "scorer": dataclasses.asdict(protocol) | {"seed": "the run's own"},
        },
        "methods": {own.method.name: _describe_method(own, found.score) for own in found.results},
        "left_out": [method.name for method in found.left_out],
        "tables": tables,
        "notes": _notes(found),
    }  # fmt: skip


def _describe_method(own: MethodResult, score: Score) -> dict[str, Any]:
    tuning: dict[str, list[float | None]] = {}
    for outcome in own.tuning:
        end = outcome.along.get(outcome.run.config.num_steps, {})
        tuning.setdefault(str(outcome.run.rate), []).append(end.get(score.name))
    return {
        "learning_rate": own.rate, "at_edge_of_grid": own.at_edge, "tuning": tuning,
        "gradients_per_step": own.gradients, "seconds_per_step": own.seconds,
        "last_iterate": own.scores_of_last_iterate(score),
        "config": dataclasses.asdict(own.reported[0].run.config) | {"seed": None},
    }  # fmt: skip


def _describe_row(row: Row) -> dict[str, Any]:
    return {
        "method": row.result.method.name, "step": row.step, "mean": row.deciding.mean,
        "interval": row.deciding.interval, "values": row.deciding.values, "better_than": row.better,
        "others": {name: dataclasses.asdict(own) for name, own in row.others.items()},
    }  # fmt: skip


def _score_names(outcomes: Sequence[Outcome]) -> set[str]:
    return {name for own in outcomes for scores in own.along.values() for name in scores}
