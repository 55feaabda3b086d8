"""The spectrum of a run's game at its checkpoints, advice from it, and the path angle between two of them."""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gan.analysis.advice import Advice, Method, advise, methods_of
from gan.analysis.linear_steps import Momentum, StepMap, linear_steps
from gan.analysis.linearization import linear_optimizer
from gan.analysis.path_angle import PathAngle, path_angle
from gan.analysis.preconditioner import Preconditioner, find_preconditioner
from gan.analysis.spectrum import FieldJacobian, Spectrum, field_jacobian, leading_spectrum
from gan.checkpoints import Checkpoints
from gan.dynamics import Dynamics
from gan.environment import check_precision
from gan.errors import RunError, UsageError
from gan.files import user_path
from gan.optimizers import rates_of
from gan.players import ROLES, Pair, PlayerState
from gan.run_folder import check_workdir
from gan.schedules import counted_from
from gan.state import GANState
from gan.trainers.diagnosis.field import Field, choose_point, make_field
from gan.trainers.evaluation.evaluate import load_chosen
from gan.trainers.experiment import Experiment
from gan.trainers.resume import load_step
from gan.trainers.sampling import check_seed

_MOST_EIGENVALUES = 100
_MOST_BATCHES = 1_000
_PLACES = np.linspace(-0.5, 1.5, 81)  # on the line between two checkpoints


