"""Whether what is logged tells a late burst ahead: Adam on eight Gaussians, long after it has learnt them.

    nice python -m tests.benchmarks.bursts --steps 24_000 --seeds 10

A burst is a window of 50 steps after which the share of good samples is 0.25 below its median over the ten windows
before, where that was at least 0.75. A number alarms in the last window before a burst where it is above a multiple of its own
median over 20 windows; the multiple is that above which 1% of the quiet windows of half of the seeds are. Printed is, for
the other half, what share of the bursts is told and of the quiet windows alarms, and the area under the curve of both.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan.config import TrainConfig
from gan.data import Batch
from gan.players import ROLES, Pair, PlayerState, pairwise, update
from gan.schedules import counted_from
from gan.second_moments import second_moment_of
from gan.trainers.experiment import build

WINDOW, BATCH, LATENTS = 50, 128, 16
OPTIMIZER = "adam(1e-3, b1=0.5)"


def simulate(steps: int, seeds: int, regularizers: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Trains several seeds at once; returns each number `[windows, seeds]`."""
    network = "mlp(width=64, depth=3)"
    run = build(
        TrainConfig(
            dataset="gaussians(modes=8, layout='ring')", generator=network, discriminator=network,
            generator_optimizer=OPTIMIZER, discriminator_optimizer=OPTIMIZER,
            regularizers=regularizers, batch_size=BATCH, latent_dim=LATENTS, mesh="data(1)",
        )
    )  # fmt: skip
    points, mixture = jnp.asarray(run.dataset.load().examples), run.dataset.mixture
    moment = second_moment_of(OPTIMIZER)

    def init(seed: Any) -> Pair[PlayerState]:
        networks = run.game.init(jax.random.key(seed))
        return pairwise(lambda own, n: PlayerState(*n, own.init(n[0])), run.optimizers, networks)

    def step(players: Pair[PlayerState], key: Any, number: Any) -> tuple[Any, dict[str, Any]]:
        of_data, of_latents = jax.random.split(jax.random.fold_in(key, number))
        rows = jax.random.randint(of_data, [BATCH], 0, len(points))
        batch = Batch(points[rows], jnp.zeros([BATCH], jnp.int32), number)
        with counted_from(number):
            field = run.game.vector_field(players, batch, of_latents)
            moved = pairwise(update, run.optimizers, players, field)
        found = {}
        for role in ROLES:
            before, after, gradient = players.of(role), moved.of(role), field.of(role)
            difference = jax.tree.map(jnp.subtract, after.params, before.params)
            length = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(difference)))
            norm = gradient.metrics[f"grad_norm/{role}"]
            rms = moment.preconditioned_rms(before.opt_state, after.opt_state)
            found |= {
                f"loss/{role}": gradient.loss, f"grad_norm/{role}": norm,
                f"update_norm/{role}": length, f"step_size/{role}": length / norm,
                f"preconditioned_rms/{role}": rms,
            }  # fmt: skip
        return moved, found

    def window(players: Any, key: Any, first: Any) -> tuple[Any, dict[str, Any]]:
        numbers = first + jnp.arange(WINDOW)
        players, found = jax.lax.scan(lambda own, i: step(own, key, i), players, numbers)
        own, latents = players.generator, jax.random.normal(jax.random.key(7), [500, LATENTS])
        samples = run.game.sample(own.params, own.variables, latents, None)
        distance = jnp.linalg.norm(samples[:, None] - jnp.asarray(mixture.means), axis=-1)
        values = {f"{name}, mean": x.mean() for name, x in found.items()}
        values |= {f"{name}, largest": x.max() for name, x in found.items()}
        return players, values | {"good": (distance.min(1) <= 3 * mixture.std).mean()}

    windows = jax.jit(jax.vmap(window, (0, 0, None)), donate_argnums=0)
    players = jax.vmap(init)(jnp.arange(seeds))
    keys, log = jax.vmap(jax.random.key)(jnp.arange(seeds) + 100), []
    for first in range(0, steps, WINDOW):
        players, values = windows(players, keys, jnp.int32(first))
        log.append(jax.device_get(values))
    return {name: np.stack([values[name] for values in log]) for name in log[0]}


def find_bursts(good: np.ndarray) -> tuple[list[int], list[int]]:
    """Returns the windows of one seed that begin a burst, and those that are quiet."""
    usual = np.array([np.median(good[max(0, t - 10) : t]) if t else 0 for t in range(len(good))])
    low = [t for t in range(21, len(good)) if usual[t] >= 0.75 and good[t] < usual[t] - 0.25]
    bursts = [t for i, t in enumerate(low) if not i or t - low[i - 1] > 10]
    near = {t + d for t in bursts + low for d in range(-1, 11)}
    return bursts, [t for t in range(21, len(good)) if usual[t] >= 0.75 and t not in near]


def area(higher: np.ndarray, lower: np.ndarray) -> float:
    """Returns the share of pairs in which the first is larger."""
    return float((higher[:, None] > lower[None]).mean())


def main() -> None:
    """Prints how well each number tells bursts ahead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--regularizers", nargs="*", default=())
    flags = parser.parse_args()
    values = simulate(flags.steps, flags.seeds, tuple(flags.regularizers))
    found = [find_bursts(own) for own in values.pop("good").T]
    print(f"{sum(len(bursts) for bursts, _ in found)} bursts in {flags.seeds} seeds")
    half = flags.seeds // 2
    for name, x in values.items():
        usual = np.stack([np.median(x[max(0, t - 20) : t or 1], axis=0) for t in range(len(x))])
        ratio = x / np.maximum(usual, 1e-12)

        def at(places: int, shift: int, seeds: range, ratio: np.ndarray = ratio) -> np.ndarray:
            return np.array([ratio[t - shift, s] for s in seeds for t in found[s][places]])

        limit = np.quantile(at(1, 1, range(half)), 0.99)
        rest = range(half, flags.seeds)
        before, quiet, within = at(0, 1, rest), at(1, 1, rest), at(0, 0, rest)
        print(
            f"{name:40s} told {np.mean(before > limit):4.0%} of {len(before)} bursts, false in "
            f"{np.mean(quiet > limit):.1%} of {len(quiet):,} windows; area {area(before, quiet):.2f} "
            f"the window before, {area(within, quiet):.2f} in the burst's own"
        )


if __name__ == "__main__":
    main()
