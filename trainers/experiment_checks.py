"""Checks that the parts of a run fit together, before any work is done."""

import math
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gan import parts
from gan.argument_bounds import NUMBERS_END
from gan.config import SETTINGS, TrainConfig
from gan.data import Batch, Dataset
from gan.dynamics.dynamics import Dynamics, check_optimizer
from gan.errors import UsageError, brief, describe, nearest
from gan.games import AdversarialGame
from gan.games.adversarial import AUGMENTATION
from gan.games.penalties import metric_name
from gan.memory import check_fits, device_memory, host_memory, tree_bytes
from gan.metrics.metric import AnyMetric, Need, choose_metrics, score_names
from gan.optimizers import check_links, trace_update
from gan.players import ROLES, Pair
from gan.recalibration import find_momenta
from gan.registry import OURS, REGISTRIES
from gan.regularizers import Regularizer
from gan.second_moments import second_moment_of
from gan.specs import names_in, parse
from gan.state import GANState
from gan.trainers.evaluation.features import inputs_of

Experiment: TypeAlias = Any  # that of `gan.trainers.experiment`, which imports this module


def parts_of_others(config: TrainConfig) -> list[tuple[str, str]]:
    """Returns kind and name of each part of a config that is not from this package."""
    found = []
    for key, setting in SETTINGS.items():
        if setting.part is None:
            continue
        registry, specs = REGISTRIES[setting.part], getattr(config, key)
        for spec in (specs,) if isinstance(specs, str) else specs:
            for name in sorted(names_in(spec)):
                owner = registry.owner(name)
                found += [(owner.kind, name)] * (owner.origin(name) != OURS)
    return found


def check_batch_size(config: TrainConfig, mesh: Mesh) -> None:
    """Checks that each device gets as many examples of a batch, and of its parts, as the others."""
    count = mesh.size * config.microbatches
    divisor = f"the {mesh.size} devices of mesh = {config.mesh!r}"
    if config.microbatches > 1:
        divisor += f" times microbatches = {config.microbatches}"
    for key in ("batch_size", "generator_batch_size"):
        size = getattr(config, key)
        if size is not None and (rest := size % count):
            near = " or ".join(str(near) for near in (size - rest, size - rest + count) if near)
            raise UsageError(f"{key} = {size} does not divide by {divisor}; {near} would")


def name_penalties(
    config: TrainConfig, penalties: tuple[Regularizer, ...]
) -> dict[str, Regularizer]:
    """Returns the penalties by the names of their specs; no two may have one name."""
    names = [parse(spec)[0].name for spec in config.regularizers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"regularizers = {config.regularizers}: two are named {name!r}")
    if AUGMENTATION in names:
        raise UsageError(f"regularizers: {AUGMENTATION!r} is the name of another state; rename it")
    return dict(zip(names, penalties, strict=True))


def check_game(config: TrainConfig, game: AdversarialGame, dataset: Dataset) -> None:
    """Checks that networks, loss, penalties and augmentation suit one another and the data."""
    augmentation = f"discriminator_augmentation = {brief(config.discriminator_augmentation)}"
    try:
        game.augmentation.check_shape(dataset.shape)
    except ValueError as error:
        raise UsageError(f"{augmentation}: {error}") from error
    if game.augmentation.reads_signs and game.losses.confidence is None:
        raise UsageError(
            f"{augmentation} needs logits whose sign tells real from fake, and those of loss = "
            f"{config.loss!r} do not; ada(p=0.3) has a strength that stays"
        )
    conditional = [game.generator.conditional, game.discriminator.conditional]
    if game.losses.classes is not None:
        if not conditional[0]:
            raise UsageError(
                f"loss = {config.loss!r} is about classes, and generator = {config.generator!r} is not "
                f"conditional; it takes conditional=True"
            )
    elif conditional[0] != conditional[1]:
        raise UsageError("conditional must be the same for generator and discriminator")
    if conditional[0] and dataset.num_classes < 2:
        raise UsageError(
            f"generator = {config.generator!r} is conditional, and dataset = {config.dataset!r} has no "
            f"classes; images(..., labels=True) takes each folder for a class"
        )
    for spec, penalty in zip(config.regularizers, game.regularizers.values(), strict=True):
        try:
            penalty.check_networks(game.generator, game.discriminator)
        except ValueError as error:
            raise UsageError(f"regularizers = {brief(spec)}: {error}") from error


