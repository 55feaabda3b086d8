"""The picture of a comparison: score against cost, with bands, a panel for each dynamics."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gan.files import replacing
from gan.metrics.metric import Score
from gan.trainers.comparison.matching import Match
from gan.trainers.comparison.ranking import Estimate, MethodResult, Row, scores_along

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's, which the colour-blind can tell apart, without yellow and black."""

_STYLES = ("-", "--", ":", "-.")
_COLUMNS = 4
_LOG_FROM = 5.0  # the scores' range, as a ratio, from which their axis is logarithmic


def draw(
    path: pathlib.Path,
    title: str,
    rows: Sequence[Row],
    score: Score,
    match: Match,
    baseline: str,
) -> None:
    """Draws the mean score of each method against what it has cost.

    Each dynamics has a panel, in which the baseline is black and all other methods are grey. Over the
    steps of a method that is alone stand the minutes that they take.

    Args:
      path: The file.
      title: The title.
      rows: The methods, the best first.
      score: The score.
      match: The cost.
      baseline: The name of the method that is in every panel.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(row.result.reported[0].run.config.dynamics, []).append(row)
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns + 1, 3.6 * lines + 0.6), dpi=100, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    labels = dict.fromkeys(_label(row) for own in panels.values() for row in own)
    looks = {label: _look(place) for place, label in enumerate(sorted(labels))}
    for axes, (dynamics, own) in zip(grid, panels.items(), strict=False):
        for row in rows:
            if row.result.method.name == baseline:
                label = f"baseline: {baseline}" if len(rows) > 1 else baseline
                _draw_method(axes, row, score, match, label, _BLACK)
            elif row in own:
                _draw_method(axes, row, score, match, _label(row), looks[_label(row)])
            else:
                costs, means, _, _ = _curve(row.result, score, match)
                axes.plot(costs, means, color="0.85", linewidth=0.8, zorder=1)
        axes.set_title(dynamics, fontsize=9)
        axes.legend(fontsize=7, frameon=False)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    grid[0].locator_params(axis="x", nbins=5)
    _set_scale(grid[0], rows, score, match)
    if len(rows) == 1 and match == "steps":
        _add_minutes(grid[0], rows[0].result.seconds)
    better = "higher" if score.higher_is_better else "lower"
    num_seeds = max(len(row.result.reported) for row in rows)
    figure.supxlabel(match, fontsize=10)
    figure.supylabel(f"{score.name}, {better} is better", fontsize=10)
    what = f"mean of {num_seeds} seeds, with 95% bootstrap intervals" if num_seeds > 1 else "1 seed"
    figure.suptitle(f"{title}: {what}", fontsize=11)
    with replacing(path) as beside:
        figure.savefig(beside, format="png")


def _add_minutes(axes: Any, seconds_per_step: float | None) -> None:
    """Shows above an axis of steps what they take, if that was measured."""
    if seconds_per_step:
        minutes = seconds_per_step / 60
        above = axes.secondary_xaxis("top", (lambda x: x * minutes, lambda x: x / minutes))
        above.set_xlabel("minutes", fontsize=9)


_BLACK = {"color": "black", "linestyle": "-", "linewidth": 1.0}


def _look(place: int) -> dict[str, Any]:
    style = _STYLES[place // len(_COLOURS) % len(_STYLES)]
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": style, "linewidth": 1.6}


def _label(row: Row) -> str:
    """Returns what distinguishes a method from others of its dynamics: its name without that."""
    name, dynamics = row.result.method.name, row.result.reported[0].run.config.dynamics
    return name.removeprefix(dynamics).strip() or name


def _curve(
    own: MethodResult, score: Score, match: Match
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns cost, mean, and both ends of the interval, at each evaluation, `[P]` each.

    NaN is a mean that is infinite, and an interval that there is none of.
    """
    cost = own.cost_of_step(match)
    assert cost is not None
    steps = np.array(own.reported[0].run.steps)
    by_run = np.array([scores_along(outcome, score) for outcome in own.reported])  # [seeds, P]
    estimates = [Estimate.of(values.tolist()) for values in by_run.T]
    means = np.array([own.mean if math.isfinite(own.mean) else math.nan for own in estimates])
    ends = np.array([own.interval or (math.nan, math.nan) for own in estimates])  # [P, 2]
    return steps * cost, means, ends[:, 0], ends[:, 1]


def _draw_method(
    axes: Any, row: Row, score: Score, match: Match, label: str, look: dict[str, Any]
) -> None:
    costs, means, low, high = _curve(row.result, score, match)
    axes.plot(costs, means, label=label, zorder=3, **look)
    axes.fill_between(costs, low, high, color=look["color"], alpha=0.2, linewidth=0, zorder=2)


def _set_scale(axes: Any, rows: Sequence[Row], score: Score, match: Match) -> None:
    """Makes the axis of the scores logarithmic where they are positive and of a wide range."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    means = np.concatenate([_curve(row.result, score, match)[1] for row in rows])
    means = means[np.isfinite(means)]
    if len(means) and means.min() > 0 and means.max() > _LOG_FROM * means.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
