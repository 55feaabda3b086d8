"""A report on a game: a table, the trajectories as CSV, and a picture of them."""

import csv
import pathlib
import re
from collections.abc import Sequence

import jax
import numpy as np

from gan.analysis.linearization import jacobian, predicted_contraction
from gan.analysis.trajectories import Method, distances, measured_contraction, simulate
from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.files import replacing
from gan.games import GAMES
from gan.memory import check_fits_host, tree_bytes
from gan.optimizers import OPTIMIZERS
from gan.text_tables import format_table

CLASSIC = (
    Method("simultaneous", "sgd(0.1)"),
    Method("simultaneous", "adam(0.01, b1=0.0)"),
    Method("simultaneous", "optimistic_sgd(0.1)"),
    Method("simultaneous", "optimistic_adam(0.01, b1=0.0)"),
    Method("alternating", "sgd(0.1)"),
    Method("alternating", "sgd(0.1, momentum=-0.5)"),
    Method("extragradient", "sgd(0.1)"),
    Method("lookahead(steps=5)", "sgd(0.1)"),
)
"""The methods that the papers compare, and others in common use."""

_NEAR = 1e-6  # so close to the solution, every smooth game is linear


def check(
    games: Sequence[str], methods: Sequence[Method], num_steps: int, output: pathlib.Path
) -> None:
    """Builds every part and makes the output folder, before any work.

    Raises:
      UsageError: for a spec that names nothing, more steps than fit into memory, or a folder that
        cannot be written.
    """
    for game in games:
        players = jax.eval_shape(GAMES.build(game).init, jax.random.key(0))
        points = 2 * len(methods) * (num_steps + 1)  # from two starting points
        check_fits_host(f"--num_steps={num_steps} of {game}", points * 2 * tree_bytes(players))
    for method in methods:
        DYNAMICS.build(method.dynamics)
        OPTIMIZERS.build(method.optimizer)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output={output} cannot be written: {error.strerror}") from error


def report(game: str, methods: Sequence[Method], num_steps: int, output: pathlib.Path) -> str:
    """Simulates a game, writes `<game>.png` and `<game>.csv`, and returns the table.

    Args:
      game: Spec of the game.
      methods: Methods to compare.
      num_steps: Number of steps of each.
      output: Folder for the files.
    """
    built = GAMES.build(game)
    with jax.enable_x64(True):
        paths, near_paths = simulate(built, methods, num_steps, scales=(1.0, _NEAR))
        linear = jacobian(built)
    predicted = [
        predicted_contraction(DYNAMICS.build(method.dynamics), method.optimizer, linear)
        for method in methods
    ]
    name = re.sub(r"\W+", "_", game).strip("_")
    _write_csv(output / f"{name}.csv", methods, paths)
    _draw(output / f"{name}.png", game, methods, paths)
    return f"{game}\n{_table(methods, predicted, paths, near_paths)}"


def _table(
    methods: Sequence[Method],
    predicted: Sequence[float | None],
    paths: np.ndarray,
    near_paths: np.ndarray,
) -> str:
    """Formats a row for each method."""
    rows = [["", "distance at the end", "measured a step", "theory"]]
    for method, theory, path, near_path in zip(methods, predicted, paths, near_paths, strict=True):
        # Adam has no rate near the solution: its steps do not shrink with the gradient.
        measured = measured_contraction(path if theory is None else near_path)
        end = f"{distances(path)[-1]:.3g}"
        rows.append(
            [method.name, end, f"{measured:.5f}", "-" if theory is None else f"{theory:.5f}"]
        )
    return format_table(rows, "lrrr")


def _write_csv(path: pathlib.Path, methods: Sequence[Method], paths: np.ndarray) -> None:
    """Writes a row for each method and step: both players' parameters, and their distance to 0.

    Args:
      path: The file.
      methods: M methods.
      paths: `[M, T + 1, 2, D]`.
    """
    size = paths.shape[-1]
    names = [f"{player}_{i}" for player in ("generator", "discriminator") for i in range(size)]
    with replacing(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dynamics", "optimizer", "step", *names, "distance"])
        for method, points in zip(methods, paths, strict=True):
            numbers = np.column_stack([points.reshape(len(points), -1), distances(points)])
            writer.writerows(
                [method.dynamics, method.optimizer, step, *(f"{number:.9g}" for number in row)]
                for step, row in enumerate(numbers.tolist())
            )


def _draw(path: pathlib.Path, game: str, methods: Sequence[Method], paths: np.ndarray) -> None:
    """Draws each method's trajectory in the plane of the first parameters, and all distances below.

    Args:
      path: The file.
      game: The title.
      methods: M methods.
      paths: `[M, T + 1, 2, D]`.
    """
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(12, 3 * rows + 4), dpi=100, layout="constrained")
    figure.suptitle(game)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[3] * rows + [4])
    limit = 1.6 * float(np.abs(paths[:, 0]).max())
    for i, (method, points) in enumerate(zip(methods, paths, strict=True)):
        x, y = points[:, 0, 0], points[:, 1, 0]
        axes = figure.add_subplot(grid[i // columns, i % columns], aspect="equal")
        axes.plot(x, y, color=f"C{i}", linewidth=0.8)
        axes.plot(x[0], y[0], "o", color="black", markersize=5)
        axes.plot(x[-1], y[-1], "X", color=f"C{i}", markersize=8, markeredgecolor="black")
        axes.plot(0, 0, "+", color="black", markersize=10)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set_title(method.name, fontsize=9)
        axes.set(xlabel="generator", ylabel="discriminator")
    axes = figure.add_subplot(grid[rows, :])
    for i, (method, points) in enumerate(zip(methods, paths, strict=True)):
        axes.plot(distances(points), color=f"C{i}", label=method.name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-10, top=1e4)
    axes.set(xlabel="step", ylabel="distance to the solution")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns)
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
