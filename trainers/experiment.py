"""From a config to the parts it names: all of them built and checked before any work is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gan.augmentation import AUGMENTATIONS, Augmentation
from gan.averaging import AVERAGING, Averaging
from gan.config import TrainConfig
from gan.data import DATASETS, Batch, Dataset
from gan.data.dataset import Examples
from gan.data.feeds import Feed
from gan.data.placement import PLACEMENTS, Placement, make_feed
from gan.dynamics import DYNAMICS, Dynamics, Moved
from gan.errors import UsageError, nearest
from gan.games import AdversarialGame
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.nonfinite import ON_NONFINITE, OnNonfinite
from gan.optimizers import OPTIMIZERS
from gan.players import ROLES, Pair, PlayerState, pairwise
from gan.regularizers import REGULARIZERS
from gan.retention import RETENTION, Best, Retention
from gan.sharding import MESHES, replicated
from gan.specs import Registry, parse
from gan.state import GANState, stream_key
from gan.trainers.features import FEATURES, Features

T = TypeVar("T")

REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "data_placement": PLACEMENTS,
    "augmentation": AUGMENTATIONS,
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "loss": LOSSES,
    "regularizers": REGULARIZERS,
    "generator_optimizer, discriminator_optimizer": OPTIMIZERS,
    "dynamics": DYNAMICS,
    "averaging": AVERAGING,
    "mesh": MESHES,
    "on_nonfinite": ON_NONFINITE,
    "keep_checkpoints": RETENTION,
    "eval_features": FEATURES,
}
"""Config keys, and what their specs can name."""


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, as its config names them."""

    config: TrainConfig
    dataset: Dataset
    data_placement: Placement
    augmentation: tuple[Augmentation, ...]
    game: AdversarialGame
    optimizers: Pair[optax.GradientTransformation]
    dynamics: Dynamics
    averaging: dict[str, Averaging]
    mesh: Mesh
    on_nonfinite: OnNonfinite
    retention: tuple[Retention, ...]
    features: Features

    def init(self) -> GANState:
        """The state before the first step, a pure function of the seed."""

        def player(
            optimizer: optax.GradientTransformation, networks: tuple[Any, Any]
        ) -> PlayerState:
            params, variables = networks
            return PlayerState(params, variables, optimizer.init(params))

        networks = self.game.init(stream_key(self.config.seed, "init", 0))
        players = pairwise(player, self.optimizers, networks)
        return GANState(
            step=jnp.zeros([], jnp.int32),
            players=players,
            dynamics=self.dynamics.init(players),
            averages={
                name: averaging.init(players.generator)
                for name, averaging in self.averaging.items()
            },
            rollbacks=jnp.zeros([], jnp.int32),
        )

    def feed(self, examples: Examples) -> Feed:
        """What brings the examples of its dataset to its devices."""
        return make_feed(
            self.data_placement, examples, self.config.batch_size, self.dynamics.num_batches,
            self.mesh,
        )  # fmt: skip

    def init_on_mesh(self) -> GANState:
        """`init`, compiled, a copy on each device of the mesh."""
        return jax.jit(self.init, out_shardings=replicated(self.mesh))()

    def state_target(self) -> GANState:
        """The shapes, types and shardings of the state: what a checkpoint is restored into."""
        sharding = replicated(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            jax.eval_shape(self.init),
        )


def build(config: TrainConfig) -> Experiment:
    """Builds every part that the config names, and checks that they fit together.

    Raises:
      UsageError: with the config key at fault, for anything that could not run.
    """
    mesh = _part("mesh", config.mesh, MESHES)
    if config.batch_size % mesh.size:
        raise UsageError(
            f"batch_size = {config.batch_size} does not divide by the {mesh.size} devices of "
            f"mesh = {config.mesh!r}; {_neighbours(config.batch_size, mesh.size)} would"
        )
    optimizers = Pair(
        generator=_part("generator_optimizer", config.generator_optimizer, OPTIMIZERS),
        discriminator=_part("discriminator_optimizer", config.discriminator_optimizer, OPTIMIZERS),
    )
    losses = _part("loss", config.loss, LOSSES)
    regularizers = tuple(_part("regularizers", spec, REGULARIZERS) for spec in config.regularizers)
    dynamics = _part("dynamics", config.dynamics, DYNAMICS)
    averaging = {
        parse(text)[0].name: _part("averaging", text, AVERAGING) for text in config.averaging
    }
    if len(averaging) < len(config.averaging):
        raise UsageError(f"averaging = {config.averaging}: each name can be used once")
    on_nonfinite = _part("on_nonfinite", config.on_nonfinite, ON_NONFINITE)
    retention = tuple(
        _part("keep_checkpoints", spec, RETENTION) for spec in config.keep_checkpoints
    )
    _check_metrics(config, retention)
    dataset = _part("dataset", config.dataset, DATASETS, data_dir=config.data_dir)
    data_placement = _part("data_placement", config.data_placement, PLACEMENTS)
    augmentation = tuple(_part("augmentation", spec, AUGMENTATIONS) for spec in config.augmentation)
    if augmentation and len(dataset.shape) != 3:
        raise UsageError(
            f"augmentation = {config.augmentation}: of images, and dataset is {config.dataset!r}"
        )
    data = {"shape": dataset.shape, "num_classes": dataset.num_classes}
    generator = _part("generator", config.generator, GENERATORS, **data)
    discriminator = _part("discriminator", config.discriminator, DISCRIMINATORS, **data)
    if generator.conditional != discriminator.conditional:
        raise UsageError("conditional must be the same for generator and discriminator")
    features = _part("eval_features", config.eval_features, FEATURES)
    game = AdversarialGame(
        generator, discriminator, losses, config.latent_dim, dataset.shape, regularizers
    )
    experiment = Experiment(
        config, dataset, data_placement, augmentation, game, optimizers, dynamics, averaging, mesh,
        on_nonfinite, retention, features,
    )  # fmt: skip
    _check_optimizers(experiment)
    if dynamics.needs_derivative:
        _check_derivative(experiment)
    return experiment


