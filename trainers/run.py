"""A run from Python: train it, load it, draw from it, score it."""

import contextlib
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gan import config_files, environment
from gan.callbacks import Callback
from gan.checkpoints import Checkpoints
from gan.config import TrainConfig, from_mapping
from gan.errors import RunError, UsageError
from gan.files import user_path
from gan.memory import check_num_images
from gan.preemption import Stop
from gan.run_folder import check_workdir
from gan.state import GANState
from gan.trainers import train as loop
from gan.trainers.evaluation.evaluate import make_evaluator
from gan.trainers.evaluation.features import FEATURES
from gan.trainers.experiment import Experiment, build
from gan.trainers.metric_writers import logged_lines
from gan.trainers.resume import Origin, data_of, load_step
from gan.trainers.sampling import (
    BATCH_SIZE,
    CLASSES,
    Sampler,
    check_output,
    check_seed,
    check_truncation,
    choose_name,
    find_classes,
    make_sampler,
    write_samples,
    write_separately,
)
from gan.trainers.state_transfer import ON_OPTIMIZER_CHANGE, ON_SHAPE_MISMATCH

ConfigLike: TypeAlias = TrainConfig | Mapping[str, Any] | str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class Run:
    """A trained generator, with all that it was trained by.

    Attributes:
      experiment: The parts of the run, and its config.
      state: Its state at one step; `state.players` has the parameters of both players.
      workdir: Its folder, or None for a run in memory.
      metrics: The metrics that were logged up to this step: for each step that was, a mapping with
        `step` and the values by name.
    """

    experiment: Experiment
    state: GANState
    workdir: pathlib.Path | None
    metrics: tuple[dict[str, Any], ...]

    def __repr__(self) -> str:
        return f"<Run of {self.workdir or 'memory'} at step {self.step}>"

    @property
    def step(self) -> int:
        """Number of generator updates."""
        return int(self.state.step)

    @property
    def config(self) -> TrainConfig:
        """The config of the run."""
        return self.experiment.config

    @functools.cached_property
    def _sampler(self) -> Sampler:
        return make_sampler(self.experiment)

    @functools.cached_property
    def _weights(self) -> dict[str, Any]:
        """Those that samples were drawn with, by name: they may have to be recalibrated."""
        return {}

    def weights(self, name: str | None = None) -> Any:
        """Returns weights of the generator, a pytree `{"params": ..., "variables": ...}`.

        Args:
          name: An average by its name, `raw` for the last iterate, or `slow` after lookahead; None is
            the first average.

        Raises:
          UsageError: for weights that the run does not have.
        """
        name = choose_name(self.experiment, self.state, name)
        if name not in self._weights:
            self._weights[name] = self._sampler.weights(self.state, name)
        return self._weights[name]

    @functools.cached_property
    def generator(self) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
        """The jitted function `(weights, latents [B, Z], labels [B]) -> examples [B, *shape]`.

        Images are float32 in [-1, 1]. It can be differentiated.
        """
        sample = self.experiment.game.sample

        def generate(weights: Any, latents: jax.Array, labels: jax.Array) -> jax.Array:
            return sample(weights["params"], weights["variables"], latents, labels)

        return jax.jit(generate)

    def latents(self, num_images: int, seed: int = 0) -> jax.Array:
        """Returns the latents `[num_images, Z]` of the samples of a seed."""
        check_seed(seed)
        check_num_images(num_images, (self.config.latent_dim,))
        return self._sampler.latents(seed, np.arange(num_images))

    def generate(
        self, latents: Any, labels: Any = None, *, weights: str | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Generates an example for each latent vector.

        Args:
          latents: `[N, Z]`.
          labels: As in `sample`.
          weights: The name of weights; see `weights`.
          truncation: As in `sample`.

        Returns:
          uint8 images `[N, H, W, C]`, or float32 points `[N, D]`.

        Raises:
          UsageError: for another shape, labels of a run without classes, or no such weights.
          RunError: where the network's output is not finite.
        """
        latents = jnp.asarray(latents, jnp.float32)
        latent_dim = self.config.latent_dim
        if latents.ndim != 2 or latents.shape[1] != latent_dim or not len(latents):
            raise UsageError(f"latents must be [N, {latent_dim}], given {list(latents.shape)}")
        labels = self._labels(labels, len(latents))
        check_truncation(self.experiment, truncation)
        chosen, size = self.weights(weights), BATCH_SIZE
        drawn = [
            self._sampler.generate(chosen, latents[i : i + size], labels[i : i + size], truncation)
            for i in range(0, len(latents), size)
        ]
        if not all(bool(finite) for _, finite in drawn):
            raise RunError("what is generated from these latents is not finite")
        return np.concatenate([np.asarray(examples) for examples, _ in drawn])

    def sample(
        self, num_images: int = 64, seed: int = 0, labels: Any = None, *, weights: str | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Draws samples; sample i of a seed has the same latents whatever the weights and the number.

        Args:
          num_images: N.
          seed: Seed of the latents.
          labels: A class for all, or one for each, `[N]`, by number or by name; `"data"` for the
            proportions of the data (and None), `"equal"` for as many of each class.
          weights: The name of weights; see `weights`.
          truncation: Of a generator with a mapping network: the factor of each w's distance from the
            mean of w; with less than 1 samples are better and more alike (Karras et al., CVPR 2019).

        Returns:
          uint8 images `[N, H, W, C]`, or float32 points `[N, D]`.

        Raises:
          UsageError: for a number or seed out of range, labels of a run without classes, or no such
            weights.
        """
        return self._draw(num_images, seed, labels, weights, truncation)[0]

    def write_samples(
        self,
        path: str | os.PathLike[str],
        num_images: int = 64,
        seed: int = 0,
        labels: Any = None,
        *,
        weights: str | None = None,
        truncation: float | None = None,
        separate: bool = False,
    ) -> None:
        """Writes samples to a `.png` grid, an `.npy` array, an `.npz`, or a folder of images.

        The arguments are those of `sample`. With `separate`, `path` is the folder, new or empty, in
        which each image is a file; those of a conditional generator are in a folder for each class.
        """
        check_output(path, separate)
        drawn = self._draw(num_images, seed, labels, weights, truncation)
        write = write_separately if separate else write_samples
        write(user_path(path), self.experiment, *drawn)

    def evaluate(
        self,
        metrics: Iterable[str] | None = None,
        *,
        num_images: int = 50_000,
        features: str = "auto",
        weights: str | None = None,
        seed: int = 0,
        classes: str = "data",
    ) -> dict[str, float]:
        """Scores samples against the data; see docs/evaluation.md.

        The result is also appended to the folder's `evaluations.jsonl`, with its protocol.

        Args:
          metrics: Names of metrics; None stands for all that suit.
          num_images: Number of samples.
          features: Spec of the network in whose features examples are compared.
          weights: The name of weights; see `weights`.
          seed: Seed of the latents.
          classes: `data` for the proportions of the data, `equal` for as many of each class.

        Returns:
          The scores by name: `fid`, `kid`, `kid_std`, ...

        Raises:
          UsageError: for metrics, features or weights that there are not.
          RunError: where samples are not finite.
        """
        check_seed(seed)
        choose_name(self.experiment, self.state, weights)  # refused before any work
        metrics = [metrics] if isinstance(metrics, str) else metrics
        network = FEATURES.build(features)
        evaluator = make_evaluator(self.experiment, network, num_images, seed, metrics, classes)
        result = evaluator.evaluate(self.state, weights)
        if self.workdir is not None:
            result.write(self.workdir)
        return result.scores

    def _draw(
        self, num_images: int, seed: int, labels: Any, weights: str | None, truncation: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        check_seed(seed)
        check_truncation(self.experiment, truncation)
        check_num_images(num_images, self.experiment.dataset.shape)
        chosen, own = self.weights(weights), self._labels(labels, num_images)
        return self._sampler(chosen, num_images, seed, own, truncation)

    def _labels(self, labels: Any, count: int) -> np.ndarray:
        if labels is None or (isinstance(labels, str) and labels in CLASSES):
            return self._sampler.labels(count, labels or "data")
        given = np.asarray(labels)
        if not (given.ndim == 0 or given.shape == (count,)) or given.dtype.kind not in "iuU":
            raise UsageError(f"labels must be a class, or {count} of them, given {labels!r}")
        if given.dtype.kind != "U":  # a number is not the name of a class here
            if not self.experiment.game.generator.conditional:
                raise UsageError("labels: the generator of this run is not conditional")
            counts = self.experiment.class_counts
            if given.min() < 0 or given.max() >= len(counts) or not counts[given].all():
                known = ", ".join(map(str, np.flatnonzero(counts)[:20]))
                raise UsageError(
                    f"labels must be of classes with examples, {known}; given {labels!r}"
                )
            return np.broadcast_to(given.astype(np.int32), [count])
        numbers = find_classes(self.experiment, given.reshape(-1).tolist())
        return np.broadcast_to(np.array(numbers, np.int32), [count])


def load(
    workdir: str | os.PathLike[str], step: int | None = None, *, parts: str | Sequence[str] = ()
) -> Run:
    """Loads a run from its folder.

    Args:
      workdir: The folder.
      step: The step of a checkpoint; None is the newest.
      parts: Files and modules with parts of one's own, in place of those that the run names; code
        that a run names is executed only if it is here, or if this user has trained with it.

    Raises:
      UsageError: where there is no such run or step, or its parts cannot be used.
      RunError: where the checkpoint is damaged.
    """
    path = user_path(workdir)
    environment.check_precision()
    check_workdir(path)
    with Checkpoints(path) as checkpoints:
        experiment, state = load_step(checkpoints, step, _sequence(parts))
    return Run(experiment, state, path, _metrics(path, state))


def train(
    config: ConfigLike | None = None,
    workdir: str | os.PathLike[str] | None = None,
    *,
    parts: str | Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    profile: bool = False,
    init_from: str | None = None,
    on_shape_mismatch: str = "refuse",
    reset_step: bool = False,
    on_optimizer_change: str = "refuse",
    stop: Stop | None = None,
    start_time: float | None = None,
) -> Run:
    """Trains to `config.num_steps`, from the newest checkpoint in `workdir` or from scratch.

    Args:
      config: A `TrainConfig`, a mapping of its keys such as a ConfigDict, or the path of a config
        file; None is the one that the run in `workdir` was trained with.
      workdir: The run's folder, made where it is missing; None keeps nothing on disk.
      parts: Files and modules with parts of one's own, besides those that the config names; one of
        the same file name stands for the config's.
      callbacks: Callbacks besides those that the config names.
      profile: Whether to write a profile of some early steps, for TensorBoard.
      init_from: `OTHER_WORKDIR` or `OTHER_WORKDIR@STEP`: whose state a new run starts from.
      on_shape_mismatch: With `init_from`: `refuse` networks whose parameters have other names or shapes,
        or `reset` those parameters.
      reset_step: With `init_from`: whether the steps are counted anew.
      on_optimizer_change: What becomes of the state of an optimizer or dynamics that is not the one
        of the checkpoint: `refuse` to go on, `reset` it, or `keep_moments` that both have.
      stop: Says when to stop early; None is never.
      start_time: When the program was started, by `time.monotonic`; how long that is ago is logged
        after the first step.

    Returns:
      The run at its last step.

    Raises:
      UsageError: before anything is written, where the config or the folder will not do.
      RunError: where the run cannot go on; its checkpoints stay.
      Stopped: where `stop` asked for it, after saving.
    """
    if on_optimizer_change not in ON_OPTIMIZER_CHANGE:
        raise UsageError(
            f"on_optimizer_change={on_optimizer_change}: {', '.join(ON_OPTIMIZER_CHANGE)} is accepted"
        )
    if on_shape_mismatch not in ON_SHAPE_MISMATCH:
        raise UsageError(f"on_shape_mismatch={on_shape_mismatch}: refuse or reset is accepted")
    if (reset_step or on_shape_mismatch != "refuse") and not init_from:
        raise UsageError("--on_shape_mismatch and --reset_step go with --init_from")
    origin = Origin(init_from, on_shape_mismatch, reset_step) if init_from else None
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise UsageError(f"callbacks: objects of gan.callbacks.Callback, given {callback!r}")
    environment.check_precision()
    checked = _read(config, workdir, _sequence(parts))
    with _folder(workdir) as path:
        state = loop.train(
            checked, path, callbacks=callbacks, profile=profile, origin=origin,
            on_optimizer_change=on_optimizer_change, stop=stop, start_time=start_time,
        )  # fmt: skip
        metrics = _metrics(path, state)
        with Checkpoints(path) as checkpoints:
            newest = checkpoints.newest()
    experiment = build(checked, data_of(newest) if newest else None)
    return Run(experiment, state, path if workdir is not None else None, metrics)


def _read(
    config: ConfigLike | None,
    workdir: str | os.PathLike[str] | None,
    parts: Sequence[str],
) -> TrainConfig:
    if config is None:
        if workdir is None:
            raise UsageError("a config is needed, or the workdir of a run to go on with")
        config = config_files.of_run(workdir)
    if isinstance(config, str | os.PathLike):
        return config_files.load(config, given=parts)
    values = config if isinstance(config, TrainConfig) else from_mapping(dict(config.items()))
    return config_files.with_parts(values, pathlib.Path.cwd(), parts)


def _sequence(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


@contextlib.contextmanager
def _folder(workdir: str | os.PathLike[str] | None) -> Iterator[pathlib.Path]:
    """Yields the run's folder; without one, a folder that is removed at the end."""
    if workdir is not None:
        yield user_path(workdir)
        return
    with tempfile.TemporaryDirectory(prefix="flax-gan-") as temporary:
        yield pathlib.Path(temporary)


def _metrics(path: pathlib.Path, state: GANState) -> tuple[dict[str, Any], ...]:
    return tuple(logged_lines(path / "metrics.jsonl", int(state.step)))