def check_reuse(config: TrainConfig, dynamics: Dynamics, game: AdversarialGame) -> None:
    """Checks that the generator's step can take the discriminator's fakes again, where it is to."""
    if not dynamics.reuses_fakes:
        return
    try:
        game.check_reuse(config.batch_size)
    except UsageError as error:
        raise UsageError(f"dynamics = {config.dynamics!r}: {error}") from error


def check_metrics(experiment: Experiment) -> dict[str, AnyMetric]:
    """Checks that the metrics of a run suit its data, and returns them by name."""
    config, conditional = experiment.config, experiment.game.generator.conditional
    inputs = inputs_of(experiment.features, experiment.dataset, conditional)
    source = f"{config.dataset} with eval_features = {config.eval_features!r}"
    try:
        return choose_metrics(config.eval_metrics or None, inputs | {Need.PLAYERS}, source)
    except UsageError as error:
        raise UsageError(f"eval_metrics = {config.eval_metrics}: {error}") from error


def check_retention(experiment: Experiment) -> None:
    """Checks that the metrics by which checkpoints are kept will be there."""
    config, rules = experiment.config, experiment.retention
    known = {"diversity", "images_per_second", "logits/real", "logits/fake"}
    kinds = ("loss", "grad_norm", "update_norm", "step_size")
    known |= {f"{kind}/{role}" for kind in kinds for role in ROLES}
    known |= {
        f"preconditioned_rms/{role}"
        for role in ROLES
        if second_moment_of(getattr(config, f"{role}_optimizer")) is not None
    }
    known |= {
        metric_name(name, role)
        for name, regularizer in experiment.game.regularizers.items()
        for role in regularizer.roles
    }
    if experiment.game.losses.classes is not None:
        known |= {"class_loss", "class_accuracy/real", "class_accuracy/fake"}
    states = experiment.game.init_training_state("discriminator").get(AUGMENTATION, {})
    known |= set(experiment.game.augmentation.metrics(states))
    for metric in {metric for rule in rules for metric in rule.needed_metrics}:
        if metric.startswith("eval/"):
            measured = score_names(check_metrics(experiment))
            if metric not in (scores := {f"eval/{name}" for name in measured}):
                hint = nearest(metric, scores) or f"; known: {', '.join(sorted(scores))}"
                raise UsageError(
                    f"keep_checkpoints = {config.keep_checkpoints}: no score {metric!r} is measured "
                    f"of dataset = {config.dataset!r}{hint}"
                )
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


def check_num_steps(config: TrainConfig, dynamics: Dynamics) -> None:
    """Checks that the numbers of all batches of a run fit into int32, as they are counted there."""
    if config.num_steps * dynamics.num_batches >= NUMBERS_END:
        most = (NUMBERS_END - 1) // dynamics.num_batches
        raise UsageError(
            f"num_steps = {config.num_steps} with dynamics = {config.dynamics!r}: at most {most} steps "
            f"of {dynamics.num_batches} batches can be counted"
        )


def check_state_fits(experiment: Experiment, networks: Pair[Any]) -> None:
    """Checks that the state, of which each device has a copy, fits into memory; allocates nothing."""
    config, state = experiment.config, jax.eval_shape(experiment.init)
    needs = {"dynamics = " + brief(config.dynamics): tree_bytes(state.dynamics_state)}
    for role in ROLES:
        network, sizes = getattr(experiment.game, role), [f"latent_dim = {config.latent_dim}"]
        sizes = sizes if role == "generator" else []
        sizes += [f"{network.num_classes} classes"] if network.conditional else []
        what = f"{role} = {getattr(config, role)!r}" + (" with " if sizes else "")
        needs[what + " and ".join(sizes)] = tree_bytes(networks.of(role))
        optimizer = getattr(config, f"{role}_optimizer")
        needs[f"{role}_optimizer = {optimizer!r}"] = tree_bytes(state.players.of(role).opt_state)
    needs[f"averaging = {config.averaging}"] = tree_bytes(state.averages)
    check_fits(needs, device_memory(experiment.mesh), "on each device")
    check_fits(needs, host_memory(), "on this machine")


def check_batches_fit(experiment: Experiment) -> None:
    """Checks that the real and fake examples and the latents of one step fit into memory."""
    config, shape = experiment.config, experiment.dataset.shape
    numbers = 2 * math.prod(shape) + config.latent_dim
    size = 4 * numbers * config.batch_size * experiment.dynamics.num_batches
    what = f"batch_size = {config.batch_size} of {' x '.join(map(str, shape))} numbers"
    memory = device_memory(experiment.mesh) * experiment.mesh.size
    check_fits({what: size}, memory, "on all devices together")


