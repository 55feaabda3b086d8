"""Drawing samples from a generator: during training, and from the checkpoints of a run."""

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from gan.data.dataset import to_uint8
from gan.data.proportions import labels_in_proportion
from gan.errors import UsageError, nearest
from gan.files import replacing, user_path
from gan.games.networks import draw_examples, has_mapping
from gan.image_grid import grid_labels, image_grid, scatter, write_images, write_png
from gan.metrics import vendi
from gan.models.network import Network
from gan.recalibration import recalibrate
from gan.state import GANState, stream_key
from gan.trainers.experiment import Experiment

BATCH_SIZE = 256
CLASSES = ("data", "equal")
_NUM_POINTS = 2_500  # in pictures of points, and in an evaluation (as PacGAN, 2018)


def weights_of(experiment: Experiment, state: GANState) -> dict[str, Any]:
    """Returns all weights of which samples can be, by name, the default first.

    Samples are drawn from what `Sampler.weights` makes of one of them. They are the averages, `raw`, the last iterate (of a schedule-free optimizer its x), and what the
    dynamics has besides; each is `{"params": ..., "variables": ...}`.
    """
    generator = state.players.generator
    extra = experiment.dynamics.extra_weights(state.dynamics_state)
    params = {"raw": generator.weights} | {name: pair.generator for name, pair in extra.items()}
    averages = {name: state.averages[name] for name in experiment.averaging}
    return averages | {
        name: {"params": own, "variables": generator.variables} for name, own in params.items()
    }


def choose_name(experiment: Experiment, state: GANState, name: str | None) -> str:
    """Returns the name of the weights that `--weights` asks for; None is the first.

    Raises:
      UsageError: for a name that the run does not have.
    """
    weights = weights_of(experiment, state)
    if name is None:
        return next(iter(weights))
    if name not in weights:
        raise UsageError(f"--weights={name}: this run has {', '.join(weights)}")
    return name


