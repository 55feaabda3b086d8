"""Drawing samples from a generator: inside the loop, and from a finished or running run."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan import pictures
from gan.checkpoints import Checkpoints
from gan.config import from_mapping
from gan.data.dataset import to_uint8
from gan.dynamics import Lookahead
from gan.errors import RunError, UsageError
from gan.evaluation import diversity
from gan.manifests import DamageError, Manifest
from gan.state import GANState, stream_key
from gan.trainers.experiment import Experiment, build

_SAMPLES_A_CALL = 256
_NUM_IMAGES = 64  # in the loop's grids
_NUM_POINTS = 2_500  # in its pictures of points, and in an evaluation (as PacGAN, 2018)
_MAX_COLUMNS = 20  # of a grid with a class in each column


def weights_names(experiment: Experiment) -> tuple[str, ...]:
    """Whose weights samples can be drawn from: the averages, the last iterate, the slow weights."""
    slow = ("slow",) if isinstance(experiment.dynamics, Lookahead) else ()
    return (*experiment.averaging, "raw", *slow)


@dataclass(frozen=True)
class Sampler:
    """`(state, count, seed) -> (examples, labels)`, compiled at the first call.

    Examples are uint8 images `[count, H, W, C]` or float32 points `[count, D]`. The classes of a
    conditional generator take turns. Sample i of a seed has the same latents whatever the state and
    the count.
    """

    experiment: Experiment
    draw: Callable[[Any, jax.Array, np.ndarray], tuple[jax.Array, jax.Array]]

    def __call__(
        self, state: GANState, count: int, seed: int, weights: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws from one of `weights_names`; None is the first."""
        drawn = [examples for examples, _ in self.batches(state, count, seed, weights)]
        labels = np.arange(count, dtype=np.int32) % self.experiment.dataset.num_classes
        return np.concatenate(drawn), labels

    def batches(
        self, state: GANState, count: int, seed: int, weights: str | None = None
    ) -> Iterator[tuple[np.ndarray, bool]]:
        """The same examples in batches, and of each whether the network gave finite numbers."""
        names = weights_names(self.experiment)
        own = _weights(state, names[0] if weights is None else weights)
        key, size = stream_key(seed, "samples", 0), min(count, _SAMPLES_A_CALL)
        for begin in range(0, count, size):
            examples, finite = self.draw(own, key, np.arange(begin, begin + size))
            yield np.asarray(examples)[: count - begin], bool(finite)


def make_sampler(experiment: Experiment) -> Sampler:
    """The sampler of an experiment."""
    game, num_classes = experiment.game, experiment.dataset.num_classes

    @jax.jit
    def draw(weights: Any, key: jax.Array, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, indices)
        latents = jax.vmap(lambda key: jax.random.normal(key, [game.latent_dim]))(keys)  # [B, Z]
        labels = indices % num_classes
        examples = game.sample(weights["params"], weights["variables"], latents, labels)
        finite = jnp.isfinite(examples).all()
        return to_uint8(examples) if examples.ndim == 4 else examples, finite

    return Sampler(experiment, draw)


def _weights(state: GANState, name: str) -> Any:
    """One of `weights_names`, `{"params": ..., "variables": ...}`."""
    generator = state.players.generator
    if name in state.averages:
        return state.averages[name]
    params = generator.params if name == "raw" else state.dynamics.slow.generator
    return {"params": params, "variables": generator.variables}


def draw_picture(experiment: Experiment, examples: np.ndarray) -> np.ndarray:
    """A uint8 picture `[H, W, C]` of samples: a grid of images, or points over the real ones.

    In the grid of a conditional generator each column is a class, if there are not too many.
    """
    if examples.ndim == 4:
        columns = experiment.dataset.num_classes if _by_class(experiment) else None
        return pictures.image_grid(examples, columns)
    if examples.shape[-1] != 2:
        raise UsageError(f"points of {examples.shape[-1]} dimensions cannot be drawn")
    return pictures.scatter(examples, experiment.dataset.load().examples[:2_000])


def draw_samples(experiment: Experiment, sampler: Sampler, state: GANState) -> np.ndarray:
    """A picture of the same latents at each step."""
    count = _NUM_IMAGES if len(experiment.dataset.shape) == 3 else _NUM_POINTS
    if _by_class(experiment):  # whole rows
        count += -count % experiment.dataset.num_classes
    return draw_picture(experiment, sampler(state, count, experiment.config.seed)[0])


