"""Evaluation of a run, during training and afterwards, and of images from anywhere."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from absl import logging

from gan.checkpoints import Checkpoints, DamageError, Manifest
from gan.checkpoints.manifest import newest_protocol
from gan.data import DATASETS, Dataset
from gan.environment import check_precision
from gan.errors import NotFiniteError, RunError, UsageError
from gan.files import user_path
from gan.memory import check_num_images
from gan.metrics.metric import deciding_scores
from gan.parts import load as load_parts
from gan.players import (
    Pair,
    PlayerState,
    network_variables,
    training_state,
    with_training_state,
)
from gan.run_folder import check_workdir
from gan.state import GANState
from gan.trainers.evaluation.features import FEATURES, FeatureNetwork
from gan.trainers.evaluation.results import Result
from gan.trainers.evaluation.scorer import Scorer, with_progress
from gan.trainers.experiment import Experiment
from gan.trainers.metric_writers import open_event_file
from gan.trainers.resume import load_run, load_step
from gan.trainers.sampling import Sampler, check_seed, choose_name, make_sampler
from gan.trainers.workdir import Workdir


@dataclass(frozen=True)
class Evaluator:
    """Scores the samples of a run's generator.

    Attributes:
      experiment: The run's parts.
      scorer: Computes the metrics of samples; its protocol says how many, and from which seed.
      sampler: Draws the samples.
    """

    experiment: Experiment
    scorer: Scorer
    sampler: Sampler

    @property
    def fingerprint(self) -> str:
        """The short name of the protocol."""
        return self.scorer.protocol.fingerprint

    def evaluate(self, state: GANState, weights: str | None = None) -> Result:
        """Scores samples of a state.

        Args:
          state: The run's state at some step.
          weights: The name of an average, `raw`, or `slow` after lookahead; None is the first average.

        Raises:
          UsageError: for weights that the run does not have.
          NotFiniteError: where samples are not finite.
        """
        step, protocol = int(state.step), self.scorer.protocol
        name = choose_name(self.experiment, state, weights)
        assert protocol.seed is not None
        labels = self.sampler.labels(protocol.num_fake, protocol.classes)
        chosen = self.sampler.weights(state, name)
        batches = self.sampler.batches(chosen, protocol.num_fake, protocol.seed, labels)
        samples = with_progress(_finite(batches, step), protocol.num_fake)
        players = _players(state, chosen)
        return self.scorer.score(samples, {"step": step, "weights": name}, players, labels)

    def evaluate_during_training(self, workdir: Workdir, state: GANState) -> dict[str, float]:
        """Scores a run that trains, and writes the result down; records a failure as an event.

        Returns:
          The scores, as `eval/<name>`; none where that fails.
        """
        step = int(state.step)
        try:
            result = self.evaluate(state)
            if jax.process_index() == 0:
                result.write(workdir.path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            workdir.record(step, "evaluation_failed", f"evaluation at step {step}: {reason}")
            return {}
        return {f"eval/{name}": value for name, value in result.scores.items()}


def make_evaluator(
    experiment: Experiment,
    features: FeatureNetwork,
    num_images: int,
    seed: int,
    metrics: Iterable[str] | None = None,
    classes: str = "data",
    real: tuple[Dataset, str] | None = None,
) -> Evaluator:
    """Makes an evaluator; its real examples are summarized now.

    Args:
      experiment: The run's parts.
      features: The network in whose features examples are compared.
      num_images: Number of samples.
      seed: Seed of their latents.
      metrics: Specs of metrics; None stands for all that suit.
      classes: Whose proportions a conditional generator's samples have: those of the `data`, or
        `equal` ones.
      real: Another dataset than the run's to compare with, and its spec.

    Raises:
      UsageError: see `Scorer`.
    """
    dataset, spec = real or (experiment.dataset, experiment.config.dataset)
    # Images are drawn and scored batch by batch; of points, all are compared with all means.
    mixture = dataset.mixture
    conditional = experiment.game.generator.conditional
    check_num_images(num_images, () if mixture is None else (mixture.means.size * 2,))
    scorer = Scorer(
        dataset, spec, features, num_images, seed, metrics,
        classes if conditional else "none", experiment.game_setting,
        labelled=conditional and dataset.names == experiment.dataset.names,
    )  # fmt: skip
    return Evaluator(experiment, scorer, make_sampler(experiment))


def make_run_evaluator(experiment: Experiment) -> Evaluator:
    """Makes the evaluator that a run's config asks for."""
    config = experiment.config
    return make_evaluator(
        experiment, experiment.features, config.eval_num_images, config.seed,
        config.eval_metrics or None,
    )  # fmt: skip


