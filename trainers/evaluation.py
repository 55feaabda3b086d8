"""Scoring a run's checkpoints, while it trains and afterwards, and anybody's images."""

import pathlib
from collections.abc import Iterator

import jax
import numpy as np
from absl import logging

from gan.checkpoints import Checkpoints
from gan.data import DATASETS
from gan.data.images import pictures
from gan.errors import RunError, UsageError
from gan.manifests import DamageError, Manifest
from gan.state import GANState
from gan.trainers.experiment import Experiment
from gan.trainers.features import FEATURES
from gan.trainers.history import record
from gan.trainers.run import Run
from gan.trainers.sampling import Sampler, load, make_sampler, weights_names
from gan.trainers.scoring import METRICS, Result, Scorer, make_scorer, shown


def make_run_scorer(experiment: Experiment) -> Scorer:
    """The scorer that a run's config asks for."""
    config = experiment.config
    return make_scorer(
        experiment.dataset, config.dataset, experiment.features, config.eval_num_images, config.seed
    )


def evaluate_on_the_way(
    run: Run, scorer: Scorer, sampler: Sampler, state: GANState
) -> dict[str, float]:
    """Scores the samples of a run that trains, by metric name; none where that fails."""
    step = int(state.step)
    try:
        result = _score(scorer, sampler, state, None)
        if jax.process_index() == 0:
            result.write(run.workdir)
    except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        record(run.workdir, step, "evaluation_failed", f"evaluation at step {step}: {reason}")
        return {}
    return {f"eval/{name}": value for name, value in result.scores.items()}


def evaluate_run(
    workdir: str | pathlib.Path,
    *,
    steps: str = "latest",
    metrics: tuple[str, ...] = METRICS,
    num_images: int = 50_000,
    features: str = "auto",
    weights: str | None = None,
    seed: int = 0,
) -> list[Result]:
    """Scores samples of a run's checkpoints; each result is written down as it comes.

    Args:
      workdir: The run's folder.
      steps: `all`, `best` (of what was scored in training), `latest`, or a step.
      metrics: Of `METRICS`.
      num_images: How many samples of each checkpoint.
      features: Spec of the network in whose features images are compared.
      weights: An average by its name, `raw`, or `slow` after lookahead; None is the first average.
      seed: Of the latents.

    Raises:
      UsageError: where there is no such run, step or metric, or no such features for its data.
      RunError: where a checkpoint cannot be trusted, or samples are not finite.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise UsageError(f"--workdir={workdir}: there is no such folder")
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must be from 0 to 2**32 - 1, given {seed}")
    maker, chosen = FEATURES.build(features), _steps(workdir, steps)
    results: list[Result] = []
    sampler: Sampler | None = None
    try:
        for step in chosen:
            if (loaded := _load(workdir, step, only=len(chosen) == 1)) is None:
                continue
            experiment, state = loaded
            if sampler is None or sampler.experiment.config != experiment.config:
                if weights not in (None, *(names := weights_names(experiment))):
                    raise UsageError(f"--weights={weights}: this run has {', '.join(names)}")
                spec = experiment.config.dataset
                scorer = make_scorer(experiment.dataset, spec, maker, num_images, seed, metrics)
                sampler = make_sampler(experiment)
            results.append(_score(scorer, sampler, state, weights))
            results[-1].write(workdir)
    finally:
        _write_events(workdir, results)
    if not results:
        raise RunError(f"no checkpoint in {workdir} can be scored")
    return results


def _load(
    workdir: pathlib.Path, step: int | None, only: bool
) -> tuple[Experiment, GANState] | None:
    """A checkpoint; None for one of several that a run under way has deleted meanwhile."""
    try:
        _, experiment, state = load(workdir, step)
    except (UsageError, RunError) as error:
        if only:
            raise
        logging.warning("step %s is left out: %s", step, error)
        return None
    return experiment, state


def evaluate_images(
    images: str,
    dataset: str,
    *,
    data_dir: str | None = None,
    metrics: tuple[str, ...] = METRICS,
    features: str = "auto",
) -> Result:
    """Scores images that are there.

    Args:
      images: A folder, a zip, an `.npz` with `images`, or the spec of a dataset.
      dataset: Spec of the real images.
      data_dir: Where TFDS keeps its datasets.
      metrics: Of `METRICS`.
      features: Spec of the network in whose features they are compared.

    Raises:
      UsageError: where the images are not like the dataset's.
    """
    real = DATASETS.build(dataset, data_dir=data_dir)
    if len(real.shape) != 3:
        raise UsageError(f"--images: images can be scored, and {dataset} has points")
    batches, count = _images(images, real.shape, data_dir)
    scorer = make_scorer(real, dataset, FEATURES.build(features), count, None, metrics)
    return scorer.score(shown(batches, count), {"images": images})


def _score(scorer: Scorer, sampler: Sampler, state: GANState, weights: str | None) -> Result:
    """Of samples that the scorer's protocol asks for."""
    name, protocol = weights or weights_names(sampler.experiment)[0], scorer.protocol
    assert protocol.seed is not None
    seed = protocol.seed

    def samples() -> Iterator[np.ndarray]:
        for examples, finite in sampler.batches(state, protocol.num_fake, seed, name):
            if not finite:
                raise RunError(f"samples of step {int(state.step)} have values that are not finite")
            yield examples

    subject = {"step": int(state.step), "weights": name}
    return scorer.score(shown(samples(), protocol.num_fake), subject)