def make_diversity(
    experiment: Experiment, sampler: Sampler, examples: np.ndarray
) -> Callable[[GANState], float]:
    """How diverse the last iterate's samples are, against the data's: see `gan.evaluation`."""
    places = np.random.default_rng(experiment.config.seed).permutation(len(examples))
    real = np.asarray(examples[places[:_SAMPLES_A_CALL]])

    def measure(state: GANState) -> float:
        fake, _ = sampler(state, len(real), experiment.config.seed, "raw")
        return diversity(fake, real)

    return measure


def _by_class(experiment: Experiment) -> bool:
    return experiment.game.generator.conditional and experiment.dataset.num_classes <= _MAX_COLUMNS


def sample(
    workdir: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    num_images: int = 64,
    seed: int = 0,
    weights: str | None = None,
    step: int | None = None,
) -> int:
    """Writes samples of a run to a file.

    Args:
      workdir: The run's folder.
      output: A `.png` grid, an `.npy` array, or an `.npz` with `images` and `labels`.
      num_images: How many.
      seed: Of the latents.
      weights: An average by its name, `raw`, or `slow` after lookahead; None is the first average.
      step: Which checkpoint; None is the newest.

    Returns:
      The step of the checkpoint.

    Raises:
      UsageError: where there is no such run, step or file type.
    """
    workdir, output = pathlib.Path(workdir), pathlib.Path(output)
    if output.suffix not in (".png", ".npy", ".npz"):
        raise UsageError(f"--output={output}: a name in .png, .npy or .npz is accepted")
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must be from 0 to 2**32 - 1, given {seed}")
    if num_images < 1:
        raise UsageError(f"--num_images must be at least 1, given {num_images}")
    if not workdir.is_dir():
        raise UsageError(f"--workdir={workdir}: there is no such folder")
    _check_writable(output)
    manifest, experiment, state = load(workdir, step)
    if weights is not None and weights not in (names := weights_names(experiment)):
        raise UsageError(f"--weights={weights}: this run has {', '.join(names)}")
    examples, labels = make_sampler(experiment)(state, num_images, seed, weights)
    _write(output, experiment, examples, labels)
    return manifest.step


def load(workdir: pathlib.Path, step: int | None) -> tuple[Manifest, Experiment, GANState]:
    """The newest checkpoint that holds, or that of a step, on this machine's first device."""

    def load(manifest: Manifest) -> tuple[Manifest, Experiment, GANState]:
        config = dataclasses.replace(from_mapping(manifest.config), mesh="data(1)")
        experiment = build(config)
        return manifest, experiment, checkpoints.restore(manifest, experiment.state_target())

    with Checkpoints(workdir) as checkpoints:
        steps = checkpoints.all_steps()
        if not steps:
            raise UsageError(f"--workdir={workdir}: no checkpoint is saved there yet")
        if step is None:
            # A run that is under way may replace what was just found: hence twice.
            if (loaded := checkpoints.first_that(load) or checkpoints.first_that(load)) is None:
                raise RunError(f"no checkpoint in {workdir} can be trusted")
            return loaded
        if step not in steps:
            raise UsageError(f"--step={step}: saved are {', '.join(map(str, steps))}")
        try:
            return load(checkpoints.verify(step))
        except DamageError as damage:
            raise RunError(
                f"checkpoint {step} of {workdir} cannot be trusted: {damage}"
            ) from damage


def _check_writable(output: pathlib.Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = output.with_name(output.name + ".tmp")
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise UsageError(f"--output={output} cannot be written: {error.strerror}") from error


def _write(
    output: pathlib.Path, experiment: Experiment, examples: np.ndarray, labels: np.ndarray
) -> None:
    if output.suffix == ".png":
        pictures.write_png(output, draw_picture(experiment, examples))
        return
    beside = output.with_name(output.name + ".tmp")
    with beside.open("wb") as file:
        if output.suffix == ".npy":
            np.save(file, examples)
        else:
            np.savez_compressed(file, images=examples, labels=labels)
    beside.replace(output)