@dataclass(frozen=True)
class Protocol:
    """How fields are measured.

    Attributes:
      k: How many eigenvalues of each kind are asked for.
      num_batches: The batches that a field is a mean over.
      batch_size: Real examples in each.
      seed: The batches are the first of this seed, the same at every checkpoint.
      weights: See `gan.trainers.diagnosis.field.choose_point`.
    """

    k: int = 6
    num_batches: int = 4
    batch_size: int | None = None
    seed: int = 0
    weights: str = "raw"

    def check(self) -> None:
        """Raises UsageError for numbers that cannot be."""
        for name, most in (("k", _MOST_EIGENVALUES), ("num_batches", _MOST_BATCHES)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise UsageError(f"--{name} must be from 1 to {most:,}, given {value}")
        check_seed(self.seed)


@dataclass(frozen=True)
class Diagnosis:
    """What was found at a checkpoint.

    Attributes:
      step: The step.
      sizes: The number of each player's parameters, the generator's first.
      batch_size: Real examples in each batch.
      plain: The spectrum of the vector field.
      seen: That of the field as the optimizers see it; None where that is not known.
      notes: Why it is not known, or what is left out of it.
      preconditioner: What makes one of the other.
      own: The run's own method; None where it is none of those that are compared.
      rate: The generator's learning rate; None where its optimizer has none.
      advice: What linear theory says of methods, the best first.
      left_out: Eigenvalues that no method has stable.
      own_step: Of a dynamics whose steps are no polynomials in J, the leading eigenvalues of the run's
        own steps, less 1; None for the others.
      period: How many steps those are.
    """

    step: int
    sizes: tuple[int, int]
    batch_size: int
    plain: Spectrum
    seen: Spectrum | None
    notes: list[str]
    preconditioner: Preconditioner | None
    own: Method | None
    rate: float | None
    advice: list[Advice]
    left_out: np.ndarray
    own_step: Spectrum | None
    period: int


@dataclass(frozen=True)
class Between:
    """The path angle between two checkpoints.

    Attributes:
      steps: Their steps.
      angle: What was measured.
    """

    steps: tuple[int, int]
    angle: PathAngle


def diagnose_run(
    workdir: str | pathlib.Path,
    *,
    steps: str = "latest",
    protocol: Protocol = Protocol(),
    between: tuple[int, int] | None = None,
    output: pathlib.Path | None = None,
    parts: Sequence[str] = (),
) -> tuple[list[Diagnosis], Between | None]:
    """Diagnoses the game of a run at its checkpoints.

    Args:
      workdir: The run's folder.
      steps: `all`, `best`, `latest`, or a step.
      protocol: How fields are measured.
      between: The steps of the path angle; None is the first and the last that are kept, where there are
        two.
      output: The folder that will be written to, checked before any work.
      parts: Files and modules with parts that the user names; see `gan.parts.load_saved`.

    Returns:
      The diagnoses, and the path angle where there are two checkpoints.

    Raises:
      UsageError: where there is no such run, step, weights or data, and for numbers that cannot be.
      RunError: where a checkpoint cannot be trusted.
    """
    workdir = user_path(workdir)
    protocol.check()
    check_precision()
    check_workdir(workdir)
    if output is not None:
        check_output(output)
    fields: dict[str, Field] = {}

    def field_of(experiment: Experiment) -> Field:
        key = str(experiment.config)
        if key not in fields:
            size = protocol.batch_size
            size = experiment.config.batch_size if size is None else size
            fields[key] = make_field(experiment, protocol.num_batches, size, protocol.seed)
        return fields[key]

    found = []
    with (
        Checkpoints(workdir) as checkpoints,
        jax.default_matmul_precision("highest"),  # a GPU's is 10 bits, and residuals are checked
    ):
        pair = _steps_between(checkpoints, between)
        for experiment, state in load_chosen(checkpoints, steps, parts):
            players = choose_point(experiment, state, protocol.weights)
            found.append(_diagnose(field_of(experiment), state, players, protocol))
        if not found:
            raise RunError(f"no checkpoint in {workdir} can be diagnosed")
        if pair is None:
            return found, None
        ends = []
        for step in pair:
            experiment, state = load_step(checkpoints, step, parts)
            ends.append(choose_point(experiment, state, protocol.weights))
        field = field_of(experiment)
        with counted_from(state.step):
            angle = path_angle(field.game, ends[0], ends[1], field.batches, field.keys, _PLACES)
    return found, Between(pair, angle)


def check_output(output: pathlib.Path) -> None:
    """Makes a folder where it is missing; raises UsageError where it cannot be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise UsageError(f"--output={output} cannot be written: {error.strerror}") from error


def _steps_between(
    checkpoints: Checkpoints, between: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Returns the steps of the path angle; None where only one checkpoint is kept."""
    saved = checkpoints.all_steps()
    if between is None:
        return (saved[0], saved[-1]) if len(saved) > 1 else None
    for step in between:
        if step not in saved:
            known = ", ".join(map(str, saved)) or "none"
            raise UsageError(f"--path_angle={between[0]},{between[1]}: saved are {known}")
    if between[0] == between[1]:
        raise UsageError(f"--path_angle={between[0]},{between[1]}: two steps are needed")
    return between


def _diagnose(
    field: Field, state: GANState, players: Pair[PlayerState], protocol: Protocol
) -> Diagnosis:
    """Finds all that is to be found at a checkpoint."""
    experiment, step = field.experiment, int(state.step)
    sizes = [sum(x.size for x in jax.tree.leaves(players.of(role).params)) for role in ROLES]
    if not min(sizes):
        role = ROLES[sizes.index(0)]
        raise UsageError(f"the checkpoint of step {step} has no parameters of the {role}: no game")
    config, notes = experiment.config, []
    specs = Pair(config.generator_optimizer, config.discriminator_optimizer)
    preconditioner = None
    try:
        preconditioner = find_preconditioner(specs, state.players, step)
        notes += [f"{link} is not seen" for link in preconditioner.left_out]
    except UsageError as error:
        notes.append(f"only the plain spectrum is known: {error}")
    own, rate = _own_method(config.dynamics, specs, preconditioner, step)
    if own is None:
        notes.append(
            "the players' optimizers are not alike, or neither Adam nor plain descent: no method below is "
            "the run's own"
        )
    polynomial = StepMap(experiment.dynamics).is_polynomial()
    with counted_from(state.step), _bar() as progress:
        jacobian = field_jacobian(field.game, players, field.batches, field.keys)
        plain = leading_spectrum(jacobian, protocol.k, progress=progress)
        seen = own_step = None
        if preconditioner is not None:
            scaled = jacobian.scaled(preconditioner.scale)
            seen = leading_spectrum(
                scaled,
                protocol.k,
                progress=lambda text: progress(f"as the optimizers see it, {text}"),
            )
            if own and not polynomial and not experiment.dynamics.needs_derivative:
                own_step = _own_step(
                    scaled, (sizes[0], sizes[1]), experiment.dynamics, own.momentum,
                    preconditioner.rate, protocol.k, lambda text: progress(f"own step, {text}"),
                )  # fmt: skip
    values = np.array([one.value for one in (seen or plain).eigenvalues if one.converged])
    methods = methods_of(own or Method(config.dynamics), preconditioner is not None)
    advice, left_out = advise(values, rate or 1.0, methods)
    return Diagnosis(
        step, (sizes[0], sizes[1]), config.batch_size, plain, seen, notes, preconditioner, own, rate,
        advice, values[left_out], own_step, experiment.dynamics.period,
    )  # fmt: skip


def _own_method(
    dynamics: str, specs: Pair[str], preconditioner: Preconditioner | None, step: int
) -> tuple[Method | None, float | None]:
    """Returns the run's own method, if it is one of those that are compared, and its learning rate."""
    if preconditioner is not None:
        adams = [*preconditioner.adams.generator, *preconditioner.adams.discriminator]
        alike = len({adam.momentum for adam in adams}) == 1
        return (Method(dynamics, adams[0].momentum) if alike else None), preconditioner.rate
    rates = [rates_of(specs.of(role)).at(step).get("learning_rate") for role in ROLES]
    linear = [linear_optimizer(specs.of(role)) for role in ROLES]
    plain = all(own is not None and own.is_plain for own in linear) and rates[0] == rates[1]
    return (Method(dynamics) if plain else None), rates[0]


def _own_step(
    jacobian: FieldJacobian,
    sizes: tuple[int, int],
    dynamics: Dynamics,
    momentum: Momentum,
    rate: float,
    k: int,
    progress: Callable[[str], None],
) -> Spectrum:
    """Finds the leading eigenvalues of M - I, for the linear map M that the run's own steps are.

    Those of M would be found badly: nearly all are close to 1, and so are those that matter.
    """
    assert jacobian.traced is not None
    steps = linear_steps(dynamics, jacobian.traced, sizes, momentum.optimizer(rate))

    @jax.jit
    def change(state: jax.Array) -> jax.Array:
        return steps.period(state, steps.start)[0] - state

    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(change(jnp.asarray(v, jnp.float32)), float)[None]

    return leading_spectrum(
        FieldJacobian(steps.size, 1, product, product), k, ("LR", "LI"), progress
    )


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str], None]]:
    """Yields what counts products with the Jacobian on a terminal, and says what they are for."""
    with tqdm(unit=" products", disable=None, leave=False) as bar:

        def progress(text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update()

        yield progress
