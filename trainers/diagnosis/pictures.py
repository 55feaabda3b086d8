"""Pictures of a diagnosis: spectra in the complex plane, and the path angle."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gan.analysis.spectrum import Spectrum
from gan.files import replacing
from gan.trainers.diagnosis.diagnose import Between, Diagnosis


def draw_spectra(path: pathlib.Path, found: Sequence[Diagnosis]) -> None:
    """Draws the leading eigenvalues of each checkpoint in the complex plane, and how rotation goes.

    Both of a complex pair are drawn, with standard errors; those that are not converged are hollow.
    """
    from matplotlib.figure import Figure

    spectra: list[tuple[str, list[Spectrum]]] = [("the vector field", [own.plain for own in found])]
    if all(own.seen is not None for own in found):
        seen = [own.seen for own in found if own.seen is not None]
        spectra.append(("the field as the optimizers see it", seen))
    rows = 1 + (len(found) > 1)
    figure = Figure(figsize=(6 * len(spectra), 4.5 * rows), dpi=100, layout="constrained")
    for column, (title, own) in enumerate(spectra):
        axes = figure.add_subplot(rows, len(spectra), column + 1)
        _draw_plane(axes, own, [one.step for one in found])
        axes.set_title(f"{title}\n(descended: right of 0 attracts, left repels)", fontsize=10)
        if rows > 1:
            axes = figure.add_subplot(rows, len(spectra), len(spectra) + column + 1)
            axes.plot([one.step for one in found], [one.rotation for one in own], "o-")
            axes.set(xlabel="step", ylabel="rotation, max |Im| / max |lambda|", ylim=(0, 1))
    with replacing(path) as beside:
        figure.savefig(beside, format="png")


def _draw_plane(axes: Any, spectra: Sequence[Spectrum], steps: Sequence[int]) -> None:
    from matplotlib import colormaps

    axes.axhline(0, color="grey", linewidth=0.5)
    axes.axvline(0, color="grey", linewidth=0.5)
    for place, (step, spectrum) in enumerate(zip(steps, spectra, strict=True)):
        color = colormaps["viridis"](place / max(len(steps) - 1, 1) * 0.9)
        label: str | None = f"step {step}"
        for own in spectrum.eigenvalues:
            x, y = own.value.real, own.value.imag
            for imag in (y, -y) if y else (y,):
                axes.errorbar(
                    x, imag, xerr=np.nan_to_num(own.error[0]), yerr=np.nan_to_num(own.error[1]),
                    fmt="o", color=color, markersize=5, elinewidth=0.8, label=label,
                    markerfacecolor=color if own.converged else "none",
                )  # fmt: skip
                label = None
    # A few large eigenvalues would press all others into one point.
    values = np.array([own.value for spectrum in spectra for own in spectrum.eigenvalues])
    moduli = np.abs(values[values != 0])
    if len(moduli) and moduli.max() > 20 * np.median(moduli):
        axes.set_xscale("symlog", linthresh=float(np.median(moduli)))
    axes.set(xlabel="real part", ylabel="imaginary part")
    if len(steps) > 1:
        axes.legend(fontsize=8)


def draw_path_angle(path: pathlib.Path, between: Between) -> None:
    """Draws the path angle between two checkpoints, and the norm of the field below."""
    from matplotlib.figure import Figure

    (first, second), (alpha, cosine, norm) = between.steps, between.angle
    figure = Figure(figsize=(6, 5.5), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(alpha, cosine, color="C3")
    upper.axhline(0, color="grey", linewidth=0.5)
    upper.set(ylabel="cosine of -F with the path")
    upper.set_title(f"from step {first} (0) to step {second} (1)", fontsize=10)
    lower.plot(alpha, norm)
    lower.set(xlabel="place on the path", ylabel="|F|", yscale="log")
    for axes in (upper, lower):
        for end in (0, 1):
            axes.axvline(end, color="grey", linewidth=0.5, linestyle="--")
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
