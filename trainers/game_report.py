"""What a person wants to see of a game: a table, a CSV and a picture."""

import pathlib
import re
from collections.abc import Sequence

import jax
import numpy as np

from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.games import GAMES
from gan.optimizers import OPTIMIZERS
from gan.theory import contraction as theoretical
from gan.theory import jacobian
from gan.trainers.play import Contestant, contraction, play

CLASSIC = (
    Contestant("simultaneous", "sgd(0.1)"),
    Contestant("simultaneous", "adam(0.01, b1=0.0)"),
    Contestant("simultaneous", "optimistic_sgd(0.1)"),
    Contestant("simultaneous", "optimistic_adam(0.01, b1=0.0)"),
    Contestant("alternating", "sgd(0.1)"),
    Contestant("alternating", "sgd(0.1, momentum=-0.5)"),
    Contestant("extragradient", "sgd(0.1)"),
    Contestant("lookahead(steps=5)", "sgd(0.1)"),
)
"""The comparison of the papers, and what else is in use."""

_NEAR = 1e-6  # so close to the solution every smooth game is linear


def report(
    game: str, contestants: Sequence[Contestant], num_steps: int, output: pathlib.Path
) -> str:
    """Plays a game, writes `<game>.png` and `<game>.csv`, and returns the table.

    Args:
      game: Spec of the game.
      contestants: Who plays.
      num_steps: How long.
      output: The folder.
    """
    played = GAMES.build(game)
    with jax.enable_x64(True):
        paths, near = play(played, contestants, num_steps, scales=(1.0, _NEAR))
        theory = jacobian(played)
    name = re.sub(r"\W+", "_", game).strip("_")
    _write_csv(output / f"{name}.csv", contestants, paths)
    _draw(output / f"{name}.png", game, contestants, paths)
    return _table(game, theory, contestants, paths, near)


def check(games: Sequence[str], contestants: Sequence[Contestant], output: pathlib.Path) -> None:
    """Builds every part and makes the folder, before any work.

    Raises:
      UsageError: for a spec that names nothing, or a folder that cannot be written.
    """
    for game in games:
        GAMES.build(game)
    for contestant in contestants:
        DYNAMICS.build(contestant.dynamics)
        OPTIMIZERS.build(contestant.optimizer)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output={output} cannot be written: {error.strerror}") from error


def _table(
    game: str,
    linear: np.ndarray,
    contestants: Sequence[Contestant],
    paths: np.ndarray,
    near: np.ndarray,
) -> str:
    width = max(len(contestant.name) for contestant in contestants)
    head = f"{'':{width}}  {'distance at the end':>20}  {'measured a step':>16}  {'theory':>8}"
    lines = [game, head]
    for contestant, path, local in zip(contestants, paths, near, strict=True):
        rule = DYNAMICS.build(contestant.dynamics)
        theory = theoretical(rule, contestant.optimizer, linear)
        # Adam has no rate near the solution: its steps do not shrink with the gradient.
        rate = contraction(path if theory is None else local)
        expected = "-" if theory is None else f"{theory:.5f}"
        end = np.linalg.norm(path[-1])
        lines.append(f"{contestant.name:{width}}  {end:20.3g}  {rate:16.5f}  {expected:>8}")
    return "\n".join(lines)


def _write_csv(path: pathlib.Path, contestants: Sequence[Contestant], paths: np.ndarray) -> None:
    """One row a contestant and step: the parameters of both players and their distance to 0."""
    size = paths.shape[-1]
    names = [f"{player}_{i}" for player in ("generator", "discriminator") for i in range(size)]
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w") as file:
        file.write(",".join(["dynamics", "optimizer", "step", *names, "distance"]) + "\n")
        for contestant, points in zip(contestants, paths, strict=True):
            flat = points.reshape(len(points), -1)
            table = np.column_stack([np.arange(len(flat)), flat, np.linalg.norm(flat, axis=1)])
            ways = f'"{contestant.dynamics}","{contestant.optimizer}",'.replace("%", "%%")
            np.savetxt(file, table, fmt=ways + "%d" + ",%.9g" * (table.shape[1] - 1))
    beside.replace(path)


def _draw(
    path: pathlib.Path, game: str, contestants: Sequence[Contestant], paths: np.ndarray
) -> None:
    """The plane of the first parameters for each contestant, and all distances below."""
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(contestants) // columns)
    figure = Figure(figsize=(12, 3 * rows + 4), dpi=100, layout="constrained")
    figure.suptitle(game)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[3] * rows + [4])
    limit = 1.6 * float(np.abs(paths[:, 0]).max())
    for i, (contestant, points) in enumerate(zip(contestants, paths, strict=True)):
        x, y = points[:, 0, 0], points[:, 1, 0]
        axes = figure.add_subplot(grid[i // columns, i % columns], aspect="equal")
        axes.plot(x, y, color=f"C{i}", linewidth=0.8)
        axes.plot(x[0], y[0], "o", color="black", markersize=5)
        axes.plot(x[-1], y[-1], "X", color=f"C{i}", markersize=8, markeredgecolor="black")
        axes.plot(0, 0, "+", color="black", markersize=10)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set_title(contestant.name, fontsize=9)
        axes.set(xlabel="generator", ylabel="discriminator")
    axes = figure.add_subplot(grid[rows, :])
    for i, (contestant, points) in enumerate(zip(contestants, paths, strict=True)):
        distance = np.linalg.norm(points.reshape(len(points), -1), axis=1)
        axes.plot(distance, color=f"C{i}", label=contestant.name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-10, top=1e4)
    axes.set(xlabel="step", ylabel="distance to the solution")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns)
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, format="png")
    beside.replace(path)