def trace_networks(experiment: Experiment) -> Pair[Any]:
    """Returns the shapes of the networks' parameters and variables: a fault shows before any work.

    They are traced on a batch, or a part of it, as in training: a network may refuse some sizes.
    """
    config, init = experiment.config, experiment.game.init
    sizes = {config.batch_size, config.generator_batch_size or config.batch_size}
    try:
        traced = [
            jax.eval_shape(partial(init, size=size // config.microbatches), jax.random.key(0))
            for size in sizes
        ]
        return traced[0]
    except Exception as error:  # whatever a network may raise
        raise UsageError(
            f"the networks cannot be initialised: {parts.reason(error) or describe(error)}"
        ) from error


def check_optimizers(experiment: Experiment, networks: Pair[Any]) -> None:
    """Checks of each optimizer that it needs no more than a gradient, and that its weights are known."""
    for role in ROLES:
        spec = getattr(experiment.config, f"{role}_optimizer")
        try:
            state = trace_update(experiment.optimizers.of(role), networks.of(role)[0])
            check_links(spec, state)
            check_optimizer(experiment.dynamics, state)
        except Exception as error:  # whatever an optimizer may raise
            raise UsageError(f"{role}_optimizer = {spec!r}: {_first_line(error)}") from error


def check_recalibration(experiment: Experiment, networks: Pair[Any]) -> None:
    """Checks that the generator has batch normalisation, where an average is to recalibrate it."""
    config, game = experiment.config, experiment.game
    if not any(average.recalibrate_batch_norm for average in experiment.averaging.values()):
        return
    params, variables = networks.generator
    if not find_momenta(game.generator, params, variables, game.latent_dim):
        raise UsageError(
            f"averaging = {config.averaging}: recalibrate_batch_norm is of a generator with batch "
            f"normalisation, and generator = {config.generator!r} has none"
        )


def check_step(experiment: Experiment) -> None:
    """Traces one step and one drawing of samples: a fault in someone's part shows before any work."""
    config, batch_size = experiment.config, experiment.config.batch_size
    update, key = jnp.zeros([], jnp.int32), jax.random.key(0)

    def step(state: GANState) -> Any:
        examples = jnp.zeros([batch_size, *experiment.dataset.shape])
        labels = jnp.zeros([batch_size], jnp.int32)
        for augment in experiment.data_augmentation:
            examples = augment(examples, key)
        batch = Batch(examples=examples, labels=labels, update=update)
        output = experiment.dynamics.step(
            experiment.game, experiment.optimizers, state.players, state.dynamics_state,
            [batch] * experiment.dynamics.num_batches, key,
        )  # fmt: skip
        for name, averaging in experiment.averaging.items():
            averaging.update(state.averages[name], output.players.generator, state.step)
        generator, latents = output.players.generator, jnp.zeros([batch_size, config.latent_dim])
        experiment.game.sample(generator.weights, generator.variables, latents, labels)
        return output.players, output.dynamics_state

    try:
        before = jax.eval_shape(experiment.init)
        after = jax.eval_shape(step, before)
        _check_same_tree("players", before.players, after[0])
        _check_same_tree("dynamics_state", before.dynamics_state, after[1])
    except Exception as error:  # whatever JAX, or someone's part, may raise
        if (where := parts.reason(error)) is not None:
            raise UsageError(f"no step can be made with these parts: {where}") from error
        if not experiment.dynamics.needs_derivative:
            raise UsageError(f"no step can be made with these parts: {describe(error)}") from error
        raise UsageError(
            f"dynamics = {config.dynamics!r} needs the derivative of the vector field, and cannot "
            f"take it of loss = {config.loss!r} with these networks: {_first_line(error)}"
        ) from error


def _check_same_tree(name: str, before: Any, after: Any) -> None:
    """Raises UsageError where a step returns a state of another structure, or other shapes or types."""
    shapes = [
        {
            jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (before, after)
    ]
    for place in [*shapes[0], *shapes[1]]:
        old, new = (own.get(place, "nothing") for own in shapes)
        if old != new:
            raise UsageError(
                f"a step must keep the shape of {name}{place}, {old}, and returns {new}"
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