def _part(key: str, text: str, registry: Registry[T], **context: Any) -> T:
    try:
        return registry.build(text, **context)
    except UsageError as error:
        raise UsageError(f"{key} = {text!r}: {error}") from error


def _check_metrics(config: TrainConfig, rules: tuple[Retention, ...]) -> None:
    """Looks whether the metrics by which checkpoints are kept will be there."""
    known = {"diversity", "images_per_second", "logits/real", "logits/fake"}
    known |= {f"{kind}/{role}" for kind in ("loss", "grad_norm", "update_norm") for role in ROLES}
    known |= {f"penalty/{parse(spec)[0].name}" for spec in config.regularizers}
    for metric in {rule.metric for rule in rules if isinstance(rule, Best)}:
        if metric.startswith("eval/"):
            every = config.eval_every_steps
            if not every:
                raise UsageError(
                    f"keep_checkpoints = {config.keep_checkpoints}: {metric} is measured only "
                    f"where eval_every_steps is not 0"
                )
            together = math.lcm(every, config.checkpoint_every_steps)
            if every <= config.num_steps < together and config.num_steps % every:
                raise UsageError(
                    f"keep_checkpoints = {config.keep_checkpoints}: no checkpoint is saved at a step "
                    f"that is scored (eval_every_steps = {every}, checkpoint_every_steps = "
                    f"{config.checkpoint_every_steps})"
                )
        elif metric not in known:
            hint = nearest(metric, known) or f"; known: eval/..., {', '.join(sorted(known))}"
            raise UsageError(
                f"keep_checkpoints = {config.keep_checkpoints}: no metric {metric!r} is logged{hint}"
            )


def _check_optimizers(experiment: Experiment) -> None:
    """Traces one update of each optimizer: some cannot follow a gradient as it comes."""
    networks = jax.eval_shape(experiment.game.init, jax.random.key(0))
    for role in ROLES:
        optimizer = optax.with_extra_args_support(experiment.optimizers.of(role))
        params, _ = networks.of(role)
        step: Callable[..., Any] = lambda params, optimizer=optimizer: optimizer.update(
            params, optimizer.init(params), params, value=jnp.zeros([])
        )
        try:
            jax.eval_shape(step, params)
        except Exception as error:  # whatever an optimizer may raise
            spec = getattr(experiment.config, f"{role}_optimizer")
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"{role}_optimizer = {spec!r}: {reason}") from error


def _check_derivative(experiment: Experiment) -> None:
    """Traces one step of a dynamics that differentiates the vector field."""
    config, batch_size = experiment.config, experiment.config.batch_size
    batch = Batch(
        examples=jnp.zeros([batch_size, *experiment.dataset.shape]),
        labels=jnp.zeros([batch_size], jnp.int32),
        update=jnp.zeros([], jnp.int32),
    )

    def step(state: GANState) -> Moved:
        batches = [batch] * experiment.dynamics.num_batches
        return experiment.dynamics.step(
            experiment.game, experiment.optimizers, state.players, state.dynamics, batches,
            jax.random.key(0),
        )  # fmt: skip

    try:
        jax.eval_shape(step, jax.eval_shape(experiment.init))
    except Exception as error:  # whatever JAX may raise
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"dynamics = {config.dynamics!r} needs the derivative of the vector field, and cannot "
            f"take it of loss = {config.loss!r} with these networks: {reason}"
        ) from error


def _neighbours(size: int, devices: int) -> str:
    below = size - size % devices
    return " or ".join(str(near) for near in (below, below + devices) if near)
