"""The runs of a comparison: their folders, their training, and their scores along the way."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from absl import logging

from gan.checkpoints import Checkpoints
from gan.config import SETTINGS, OnResume, TrainConfig, difference
from gan.errors import NotFiniteError, RunError, UsageError
from gan.files import write_json
from gan.preemption import Stop
from gan.trainers.comparison.methods import Method
from gan.trainers.evaluation.evaluate import make_run_evaluator
from gan.trainers.evaluation.results import Protocol, Result, read_results
from gan.trainers.population import train_members
from gan.trainers.population.members import is_complete
from gan.trainers.resume import load_step
from gan.trainers.workdir import read_config
from gan.untrusted import read_json

Purpose = Literal["tuning", "reported"]
_FAILED = "failed.json"  # in the folder of a run that diverged
_LENGTH = ("num_steps", "eval_every_steps")
_DECIDE_SCORES = (*_LENGTH, "eval_num_images", "eval_features")


@dataclass(frozen=True)
class ComparedRun:
    """A run of a comparison.

    Attributes:
      method: What it is a run of.
      rate: Its learning rate of the grid; None where the method takes none.
      purpose: Whether it helps to choose the learning rate, or is reported.
      config: What is trained; its seed, and when it is evaluated.
      workdir: Its folder.
      weights: The name of the weights that are scored along the way: the first average, or `raw`.
    """

    method: Method
    rate: float | None
    purpose: Purpose
    config: TrainConfig
    workdir: pathlib.Path
    weights: str

    @property
    def steps(self) -> range:
        """The steps at which it is scored."""
        every = self.config.eval_every_steps
        return range(every, self.config.num_steps + 1, every)


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
      run: The run.
      along: Its scores by name at each step at which it has them.
      last_iterate: The scores of its last iterate, at the end; none of a run for tuning.
      protocol: How it was scored; None where it failed before the first evaluation.
      failure: Why it failed; None where it did not.
    """

    run: ComparedRun
    along: dict[int, dict[str, float]]
    last_iterate: dict[str, float]
    protocol: Protocol | None
    failure: str | None = None


def plan_runs(
    method: Method,
    config: TrainConfig,
    rate: float | None,
    purpose: Purpose,
    seeds: Iterable[int],
    evaluations: int,
    output: pathlib.Path,
    weights: str,
) -> list[ComparedRun]:
    """Returns the runs of a method at a learning rate, one for each seed.

    Args:
      method: The method.
      config: Its config at that rate, as long as the runs shall be.
      rate: The rate.
      purpose: What they are for; runs for tuning are evaluated at their end only.
      seeds: Their seeds.
      evaluations: How often a reported run is evaluated; divides `config.num_steps`.
      output: The folder of the comparison.
      weights: As in `ComparedRun`.
    """
    every = config.num_steps // (evaluations if purpose == "reported" else 1)
    folder = output / method.folder / purpose
    folder = folder if rate is None else folder / f"lr_{rate!r}"
    own = dataclasses.replace(
        config, eval_every_steps=every, sample_every_steps=0, keep_checkpoints=("latest(1)",)
    )
    return [
        ComparedRun(
            method, rate, purpose, dataclasses.replace(own, seed=seed), folder / f"seed_{seed}", weights
        )
        for seed in seeds
    ]  # fmt: skip


def check_folders(runs: Iterable[ComparedRun]) -> None:
    """Checks that what is in the runs' folders already was trained with the same configs.

    Runs for tuning may be made longer: they are scored at their end alone, and go on.

    Raises:
      UsageError: where it was not; its scores would be of another comparison.
    """
    for run in runs:
        if (old := read_config(run.workdir)) is None:
            continue
        longer = run.purpose == "tuning" and old.num_steps < run.config.num_steps
        lines = [
            line
            for key, line in difference(old, run.config).items()
            if (SETTINGS[key].on_resume is not OnResume.ALLOW or key in _DECIDE_SCORES)
            and not (longer and key in _LENGTH)
        ]
        if lines:
            raise UsageError(f"{run.workdir}: {'; '.join(lines)}: another --output is needed")