def evaluate_run(
    workdir: str | pathlib.Path,
    *,
    steps: str = "latest",
    metrics: Iterable[str] | None = None,
    num_images: int = 50_000,
    features: str = "auto",
    weights: str | None = None,
    seed: int = 0,
    classes: str = "data",
    dataset: str | None = None,
    data_dir: str | None = None,
    parts: Sequence[str] = (),
) -> list[Result]:
    """Scores samples of a run's checkpoints; each result is written down as it comes.

    Args:
      workdir: The run's folder.
      steps: `all`, `best` (of those that were scored in training), `latest`, or a step.
      metrics: Specs of metrics; None stands for all that suit.
      num_images: Number of samples of each checkpoint.
      features: Spec of the network in whose features examples are compared.
      weights: The name of an average, `raw`, or `slow` after lookahead; None is the first average.
      seed: Seed of the latents.
      classes: `data` for the data's proportions of classes, `equal` for as many of each.
      dataset: Spec of the real images; None is the run's own.
      data_dir: Folder of the TFDS datasets, with `dataset`.
      parts: Files and modules with parts that the user names; see `gan.parts.load_saved`.

    Raises:
      UsageError: where there is no such run, step or metric, or no such features for its data.
      RunError: where a checkpoint cannot be trusted, or samples are not finite.
    """
    workdir = user_path(workdir)
    check_precision()
    check_workdir(workdir)
    check_seed(seed)
    load_parts((), parts)  # features and metrics may be among them
    network = FEATURES.build(features)
    real = None if dataset is None else (DATASETS.build(dataset, data_dir=data_dir), dataset)
    evaluator: Evaluator | None = None
    results: list[Result] = []
    try:
        with Checkpoints(workdir) as checkpoints:
            for experiment, state in load_chosen(checkpoints, steps, parts):
                choose_name(experiment, state, weights)  # refused before any work
                if evaluator is None or evaluator.experiment.config != experiment.config:
                    evaluator = make_evaluator(
                        experiment, network, num_images, seed, metrics, classes, real
                    )
                result = evaluator.evaluate(state, weights)
                result.write(workdir)
                results.append(result)
    finally:
        _write_events(workdir, results)
    if not results:
        raise RunError(f"no checkpoint in {workdir} can be scored")
    return results


def evaluate_images(
    images: str,
    dataset: str,
    *,
    data_dir: str | None = None,
    metrics: Iterable[str] | None = None,
    features: str = "auto",
) -> Result:
    """Scores images from files or of a dataset.

    Args:
      images: A folder, a zip, an `.npz` with `images`, or the spec of a dataset.
      dataset: Spec of the real images.
      data_dir: Folder of the TFDS datasets.
      metrics: Specs of metrics; None stands for all that suit.
      features: Spec of the network in whose features images are compared.

    Raises:
      UsageError: where the images are not like the dataset's.
    """
    real = DATASETS.build(dataset, data_dir=data_dir)
    if len(real.shape) != 3:
        raise UsageError(f"--images: images can be scored, and {dataset} has points")
    batches, count = _load_images(images, real.shape, data_dir)
    scorer = Scorer(real, dataset, FEATURES.build(features), count, None, metrics)
    return scorer.score(with_progress(batches, count), {"images": images})


def _players(state: GANState, weights: Any) -> Pair[PlayerState]:
    """Returns the generator of some weights, and the discriminator, without their optimizers' states."""
    generator, discriminator = state.players.generator, state.players.discriminator
    variables = with_training_state(
        network_variables(weights["variables"]), training_state(generator.variables)
    )
    return Pair(
        generator=PlayerState(weights["params"], variables, ()),
        discriminator=PlayerState(discriminator.weights, discriminator.variables, ()),
    )


def _finite(batches: Iterable[tuple[np.ndarray, bool]], step: int) -> Iterator[np.ndarray]:
    """Yields batches of samples; raises NotFiniteError for one that is not."""
    for examples, finite in batches:
        if not finite:
            raise NotFiniteError(f"samples of step {step} have values that are not finite")
        yield examples


