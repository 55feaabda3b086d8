"""From a config to the parts that it names: all are built and checked before any work is done."""

import dataclasses
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu.parameter_overview import get_parameter_overview
from jax.sharding import Mesh

from gan import parts
from gan.augmentation import DataAugmentation
from gan.averaging import Averaging
from gan.callbacks import Callback
from gan.checkpoints.retention import Retention
from gan.config import SETTINGS, TrainConfig, describe_keys
from gan.data import Dataset, Examples, Loader, check_examples
from gan.data.class_summary import describe_classes
from gan.data.description import Description, changes, describe_dataset
from gan.data.permutation import check_indices
from gan.data.placement import Placement, make_loader
from gan.dynamics import Dynamics
from gan.errors import UsageError, brief
from gan.games import AdversarialGame
from gan.metrics.game_metric import GameSetting
from gan.models import onednn
from gan.models.network import Network
from gan.nonfinite import OnNonfinite
from gan.optimizers import Rates, rates_of
from gan.players import ROLES, Pair, PlayerState, pairwise
from gan.precision import compute_dtype
from gan.registry import OURS, REGISTRIES
from gan.sharding import replicated
from gan.specs import are_numbers_named, parse
from gan.state import GANState, stream_key
from gan.trainers.evaluation.features import FeatureNetwork
from gan.trainers.experiment_checks import (
    check_batch_size,
    check_batches_fit,
    check_game,
    check_metrics,
    check_num_steps,
    check_optimizers,
    check_recalibration,
    check_retention,
    check_reuse,
    check_state_fits,
    check_step,
    name_penalties,
    parts_of_others,
    trace_networks,
)
from gan.trainers.experiment_warnings import find_warnings


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, as its config names them.

    `parts` is the SHA-256 of each file and module in `config.parts`, as it was executed. `data` is
    what is known of the examples, once they have been read by this run or by the one that was saved.
    """

    config: TrainConfig
    dataset: Dataset
    data_placement: Placement
    data_augmentation: tuple[DataAugmentation, ...]
    game: AdversarialGame
    optimizers: Pair[optax.GradientTransformation]
    dynamics: Dynamics
    averaging: dict[str, Averaging]
    mesh: Mesh
    on_nonfinite: OnNonfinite
    retention: tuple[Retention, ...]
    features: FeatureNetwork
    callbacks: tuple[Callback, ...]
    parts: dict[str, str]
    data: Description | None = None

    @property
    def rates(self) -> Pair[Rates]:
        """What each player's optimizer says of the size of its steps."""
        return Pair(
            generator=rates_of(self.config.generator_optimizer),
            discriminator=rates_of(self.config.discriminator_optimizer),
        )

    @property
    def game_setting(self) -> GameSetting:
        """What metrics of the game need to know of the run."""
        config = self.config
        optimizers = Pair(config.generator_optimizer, config.discriminator_optimizer)
        return GameSetting(self.game, config.loss, config.batch_size, self.mesh, optimizers)

    def init(self, seed: jax.Array | int | None = None) -> GANState:
        """Returns the state before the first step, a pure function of the config.

        Args:
          seed: Another seed than the config's, which may be traced.
        """
        seed = self.config.seed if seed is None else seed

        def player(
            optimizer: optax.GradientTransformation, network: tuple[Any, Any]
        ) -> PlayerState:
            params, variables = network
            return PlayerState(params, variables, optimizer.init(params))

        networks = self.game.init(stream_key(seed, "init", 0))
        players = pairwise(player, self.optimizers, networks)
        return GANState(
            step=jnp.zeros([], jnp.int32),
            players=players,
            dynamics_state=self.dynamics.init(players),
            averages={
                name: averaging.init(players.generator)
                for name, averaging in self.averaging.items()
            },
            rollbacks=jnp.zeros([], jnp.int32),
        )

    def init_on_mesh(self) -> GANState:
        """Returns the state before the first step, with a copy on each device of the mesh."""
        return jax.jit(self.init, out_shardings=replicated(self.mesh))()

    def state_target(self) -> GANState:
        """Returns the state's shapes, types and shardings: what a checkpoint is restored into."""
        sharding = replicated(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            jax.eval_shape(self.init),
        )

    def load_examples(self) -> Examples:
        """Reads the dataset.

        Raises:
          UsageError: where it is not there, is not what it was described as, or has too many examples
            for batches of this size.
        """
        try:
            examples = self.dataset.load()
            check_examples(self.dataset, examples)
        except Exception as error:
            if (where := parts.reason(error)) is None or isinstance(error, UsageError):
                raise
            raise UsageError(f"dataset = {self.config.dataset!r}: {where}") from error
        check_indices(len(examples.labels), self.config.batch_size)
        return examples

    def with_data(self, examples: Examples) -> "Experiment":
        """Returns the experiment that knows the classes of the examples that it has read."""
        data = describe_dataset(self.dataset, examples, self.config.seed)
        return dataclasses.replace(self, data=data)

    def describe_data(self) -> dict[str, Any]:
        """Returns what is known of the data as a mapping, for a checkpoint."""
        return {} if self.data is None else dataclasses.asdict(self.data)

    @property
    def convolutions(self) -> str:
        """By what the convolutions of the train step are computed: see `gan.models.onednn.describe`."""
        return onednn.describe(self.mesh.size)

    @property
    def class_counts(self) -> np.ndarray:
        """How many examples each class has, `[classes]`; where they were not read, as many of each."""
        if self.data is None:
            return np.ones(self.dataset.num_classes, np.int64)
        return np.asarray(self.data.class_counts)

    def make_loader(self, examples: Examples) -> Loader:
        """Makes the loader that brings the dataset's examples to the devices."""
        return make_loader(
            self.data_placement, examples, self.config.batch_size, self.dynamics.num_batches,
            self.mesh,
        )  # fmt: skip

    def find_warnings(self) -> list[str]:
        """Returns a line for each thing in the config that may not do what one expects of it."""
        return find_warnings(self)

    def describe(self) -> str:
        """Describes in a line how the players move."""
        config = self.config
        optimizers = [f"{role} {getattr(config, f'{role}_optimizer')}" for role in ROLES]
        return f"dynamics {config.dynamics}, optimizers: {', '.join(optimizers)}"

    def describe_networks(self) -> str:
        """Describes the data in a line, and each network in a table of its parameters."""
        config, networks = self.config, jax.eval_shape(self.game.init, jax.random.key(0))
        shape = " x ".join(map(str, self.dataset.shape))
        devices = f"{self.mesh.size} {jax.default_backend()} device(s)"
        texts = [f"{config.dataset}, {shape}; batches of {config.batch_size} on {devices}"]
        if self.data is not None:
            texts += describe_classes(self.data.class_names, self.data.class_counts)
        for role in ROLES:
            table = get_parameter_overview(networks.of(role)[0], include_stats=False)
            table = re.sub(r"(?<=\d)\.0\b", "", table)  # a scalar makes the total a float to clu
            texts.append(f"{role}: {getattr(config, role)}\n{table}")
        return "\n".join(texts)