def finish(runs: Sequence[ComparedRun], stop: Stop | None) -> list[Outcome]:
    """Trains and scores the runs that are not finished yet, and returns the outcomes of all.

    A run whose numbers, or whose samples at the end, are not finite has failed, and is not repeated.

    Raises:
      Exception: what else went wrong with a run, once the others are trained.
      Stopped: where `stop` asked for it; the same call goes on.
    """
    left = [run for run in runs if read_outcome(run) is None]
    logging.info("%d runs, %d of them finished before", len(runs), len(runs) - len(left))
    # All that did not fail, since the program of a run depends on the others: a resumed comparison is the same.
    members = {run.workdir: run.config for run in runs if _read_failure(run) is None}
    errors = train_members(members, stop=stop)
    if stop is not None:
        stop.can_save = False  # from here on a signal ends the program, and nothing is lost
    for run in left:
        _settle(run, errors[run.workdir])
    outcomes = [read_outcome(run) for run in runs]
    for run, outcome in zip(runs, outcomes, strict=True):
        if outcome is None:
            raise RunError(
                f"{run.workdir}: it was trained and scored, and its scores are not there"
            )
    return [outcome for outcome in outcomes if outcome is not None]


def score_complete(runs: Iterable[ComparedRun]) -> None:
    """Scores the ends of runs that are trained and not scored yet, as of a comparison that was stopped."""
    for run in runs:
        if read_outcome(run) is None and is_complete(run.workdir, run.config):
            _settle(run, None)


def _settle(run: ComparedRun, error: Exception | None) -> None:
    """Scores the end of a run that is trained, or writes down that it failed: its numbers were not finite.

    Raises:
      Exception: what else went wrong with it.
    """
    if error is None and read_outcome(run) is None:
        logging.info("scoring the end of %s", run.workdir)
        error = _score_end(run)
    if isinstance(error, NotFiniteError):
        logging.warning("%s has failed: %s", run.workdir, error)
        write_json(run.workdir / _FAILED, {"failure": str(error)})
    elif error is not None:
        raise error


def read_outcome(run: ComparedRun) -> Outcome | None:
    """Reads what became of a run; None where it is not finished."""
    end = run.config.num_steps
    found = {
        (result.subject.get("step"), result.subject.get("weights")): result
        for result in _own_results(run)
    }
    protocol = next(reversed(found.values())).protocol if found else None
    found = {place: own for place, own in found.items() if own.protocol == protocol}
    along = {
        step: _numbers(found[step, run.weights])
        for step in run.steps
        if (step, run.weights) in found
    }
    if (failure := _read_failure(run)) is not None:
        return Outcome(run, along, {}, protocol, failure)
    needs = {run.weights, "raw"} if run.purpose == "reported" else {run.weights}
    if not all((end, weights) in found for weights in needs):
        return None
    last = _numbers(found[end, "raw"]) if "raw" in needs else {}
    return Outcome(run, along, last, protocol)


def _score_end(run: ComparedRun) -> NotFiniteError | None:
    """Scores a run's last checkpoint, with the weights that were not scored there in training.

    Returns the error where its samples are not finite.
    """
    with Checkpoints(run.workdir) as checkpoints:
        experiment, state = load_step(checkpoints, run.config.num_steps, run.config.parts)
    evaluator = make_run_evaluator(experiment)
    known = {
        result.subject.get("weights")
        for result in _own_results(run)
        if result.subject.get("step") == run.config.num_steps
        and result.protocol == evaluator.scorer.protocol
    }
    try:
        for weights in [name for name in (run.weights, "raw") if name not in known]:
            evaluator.evaluate(state, weights).write(run.workdir)
    except NotFiniteError as error:
        return error
    return None


def _own_results(run: ComparedRun) -> list[Result]:
    """Returns the results by the run's own scorer; others may have scored the folder too."""
    if not run.workdir.is_dir():
        return []
    config = run.config
    return [
        result
        for result in read_results(run.workdir)
        if (result.protocol.num_fake, result.protocol.seed) == (config.eval_num_images, config.seed)
    ]


def _numbers(result: Result) -> dict[str, float]:
    """Returns scores; NaN is one that was not finite."""
    return {name: math.nan if value is None else value for name, value in result.scores.items()}


def _read_failure(run: ComparedRun) -> str | None:
    try:
        return str(read_json(run.workdir / _FAILED, follow=False)["failure"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
