"""The folder of a population: the config that its runs have in common, and in it the folder of each run."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from absl import logging

from gan.config import SETTINGS, OnResume, TrainConfig, difference, from_mapping
from gan.errors import RunError, UsageError, describe
from gan.files import replacing, user_path, write_json
from gan.metrics.metric import deciding_scores
from gan.preemption import Stop
from gan.run_folder import check_ours, check_plain
from gan.text_tables import format_markdown
from gan.trainers.experiment import build
from gan.trainers.metric_writers import logged_lines
from gan.trainers.population.members import plan
from gan.trainers.workdir import check_writable, lock, read_config
from gan.untrusted import read_json

_MEMBERS = "members.json"
_SHOWN = ("diversity", "loss/generator", "loss/discriminator")
_GOES_ON = (OnResume.ALLOW, OnResume.SAME_DATA)
Grid: TypeAlias = Mapping[str, tuple[Mapping[str, str], TrainConfig]]
"""By the name of a run's folder: what varies, by place and as text, and the run's config."""


class Population(NamedTuple):
    """What became of a population.

    Attributes:
      table: Its runs as a table in Markdown.
      errors: Why runs failed, by name.
    """

    table: str
    errors: dict[str, Exception]

    def check(self) -> None:
        """Raises RunError where a run failed."""
        if self.errors:
            whys = "; ".join(f"{name}: {describe(why)}" for name, why in self.errors.items())
            raise RunError(f"{len(self.errors)} of the runs failed: {whys}")


def train_population(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    grid: Grid | None = None,
    *,
    stop: Stop | None = None,
) -> Population:
    """Trains the runs of a population, or goes on with them, each in a folder of its own in `workdir`.

    Args:
      config: What they have in common; `population` is how many seeds there are.
      workdir: The population's folder, made where it is missing.
      grid: The runs, where these are others than the seeds, or than those that the folder has.
      stop: Says when to stop early; None is never.

    Returns:
      A table of them, which `sweep.csv` in the folder has too, and why some failed.

    Raises:
      UsageError: before anything is written, where a config or the folder will not do.
      Stopped: where `stop` asked for it, after saving.
    """
    path = user_path(workdir)
    check_writable(path)
    check_plain(path)
    check_ours(path)
    _check_same(path, config)
    runs = grid or _saved(path, config) or _seeds(config)
    if len(runs) < 2:
        raise UsageError("a population has at least 2 runs; scripts/train.py trains one")
    experiments = {path / name: build(own) for name, (_, own) in runs.items()}
    planned = plan(experiments)
    with lock(path):
        common = dataclasses.replace(config, population=len(runs))
        write_json(path / "config.json", dataclasses.asdict(common))
        if grid:
            write_json(path / _MEMBERS, _differences(common, grid))
        for tables in dict.fromkeys(own.describe_networks() for own in experiments.values()):
            logging.info("%s", tables)  # once, and not for every run
        found = planned.train(stop)
        errors = {own.name: error for own, error in found.items() if error is not None}
        rows = _rows(path, runs, errors)
        with replacing(path / "sweep.csv") as beside, beside.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return Population(format_markdown(rows), errors)


def _seeds(config: TrainConfig) -> Grid:
    """Returns the runs that differ in their seeds."""
    seeds = range(config.seed, config.seed + config.population)
    return {
        f"seed_{seed}": (
            {"seed": str(seed)},
            dataclasses.replace(config, seed=seed, population=1),
        )
        for seed in seeds
    }


def _differences(config: TrainConfig, grid: Grid) -> dict[str, Any]:
    """Returns by name what varies, and the keys in which a run's config differs from the common one."""
    return {
        name: {
            "varied": dict(varied),
            "config": {key: getattr(own, key) for key in difference(config, own)},
        }
        for name, (varied, own) in grid.items()
    }


def _saved(path: pathlib.Path, config: TrainConfig) -> Grid | None:
    """Returns the runs of a sweep that is there, with what the common config has now."""
    file = path / _MEMBERS
    if not file.exists():
        return None
    try:
        grid = {
            str(pathlib.PurePath(name).name): (
                {str(place): str(value) for place, value in entry["varied"].items()},
                from_mapping(dataclasses.asdict(config) | entry["config"]),
            )
            for name, entry in read_json(file, follow=False).items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        raise UsageError(f"{file} does not name the runs of a sweep: {describe(error)}") from error
    if config.population != len(grid):
        raise UsageError(
            f"--workdir={path} is a sweep of {len(grid)} runs, and population = {config.population}: "
            f"choose another workdir"
        )
    return grid


def _check_same(path: pathlib.Path, config: TrainConfig) -> None:
    """Raises UsageError where a folder has a single run, or a population of another config."""
    old = read_config(path)
    if old is None:
        return
    if old.population == 1:
        raise UsageError(f"--workdir={path} holds a single run: choose another for a population")
    lines = difference(old, config)
    changes = [line for key, line in lines.items() if SETTINGS[key].on_resume not in _GOES_ON]
    if changes:
        raise UsageError(
            f"--workdir={path} holds another population: {'; '.join(changes)}. Choose another workdir"
        )


def _rows(path: pathlib.Path, runs: Grid, errors: Mapping[str, Exception]) -> list[list[str]]:
    """Returns a row for each run, and before them the names of the columns."""
    lines = {
        name: logged_lines(path / name / "metrics.jsonl", own.num_steps)
        for name, (_, own) in runs.items()
    }
    logged = {key for own in lines.values() for line in own for key in line}
    best = next((own for own in deciding_scores() if f"eval/{own.name}" in logged), None)
    places = list(dict.fromkeys(place for varied, _ in runs.values() for place in varied))
    shown = [key for key in _SHOWN if key in logged]
    rows = [["run", *places, "steps", *([f"best {best.name}"] if best else []), *shown, "failed"]]
    for name, (varied, _) in runs.items():
        last = lines[name][-1] if lines[name] else {}
        values = [last.get(key) for key in shown]
        if best:
            scores = [line.get(f"eval/{best.name}") for line in lines[name]]
            there = [score for score in scores if score is not None]
            values = [(max if best.higher_is_better else min)(there, default=None), *values]
        texts = ["" if value is None else f"{value:.4g}" for value in values]
        why = describe(errors[name]) if name in errors else ""
        rows.append(
            [
                name,
                *(varied.get(place, "") for place in places),
                str(last.get("step", 0)),
                *texts,
                why,
            ]
        )
    return rows