def build(config: TrainConfig, data: Description | None = None) -> Experiment:
    """Builds every part that the config names, and checks that they fit together.

    Args:
      config: The config.
      data: What a saved run knows of its data, which then need not be there until they are loaded.

    Raises:
      UsageError: for anything that could not run, with the config key at fault.
    """

    def part(key: str, **context: Any) -> Any:
        return _build_parts(config, key, **context)

    if config.population > 1:
        raise UsageError(
            f"population = {config.population}: several runs are trained by scripts/train.py, or by "
            f"gan.trainers.population.train_population(config, workdir)"
        )
    mesh = part("mesh")
    check_batch_size(config, mesh)
    optimizers = Pair(
        generator=part("generator_optimizer"), discriminator=part("discriminator_optimizer")
    )
    loss, regularizers, dynamics = part("loss"), part("regularizers"), part("dynamics")
    check_num_steps(config, dynamics)
    averaging = _named_averaging(config, part("averaging", batch_size=config.batch_size))
    on_nonfinite, retention = part("on_nonfinite"), part("keep_checkpoints")
    penalties = name_penalties(config, regularizers)
    data_placement, features = part("data_placement"), part("eval_features")
    part("eval_metrics")
    data_augmentation, callbacks = part("data_augmentation"), part("callbacks")

    def read_dataset() -> Dataset:
        return part("dataset", data_dir=config.data_dir)

    if data is None:
        dataset = read_dataset()
    else:
        dataset = data.dataset(functools.cache(lambda: _read_same(data, read_dataset)))
    if data_augmentation and len(dataset.shape) != 3:
        raise UsageError(
            f"data_augmentation = {config.data_augmentation}: of images, and dataset is "
            f"{config.dataset!r}"
        )
    discriminator_augmentation = part("discriminator_augmentation")
    kind = {
        "shape": dataset.shape,
        "num_classes": dataset.num_classes,
        "dtype": compute_dtype(config.precision),
    }
    generator: Network = part("generator", **kind)
    discriminator: Network = part("discriminator", **kind, class_logits=loss.classes is not None)
    game = AdversarialGame(
        generator, discriminator, loss, config.latent_dim, dataset.shape, penalties,
        discriminator_augmentation, config.microbatches, config.generator_batch_size,
    )  # fmt: skip
    check_game(config, game, dataset)
    check_reuse(config, dynamics, game)
    experiment = Experiment(
        config, dataset, data_placement, data_augmentation, game, optimizers, dynamics, averaging, mesh,
        on_nonfinite, retention, features, callbacks,
        parts.digests_of(config.parts), data,
    )  # fmt: skip
    check_retention(experiment)
    if config.eval_metrics:
        check_metrics(experiment)
    networks = trace_networks(experiment)
    check_optimizers(experiment, networks)
    check_recalibration(experiment, networks)
    check_state_fits(experiment, networks)
    if data is None:  # a run that is saved may be loaded on a smaller machine
        check_batches_fit(experiment)
    if dynamics.needs_derivative or parts_of_others(config):
        check_step(experiment)
    return experiment


