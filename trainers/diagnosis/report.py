"""What was found of a run's game, as text for a terminal and as JSON."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gan import files
from gan.analysis.advice import Advice, Method
from gan.analysis.preconditioner import Preconditioner
from gan.analysis.spectrum import KINDS, Eigenvalue, Spectrum
from gan.players import ROLES
from gan.text_tables import format_table
from gan.trainers.diagnosis.diagnose import Between, Diagnosis, Protocol

_ROWS = 8  # of advice on a terminal
_NOT_STABLE = "none"


def format_diagnosis(found: Diagnosis, protocol: Protocol) -> str:
    """Formats what was found at a checkpoint: eigenvalues, and advice on what to type."""
    generator, discriminator = found.sizes
    head = (
        f"step {found.step}, weights {protocol.weights}: {generator:,} + {discriminator:,} parameters; "
        f"{protocol.num_batches} batches of {found.batch_size}, seed {protocol.seed}"
    )
    lines = [head, "\nthe vector field", _format_spectrum(found.plain)]
    if found.seen is not None:
        lines += ["\nthe field as the optimizers see it", _format_spectrum(found.seen)]
    lines += [f"note: {note}" for note in found.notes]
    if found.own_step is not None:
        lines += ["", _format_own_step(found)]
    if found.advice:
        lines += ["", _format_advice(found)]
    return "\n".join(lines)


def _format_spectrum(spectrum: Spectrum) -> str:
    rows = [["eigenvalue", "standard error", "residual", "condition", "among the first by"]]
    rows += [
        [
            _complex(own.value) + ("" if own.converged else " (not converged)"),
            _error(own), f"{own.residual:.0e}",
            "-" if math.isnan(own.condition) else f"{own.condition:.1f}",
            ", ".join(KINDS[kind] for kind in own.kinds),
        ]
        for own in spectrum.eigenvalues
    ]  # fmt: skip
    lines = [format_table(rows, "rrrrl")]
    few = [
        f"{number} of {spectrum.asked} of the {KINDS[kind]}"
        for kind, number in spectrum.found.items()
        if number < spectrum.asked
    ]
    if few:
        lines.append(f"found in the time given: {', '.join(few)}")
    lines.append(
        f"rotation {spectrum.rotation:.3f} (0: attraction or repulsion alone, 1: rotation alone)"
    )
    return "\n".join(lines)


def _format_own_step(found: Diagnosis) -> str:
    assert found.own_step is not None and found.own is not None
    name = found.own.dynamics
    if not found.own_step.eigenvalues:
        return f"{name}: no leading eigenvalue of its steps was found"
    rows = [["multiplier", "modulus a step", "residual"]]
    for own in found.own_step.eigenvalues:
        multiplier = 1 + own.value
        modulus = abs(multiplier) ** (1 / found.period)
        mark = "" if own.converged else " (not converged)"
        rows.append([_complex(multiplier, 6) + mark, f"{modulus:.6f}", f"{own.residual:.0e}"])
    head = f"leading multipliers of {name} itself, at the run's learning rates"
    return f"{head}\n{format_table(rows, 'rrr')}"


def _format_advice(found: Diagnosis) -> str:
    """Formats the best methods, and the run's own where it is not among them."""
    shown = [own for own in found.advice if own.method == found.own][:1]
    shown += [own for own in found.advice if own.method != found.own][: _ROWS - len(shown)]
    rate = "rate 1" if found.rate is None else f"rate {found.rate:.2g}"
    rows = [["", f"radius at {rate}", "best rate", "radius", "largest stable", "to type"]]
    for advice in sorted(shown, key=lambda own: own.best_radius):
        stable = advice.largest_stable_rate
        rows.append([
            ("* " if advice.method == found.own else "  ") + advice.method.dynamics,
            f"{advice.radius:.5f}", f"{advice.best_rate:.2g}", f"{advice.best_radius:.5f}",
            _NOT_STABLE if stable is None else f"{stable:.2g}",
            config_line(advice.method, advice.best_rate, found.preconditioner),
        ])  # fmt: skip
    head = (
        "advice of linear theory: a step multiplies distances by the radius, without noise, with Adam's v "
        "frozen, and only along the eigenvalues above (* the run's own)"
    )
    lines = [head, format_table(rows, "lrrrrl")]
    if len(found.left_out):
        lines.append(
            f"left out, since no method has them stable: {', '.join(map(_complex, found.left_out))}; along "
            "these a player goes downhill, and the point is no solution"
        )
    return "\n".join(lines)