@dataclass(frozen=True)
class Sampler:
    """Draws from the generator of an experiment, with any of its weights; compiled at the first call.

    Examples are uint8 images `[N, H, W, C]` or float32 points `[N, D]`.

    Attributes:
      experiment: The run's parts.
      latents: `(seed, indices [B]) -> [B, Z]`: sample i of a seed has the same latents whatever the
        weights and the count.
      generate: `(weights, latents [B, Z], labels [B], truncation) -> (examples, finite)`: a batch, and
        whether the network's output was finite; truncation is None or a number, see `check_truncation`.
      recalibrate: `(weights, labels [N, B]) -> weights`, over N batches: see `gan.recalibration`.
    """

    experiment: Experiment
    latents: Callable[[int, np.ndarray], jax.Array]
    generate: Callable[..., tuple[jax.Array, jax.Array]]
    recalibrate: Callable[[Any, np.ndarray], Any]

    def weights(self, state: GANState, name: str | None = None) -> Any:
        """Returns the weights to draw samples with, `{"params": ..., "variables": ...}`.

        Those of an average are recalibrated where its spec says so, by batches as in training: of
        `batch_size` latents, the same at each step, and labels in the proportions of the data.

        Args:
          state: The run's state at some step.
          name: One of `weights_of`; None is the first.

        Raises:
          UsageError: for a name that the run does not have.
        """
        name = choose_name(self.experiment, state, name)
        weights = weights_of(self.experiment, state)[name]
        averaging = self.experiment.averaging.get(name)
        if averaging is None or not (num_batches := averaging.recalibrate_batch_norm):
            return weights
        size = self.experiment.config.batch_size
        return self.recalibrate(weights, self.labels(num_batches * size).reshape(num_batches, size))

    def __call__(
        self,
        weights: Any,
        count: int,
        seed: int,
        labels: np.ndarray | None = None,
        truncation: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws examples, and returns them with their labels `[N]`.

        Args:
          weights: From `weights`.
          count: N.
          seed: Seed of the latents.
          labels: The class of each example, `[N]`; None is `labels(N)`.
          truncation: As in `generate`.
        """
        if labels is None:
            labels = self.labels(count)
        batches = self.batches(weights, count, seed, labels, truncation)
        drawn = [examples for examples, _ in batches]
        return np.concatenate(drawn), labels

    def labels(self, count: int, classes: str = "data") -> np.ndarray:
        """Returns labels `[N]`, without chance; zeros where the generator is not conditional.

        Args:
          count: N.
          classes: `data` for the proportions of the data, `equal` for as many of each class that has
            examples. In either case label i depends on i alone.
        """
        if not self.experiment.game.generator.conditional:
            return np.zeros(count, np.int32)
        counts = self.experiment.class_counts
        return labels_in_proportion(counts if classes == "data" else counts > 0, count)

    def batches(
        self,
        weights: Any,
        count: int,
        seed: int,
        labels: np.ndarray | None = None,
        truncation: float | None = None,
    ) -> Iterator[tuple[np.ndarray, bool]]:
        """Yields the same examples in batches, each with whether the network's output was finite."""
        if labels is None:
            labels = self.labels(count)
        size = min(count, BATCH_SIZE)
        for begin in range(0, count, size):
            latents = self.latents(seed, np.arange(begin, begin + size))
            own = np.resize(labels[begin : begin + size], size)  # the last batch is filled up
            examples, finite = self.generate(weights, latents, own, truncation)
            yield np.asarray(examples)[: count - begin], bool(finite)


def make_sampler(experiment: Experiment) -> Sampler:
    """Makes the sampler of an experiment; those of one generator have one compiled program."""
    seed = np.uint32(experiment.config.seed)
    generator = experiment.game.generator
    make: Callable[..., tuple[Any, Any, Any]] = _programs
    try:
        hash(generator)
    except TypeError:  # it has a field of an array or the like, and is a key of no cache
        make = _programs.__wrapped__
    latents, recalibrated, generate = make(generator, experiment.game.latent_dim)
    return Sampler(
        experiment,
        lambda seed, indices: latents(np.uint32(seed), indices),
        generate,
        lambda weights, labels: recalibrated(weights, labels, seed),
    )


@functools.lru_cache(maxsize=8)
def _programs(generator: Network, latent_dim: int) -> tuple[Any, Any, Any]:
    """Returns the functions of a generator's sampler, jitted: latents, recalibrated, generate."""

    def draw(key: jax.Array, indices: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, indices)
        return jax.vmap(lambda key: jax.random.normal(key, [latent_dim]))(keys)  # [B, Z]

    @jax.jit
    def latents(seed: jax.Array, indices: jax.Array) -> jax.Array:
        return draw(stream_key(seed, "samples", 0), indices)

    @jax.jit
    def recalibrated(weights: Any, labels: jax.Array, seed: jax.Array) -> Any:
        own = draw(stream_key(seed, "recalibration", 0), jnp.arange(labels.size))
        own = own.reshape(*labels.shape, -1)  # [N, B, Z]
        return weights | {
            "variables": recalibrate(generator, **weights, latents=own, labels=labels)
        }

    @jax.jit
    def generate(
        weights: Any, latents: jax.Array, labels: jax.Array, truncation: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        params, variables = weights["params"], weights["variables"]
        examples = draw_examples(generator, params, variables, latents, labels, truncation)
        finite = jnp.isfinite(examples).all()
        return to_uint8(examples) if examples.ndim == 4 else examples, finite

    return latents, recalibrated, generate


def draw_picture(experiment: Experiment, examples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draws samples as one picture: a grid of images, or points over the real ones.

    The grid of a conditional generator is sorted by class, and has the classes' names.

    Args:
      experiment: The run's parts.
      examples: The samples, uint8 images `[N, H, W, C]` or points `[N, 2]`.
      labels: Their classes, `[N]`.

    Returns:
      The picture, uint8 `[H', W', C]`.

    Raises:
      UsageError: for points of more or fewer than two dimensions.
    """
    if examples.ndim == 4:
        if not experiment.game.generator.conditional:
            return image_grid(examples)
        order, names = np.argsort(labels, kind="stable"), experiment.dataset.names
        return image_grid(examples[order], [names[label] for label in labels[order]])
    if examples.shape[-1] != 2:
        raise UsageError(f"points of {examples.shape[-1]} dimensions cannot be drawn")
    return scatter(examples, _some_points(experiment))


def _some_points(experiment: Experiment) -> np.ndarray:
    """Returns real points for a picture, `[M, 2]`; none where the data are not at hand."""
    try:
        return experiment.dataset.load().examples[:2_000]
    except UsageError as error:
        logging.warning("the real points are left out: %s", error)
        return np.zeros([0, 2])


def draw_samples(sampler: Sampler, state: GANState, path: pathlib.Path) -> np.ndarray:
    """Draws samples, of the same latents at each step, and writes them as `step_<step>.png`.

    Args:
      sampler: The run's sampler.
      state: The run's state.
      path: The folder to write to; only the first process writes.

    Returns:
      The picture, uint8 `[H, W, C]`.
    """
    experiment = sampler.experiment
    if len(experiment.dataset.shape) == 3:
        conditional = experiment.game.generator.conditional
        present = np.flatnonzero(experiment.class_counts) if conditional else np.zeros(1, int)
        labels = grid_labels(present.tolist(), experiment.dataset.shape[0])
    else:
        labels = sampler.labels(_NUM_POINTS)
    drawn = sampler(sampler.weights(state), len(labels), experiment.config.seed, labels)
    picture = draw_picture(experiment, *drawn)
    if jax.process_index() == 0:
        write_png(path / f"step_{int(state.step):08d}.png", picture)
    return picture


def make_diversity(sampler: Sampler) -> Callable[[GANState], float]:
    """Makes the measure of how diverse the last iterate's samples are: see `gan.metrics.vendi`."""
    experiment, seed = sampler.experiment, sampler.experiment.config.seed
    assert experiment.data is not None
    reference = vendi.Reference(*experiment.data.diversity)

    def measure(state: GANState) -> float:
        weights = sampler.weights(state, "raw")
        return vendi.diversity(sampler(weights, reference.num_examples, seed)[0], reference)

    return measure


def check_seed(seed: int) -> None:
    """Raises UsageError for a seed of more than 32 bits."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise UsageError(f"--seed must be from 0 to 2**32 - 1, given {seed}")


def check_truncation(experiment: Experiment, truncation: float | None) -> None:
    """Checks a factor by which every w is drawn towards the mean of w; None is no truncation.

    Raises:
      UsageError: where the generator has no w, and for a number outside [-2, 2].
    """
    if truncation is None:
        return
    if not has_mapping(experiment.game.generator):
        raise UsageError(
            f"truncation: the generator of this run, {experiment.config.generator}, has no mapping "
            f"network and so no w to truncate; that of stylegan2 has one"
        )
    if not -2 <= truncation <= 2:
        raise UsageError(f"truncation must be in [-2, 2], 1 for none, given {truncation}")


def find_classes(experiment: Experiment, names: Sequence[str]) -> list[int]:
    """Returns the numbers of classes that a user names.

    Args:
      experiment: The run's parts.
      names: Names of classes, or numbers of those that have no such name.

    Raises:
      UsageError: where the generator is not conditional, for an unknown class, and for one that the
        data have no example of: the generator has never seen it.
    """
    known, counts = experiment.dataset.names, experiment.class_counts
    if not experiment.game.generator.conditional:
        raise UsageError("the generator of this run is not conditional: it has no classes")
    numbers = []
    for name in map(str, names):
        if name in known:
            number = known.index(name)
        elif name.isdecimal() and int(name) < len(known):
            number = int(name)
        else:
            few = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise UsageError(f"unknown class {name!r}{nearest(name, known)}; known: {few}")
        if not counts[number]:
            raise UsageError(f"class {name!r}: the data have no example of it")
        numbers.append(number)
    return numbers


def check_output(output: str | os.PathLike[str], separate: bool = False) -> None:
    """Raises UsageError where samples cannot be written to a file, or folder, of this name."""
    output = user_path(output)
    if separate:
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise UsageError(f"--output={output}: a folder that is new or empty is accepted")
    elif output.suffix not in (".png", ".npy", ".npz"):
        raise UsageError(
            f"--output={output}: a name in .png, .npy or .npz is accepted, or --separate for a folder "
            f"of images"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise UsageError(f"--output={output} cannot be written: {error.strerror}") from error


def write_samples(
    output: pathlib.Path, experiment: Experiment, examples: np.ndarray, labels: np.ndarray
) -> None:
    """Writes samples to a `.png` grid, an `.npy` array, or an `.npz`.

    The `.npz` has `images`, and of a conditional generator `labels` and `class_names`, so that it is a
    dataset like any other: `npz('samples.npz')`.
    """
    if output.suffix == ".png":
        write_png(output, draw_picture(experiment, examples, labels))
        return
    arrays = {"images": examples}
    if experiment.game.generator.conditional:
        arrays |= {"labels": labels, "class_names": np.array(experiment.dataset.names)}
    with replacing(output) as beside, beside.open("wb") as file:
        if output.suffix == ".npy":
            # Not to `file` itself: NumPy would say how many bytes were written, and not why.
            np.save(SimpleNamespace(write=file.write), examples)
        else:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def write_separately(
    folder: pathlib.Path, experiment: Experiment, examples: np.ndarray, labels: np.ndarray
) -> None:
    """Writes each image to a file of its own, `000000.png`, in a folder that appears whole.

    Those of a conditional generator are in a folder for each class, so that `images(..., labels=True)`
    reads them.

    Raises:
      UsageError: for points.
    """
    if examples.ndim != 4:
        raise UsageError("--separate: images can be written to files, and this run has points")
    names = experiment.dataset.names if experiment.game.generator.conditional else None
    write_images(folder, examples, labels, names)