def _read_same(saved: Description, read_dataset: Callable[[], Dataset]) -> Examples:
    """Reads a saved run's data.

    Raises:
      UsageError: where they are not there, or are not those that it was trained on.
    """
    try:
        dataset = read_dataset()
        examples = dataset.load()
    except UsageError as error:
        raise UsageError(f"{error}; --dataset names the data where they are now") from error
    if lines := changes(saved, describe_dataset(dataset, examples)):
        raise UsageError(
            f"dataset {dataset.name}: these are not the data that the run was trained on: "
            f"{'; '.join(lines)}"
        )
    return examples


def list_keys_and_parts() -> str:
    """Lists every config key, and all that specs can name, from the signatures in the code.

    Returns:
      A line for each key; and a section for each kind of part, headed by its config keys, or by the
      kind where it has none; in it a line for each name, with arguments, defaults and bounds, and
      with where it is from unless it is ours.
    """
    headings: dict[str, list[str]] = {}
    for key, setting in SETTINGS.items():
        if setting.part is not None:
            headings.setdefault(setting.part, []).append(key)
    for kind in REGISTRIES:
        headings.setdefault(kind, [kind])
    sections = ["config keys:\n" + "\n".join(f"  {line}" for line in describe_keys())]
    for kind, heading in headings.items():
        registry = REGISTRIES[kind]
        lines = [f"{', '.join(heading)}:"]
        for name in registry:
            line = f"  {registry.usage(name)}"
            if bounds := registry.bounds(name):
                line += f"  [{bounds}]"
            if (origin := registry.origin(name)) != OURS:
                line += f"  from {origin}"
            lines.append(line)
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def undeclared_parts(config: TrainConfig) -> list[str]:
    """Names the parts that a saved run could not find again: they are from no file in its `parts`."""
    return parts.undeclared(config.parts, parts_of_others(config))


def _build_parts(config: TrainConfig, key: str, **context: Any) -> Any:
    """Builds the part that a config key names, or a tuple of them."""
    kind = SETTINGS[key].part
    assert kind is not None

    def build_one(text: str) -> Any:
        try:
            return REGISTRIES[kind].build(text, **context)
        except UsageError as error:
            raise UsageError(f"{key} = {brief(text)}: {error}") from error

    specs = getattr(config, key)
    return build_one(specs) if isinstance(specs, str) else tuple(map(build_one, specs))


def _named_averaging(config: TrainConfig, averaging: tuple[Averaging, ...]) -> dict[str, Averaging]:
    """Names each average by its spec's name, or by the whole spec where that name occurs twice."""
    names = [parse(text)[0].name for text in config.averaging]
    named = {
        name if names.count(name) == 1 else text.strip(): average
        for name, text, average in zip(names, config.averaging, averaging, strict=True)
    }
    if are_numbers_named():  # which of them are equal is not known, and was looked at before
        return named
    if min(len(named), len(set(averaging))) < len(averaging):
        raise UsageError(f"averaging = {config.averaging}: the same average is there twice")
    return named