def config_line(method: Method, rate: float, preconditioner: Preconditioner | None) -> str:
    """Returns the flags of `scripts/train.py` for a method at a generator's learning rate.

    The discriminator's learning rate keeps its ratio to it. b2 and eps stay the run's.
    """
    line = [f"--config.dynamics='{method.dynamics}'"]
    if preconditioner is not None and any(len(preconditioner.adams.of(role)) > 1 for role in ROLES):
        return f"{line[0]}, and each learning rate times {rate / preconditioner.rate:.3g}"
    for role in ROLES:
        own, others = rate, ""
        if preconditioner is not None:
            adam = preconditioner.adams.of(role)[0]
            own, others = rate * adam.rate / preconditioner.rate, adam.others
        line.append(f"--config.{role}_optimizer='{_spec(method, own, others, preconditioner)}'")
    return " ".join(line)


def _spec(method: Method, rate: float, others: str, preconditioner: Preconditioner | None) -> str:
    b1, optimism, nesterov = method.momentum
    strength = f", {optimism * rate:.3g}" if optimism not in (0.0, 1.0) else ""
    name = "optimistic_" if optimism else ""
    if preconditioner is None:
        return f"{name}sgd({rate:.3g}{strength})"
    if nesterov:
        others += ", nesterov=True"
    return f"{name}adam({rate:.3g}{strength}, b1={b1:g}{others})"


def _complex(value: complex, digits: int = 4) -> str:
    """Formats an eigenvalue, or both of a complex pair.

    >>> _complex(1.5 + 2j), _complex(-3 + 0j)
    ('1.5 ± 2i', '-3')
    """
    real = f"{value.real:.{digits}g}"
    return f"{real} ± {abs(value.imag):.{digits}g}i" if value.imag else real


def _error(own: Eigenvalue) -> str:
    if math.isnan(own.error[0]):
        return "-"
    return f"{own.error[0]:.2g}" + (f", {own.error[1]:.2g}i" if own.value.imag else "")


def write_json(
    path: pathlib.Path, found: Sequence[Diagnosis], between: Between | None, protocol: Protocol
) -> None:
    """Writes all that was found, with how it was measured."""
    content = {
        "protocol": dataclasses.asdict(protocol),
        "checkpoints": [_to_json(own) for own in found],
        "path_angle": between
        and {"steps": between.steps} | {k: v.tolist() for k, v in between.angle._asdict().items()},
    }
    files.write_json(path, content)


def _to_json(found: Diagnosis) -> dict[str, Any]:
    return {
        "step": found.step,
        "parameters": dict(zip(ROLES, found.sizes, strict=True)),
        "batch_size": found.batch_size,
        "learning_rate": found.rate,
        "notes": found.notes,
        "field": _spectrum_to_json(found.plain),
        "field_as_optimizers_see_it": found.seen and _spectrum_to_json(found.seen),
        "own_step_less_1": found.own_step and _spectrum_to_json(found.own_step),
        "advice": [_advice_to_json(own, found) for own in found.advice],
        "left_out": [_pair(value) for value in found.left_out],
    }


def _spectrum_to_json(spectrum: Spectrum) -> dict[str, Any]:
    return {
        "rotation": spectrum.rotation,
        "products": spectrum.num_products,
        "asked": spectrum.asked,
        "found": spectrum.found,
        "eigenvalues": [
            dataclasses.asdict(own) | {"value": _pair(own.value), "converged": own.converged}
            for own in spectrum.eigenvalues
        ],
    }


def _advice_to_json(advice: Advice, found: Diagnosis) -> dict[str, Any]:
    line = config_line(advice.method, advice.best_rate, found.preconditioner)
    own = advice.method == found.own
    return dataclasses.asdict(advice) | {
        "method": {"dynamics": advice.method.dynamics, **advice.method.momentum._asdict()},
        "own": own, "to_type": line,
    }  # fmt: skip


def _pair(value: complex) -> list[float]:
    return [float(np.real(value)), float(np.imag(value))]
