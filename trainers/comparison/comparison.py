"""A comparison of methods on one config: the learning rates are tuned on other seeds than are reported."""

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import logging

from gan.config import TrainConfig
from gan.errors import RunError, UsageError, nearest
from gan.metrics.metric import Score, choose_metrics, find_score
from gan.optimizers import OPTIMIZERS
from gan.players import ROLES
from gan.preemption import Stop
from gan.trainers.comparison.design import TUNING_OFFSET, Design
from gan.trainers.comparison.methods import Method
from gan.trainers.comparison.ranking import MethodResult, choose_rate
from gan.trainers.comparison.report import Found, write_report
from gan.trainers.comparison.runs import (
    ComparedRun,
    Outcome,
    Purpose,
    check_folders,
    finish,
    plan_runs,
    read_outcome,
    score_complete,
)
from gan.trainers.comparison.timing import seconds_per_step
from gan.trainers.evaluation.features import inputs_of
from gan.trainers.experiment import Experiment, build
from gan.trainers.workdir import check_writable

_ALSO_SHOWN = ("recall", "confident", "label_accuracy")


class Comparison:
    """A comparison on one config, checked, with nothing done yet.

    Args:
      config: The config that the methods have in common.
      design: How they are compared.
      output: The folder of the runs and of the report.

    Raises:
      UsageError: for what could not run, and for a folder with runs of another comparison.
    """

    def __init__(self, config: TrainConfig, design: Design, output: pathlib.Path):
        self._config, self._design, self._output = config, design, output
        names = [method.name for method in design.methods]
        if design.baseline is not None and design.baseline not in names:
            hint = nearest(design.baseline, names) or f"; there are {', '.join(names)}"
            raise UsageError(f"--baseline={design.baseline!r} is no method here{hint}")
        self._experiments = {method.name: self._build(method) for method in design.methods}
        self._score = _deciding_score(next(iter(self._experiments.values())))
        check_folders(
            run
            for method in design.methods
            for rate in design.rates(method)
            for purpose in ("tuning", "reported")
            for run in self._runs(method, rate, purpose)
        )
        check_writable(output)

    def run(self, stop: Stop | None = None) -> str:
        """Trains what is not trained yet, writes the report, and returns its table.

        Raises:
          RunError: where no method has a finite score.
          Stopped: where `stop` asked for it; the same call goes on.
        """
        for table in dict.fromkeys(own.describe_networks() for own in self._experiments.values()):
            logging.info("%s", table)
        tuned = self._tuned_methods()
        plan = [run for method in tuned for run in self._tuning_runs(method)]
        logging.info(
            "tuning: %d methods at %d learning rates", len(tuned), len(self._design.learning_rates)
        )
        tuning = self._by_method(finish(plan, stop))
        if not (rates := self._choose_rates(tuning)):
            raise RunError(f"{self._output}: no method has a finite score at any learning rate")
        plan = [
            run for method in self._design.methods if method.name in rates
            for run in self._runs(method, rates[method.name], "reported")
        ]  # fmt: skip
        logging.info(
            "reported runs: %d methods from %d seeds each", len(rates), self._design.num_seeds
        )
        reported = self._by_method(finish(plan, stop))
        return self._report(tuning, rates, reported, measure=True)

    def report(self) -> str:
        """Writes the report of the runs that are trained, without training others, and returns its table.

        Raises:
          UsageError: where nothing is finished.
        """
        plan = [run for method in self._tuned_methods() for run in self._tuning_runs(method)]
        score_complete(plan)
        found = map(read_outcome, plan)
        tuning = self._by_method([outcome for outcome in found if outcome is not None])
        rates = self._choose_rates(tuning)
        reported: list[Outcome] = []
        for method in self._design.methods:
            if method.name in rates:
                runs = self._runs(method, rates[method.name], "reported")
                score_complete(runs)
                reported += [own for own in map(read_outcome, runs) if own is not None]
        if not reported:
            raise UsageError(
                f"{self._output} holds no reported run of these methods that is finished"
            )
        return self._report(tuning, rates, self._by_method(reported), measure=False)

    def _build(self, method: Method) -> Experiment:
        """Builds every part of a method, and its optimizers at every learning rate."""
        configs = [method.config(self._config, rate) for rate in self._design.rates(method)]
        try:
            experiment = build(configs[0])
            for config in configs[1:]:
                for role in ROLES:
                    OPTIMIZERS.build(getattr(config, f"{role}_optimizer"))
        except UsageError as error:
            raise UsageError(f"--method {method.name!r}: {error}") from error
        count, num_steps = self._design.num_evaluations, configs[0].num_steps
        if num_steps % count:
            lower = num_steps - num_steps % count
            accepted = " or ".join(f"{steps:,}" for steps in (lower, lower + count) if steps)
            raise UsageError(
                f"--evaluations={count} has to divide num_steps, which is {num_steps:,}; with "
                f"num_steps {accepted} it does"
            )
        return experiment

    def _runs(self, method: Method, rate: float | None, purpose: Purpose) -> list[ComparedRun]:
        """Plans a method's runs at a learning rate."""
        design, config = self._design, method.config(self._config, rate)
        first, count = config.seed, design.num_seeds
        if purpose == "tuning":
            first, count = first + TUNING_OFFSET, design.num_tuning_seeds
            num_steps = design.tuning_steps or config.num_steps
            config = dataclasses.replace(config, num_steps=num_steps)
        weights = next(iter(self._experiments[method.name].averaging), "raw")
        return plan_runs(
            method, config, rate, purpose, range(first, first + count), design.num_evaluations,
            self._output, weights,
        )  # fmt: skip

    def _tuned_methods(self) -> list[Method]:
        """Returns the methods that have a learning rate to be chosen."""
        return [method for method in self._design.methods if len(self._design.rates(method)) > 1]

    def _tuning_runs(self, method: Method) -> list[ComparedRun]:
        return [
            run for rate in self._design.rates(method) for run in self._runs(method, rate, "tuning")
        ]

    def _by_method(self, outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
        by_name: dict[str, list[Outcome]] = {method.name: [] for method in self._design.methods}
        for outcome in outcomes:
            by_name[outcome.run.method.name].append(outcome)
        return by_name

    def _choose_rates(self, tuning: dict[str, list[Outcome]]) -> dict[str, float | None]:
        """Returns the best learning rate by method; leaves out a method without a finite score at any."""
        rates: dict[str, float | None] = {}
        for place, method in enumerate(self._design.methods):
            grid = self._design.rates(method)
            rate = grid[0] if len(grid) == 1 else None
            if len(grid) > 1 and tuning[method.name]:
                if (rate := choose_rate(tuning[method.name], self._score)) is None:
                    logging.warning("%s: no finite score at any learning rate", method.name)
                    continue
            elif len(grid) > 1:
                continue  # nothing of it is finished
            rates[method.name] = rate
            logging.info(
                "method %d of %d, %s: learning rate %s",
                place + 1, len(self._design.methods), method.name, "its own" if rate is None else rate,
            )  # fmt: skip
        return rates

    def _report(
        self,
        tuning: dict[str, list[Outcome]],
        rates: dict[str, float | None],
        reported: dict[str, list[Outcome]],
        measure: bool,
    ) -> str:
        compared = [method for method in self._design.methods if reported[method.name]]
        configs = {own.name: reported[own.name][0].run.config for own in compared}
        seconds = seconds_per_step(configs, self._output / "timing.json", measure)
        grid = self._design.learning_rates
        results = [
            MethodResult(
                method, rates[method.name],
                len(grid) > 1 and rates[method.name] in (grid[0], grid[-1]),
                tuning[method.name], reported[method.name],
                self._experiments[method.name].dynamics.gradients_per_step,
                seconds.get(method.name),
            )
            for method in compared
        ]  # fmt: skip
        left_out = [method for method in self._design.methods if method not in compared]
        others = [score for name in _ALSO_SHOWN if (score := find_score(name)) is not None]
        found = Found(self._config, self._design, self._score, others, results, tuning, left_out)
        return write_report(found, self._output)


def _deciding_score(experiment: Experiment) -> Score:
    """Returns the score by which the run's own scorer tells better samples."""
    inputs = inputs_of(experiment.features, experiment.dataset)
    metrics = choose_metrics(None, inputs, experiment.config.dataset)
    return next(iter(metrics.values())).scores[0]