def _steps(workdir: pathlib.Path, steps: str) -> list[int | None]:
    """Which checkpoints are meant; None is the newest that holds."""
    with Checkpoints(workdir) as checkpoints:
        there = checkpoints.all_steps()
        if not there:
            raise UsageError(f"--workdir={workdir}: no checkpoint is saved there yet")
        if steps == "latest":
            return [None]
        if steps in ("all", "best"):
            whole = [one for step in there if (one := _whole(checkpoints, step)) is not None]
            if not whole:
                raise RunError(f"no checkpoint in {workdir} can be trusted")
            return [one.step for one in whole] if steps == "all" else [_best(workdir, whole)]
    if steps not in map(str, there):
        known = ", ".join(map(str, there))
        raise UsageError(f"--steps={steps}: all, best, latest, or one of {known} is accepted")
    return [int(steps)]


def _whole(checkpoints: Checkpoints, step: int) -> Manifest | None:
    try:
        return checkpoints.verify(step)
    except DamageError as damage:
        logging.warning("checkpoint %d is passed over, it cannot be trusted: %s", step, damage)
        return None


def _best(workdir: pathlib.Path, saved: list[Manifest]) -> int:
    for metric in ("eval/fid", "eval/kl_to_uniform"):
        scored = {one.metrics[metric]: one.step for one in saved if metric in one.metrics}
        if scored:
            logging.info("best of %d by %s: step %d", len(scored), metric, scored[min(scored)])
            return scored[min(scored)]
    raise UsageError(
        f"--steps=best: no checkpoint in {workdir} was scored in training; eval_every_steps does that"
    )


def _images(
    images: str, shape: tuple[int, ...], data_dir: str | None
) -> tuple[Iterator[np.ndarray], int]:
    """Batches of images and how many there are."""
    path = pathlib.Path(images).expanduser()
    if path.is_dir() or path.suffix == ".zip":
        one_by_one, count = pictures(path, shape[-1])
        return (image[None] for image in one_by_one), count
    if path.exists() and path.suffix != ".npz":
        raise UsageError(f"--images={images}: a folder, a .zip or an .npz is accepted")
    try:
        spec = f"npz({images!r})" if path.suffix == ".npz" else images
        examples = DATASETS.build(spec, data_dir=data_dir).load().examples
    except UsageError as error:
        raise UsageError(f"--images={images}: {error}") from error
    # They may be sorted by class; and if they are the real ones, not the same come first.
    order = np.random.default_rng(1).permutation(len(examples))
    return (examples[order[i : i + 256]] for i in range(0, len(order), 256)), len(order)


def _write_events(workdir: pathlib.Path, results: list[Result]) -> None:
    """For TensorBoard; what was measured in another way has another name."""
    if not results:
        return
    from clu import metric_writers

    writer = metric_writers.SummaryWriter(str(workdir))
    for result in results:
        prefix = f"evaluation_{result.protocol.fingerprint}"
        scalars = {f"{prefix}/{name}": value for name, value in result.scores.items()}
        writer.write_scalars(result.subject["step"], scalars)
    writer.close()