def load_chosen(
    checkpoints: Checkpoints, steps: str, given: Sequence[str]
) -> Iterator[tuple[Experiment, GANState]]:
    """Yields the checkpoints that `--steps` asks for; of several, leaves out what cannot be read.

    Raises:
      UsageError: for steps that are not there, or where the only one asked for cannot be used.
      RunError: where there is no valid checkpoint, or the only one asked for is damaged.
    """
    saved, workdir = checkpoints.all_steps(), checkpoints.workdir
    if not saved:
        raise UsageError(f"--workdir={workdir}: no checkpoint is saved there yet")
    if steps not in ("all", "best", "latest", *map(str, saved)):
        known = ", ".join(map(str, saved))
        raise UsageError(f"--steps={steps}: all, best, latest, or one of {known} is accepted")
    if steps not in ("all", "best"):
        yield load_step(checkpoints, None if steps == "latest" else int(steps), given)
        return
    verified = [_verify(checkpoints, step) for step in saved]
    manifests = [manifest for manifest in verified if manifest is not None]
    if not manifests:
        raise RunError(f"no checkpoint in {workdir} can be trusted")
    if steps == "best":
        yield load_step(checkpoints, _best_step(manifests, workdir), given)
        return
    if len(manifests) == 1:
        yield load_step(checkpoints, manifests[0].step, given)
        return
    for manifest in manifests:
        try:
            loaded = load_run(checkpoints, manifest, given)
        except (UsageError, RunError, DamageError) as error:  # a run under way may have deleted it
            logging.warning("step %d is left out: %s", manifest.step, error)
            continue
        yield loaded


def _verify(checkpoints: Checkpoints, step: int) -> Manifest | None:
    """Returns the manifest of a valid checkpoint; warns of a damaged one, and returns None."""
    try:
        return checkpoints.verify(step)
    except DamageError as damage:
        logging.warning("checkpoint %d is passed over, it cannot be trusted: %s", step, damage)
        return None


def _best_step(manifests: list[Manifest], workdir: pathlib.Path) -> int:
    """Returns the step that was scored best in training, of equal ones the latest.

    They are compared by the first metric in the order of the table that any of them was scored by.
    """
    protocol = newest_protocol(manifests)
    if others := [str(own.step) for own in manifests if own.protocol not in ("", protocol)]:
        logging.warning(
            "compared are checkpoints that were scored by the newest protocol %s; by another, and left "
            "out: %s", protocol, ", ".join(others),
        )  # fmt: skip
    for score in deciding_scores():
        key, sign = f"eval/{score.name}", -1 if score.higher_is_better else 1
        scored = [own for own in manifests if key in own.metrics_by(protocol)]
        if scored:
            best = min(scored, key=lambda other: (sign * other.metrics[key], -other.step))
            logging.info("best of %d by %s: step %d", len(scored), key, best.step)
            return best.step
    raise UsageError(
        f"--steps=best: no checkpoint in {workdir} was scored in training; eval_every_steps does that"
    )


def _load_images(
    images: str, shape: tuple[int, ...], data_dir: str | None
) -> tuple[Iterator[np.ndarray], int]:
    """Returns batches of uint8 images `[B, H, W, C]`, and the number of all images."""
    path = user_path(images)
    if path.is_dir() or path.suffix.lower() == ".zip":
        spec = f"images({images!r}, channels={shape[-1]})"
    elif path.exists() and path.suffix != ".npz":
        raise UsageError(f"--images={images}: a folder, a .zip or an .npz is accepted")
    else:
        spec = f"npz({images!r})" if path.suffix == ".npz" else images
    try:
        examples = DATASETS.build(spec, data_dir=data_dir).load().examples
    except UsageError as error:
        raise UsageError(f"--images={images}: {error}") from error
    # They may be sorted by class. And for the real images themselves, metrics of the first few must
    # not compare the very same: the order is another one than the scorer's.
    order = np.random.default_rng(1).permutation(len(examples))
    return (examples[order[i : i + 256]] for i in range(0, len(order), 256)), len(order)


def _write_events(workdir: pathlib.Path, results: list[Result]) -> None:
    """Writes results for TensorBoard; each protocol has a name of its own there."""
    if not results or (writer := open_event_file(workdir)) is None:
        return
    for result in results:
        prefix = f"evaluation_{result.protocol.fingerprint}"
        scalars = {f"{prefix}/{name}": value for name, value in result.scores.items()}
        writer.write_scalars(result.subject["step"], scalars)
    writer.close()
