"""Mixtures of small Gaussians in the plane, the toy of GAN papers that shows lost modes."""

import math
from typing import Annotated, Literal

import numpy as np

from gan.argument_bounds import Above, Within
from gan.data.dataset import DATASETS, Dataset, Examples, Mixture

_NUM_POINTS = 50_000


@DATASETS.register("gaussians")
def gaussians(
    modes: Annotated[int, Within(1, _NUM_POINTS // 5)] = 8,
    layout: Literal["ring", "grid"] = "ring",
    std: Annotated[float, Above(0)] | None = None,
) -> Dataset:
    """Draws points in the plane; the label of a point is its mode.

    Args:
      modes: Number of Gaussians; a square number for the grid.
      layout: `"ring"`, a circle of radius 2 (Metz et al., "Unrolled GANs", ICLR 2017), or `"grid"`,
        in which neighbours are 2 apart (with 25 modes in Dumoulin et al., "Adversarially Learned
        Inference", ICLR 2017).
      std: Standard deviation of each mode; by default 0.02 on the ring and 0.05 on the grid, as in
        those papers.
    """
    if layout == "ring":
        angle = 2 * np.pi * np.arange(modes) / modes
        means = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # [modes, 2]
    else:
        side = math.isqrt(modes)
        if side**2 != modes:
            raise ValueError(f"modes must be a square number for a grid, given {modes}")
        line = 2.0 * np.arange(side) - (side - 1)
        means = np.stack(np.meshgrid(line, line), axis=-1).reshape(modes, 2)
    std = std if std is not None else {"ring": 0.02, "grid": 0.05}[layout]
    mixture = Mixture(means, std)
    return Dataset(
        f"gaussians ({modes}, {layout})",
        shape=(2,),
        num_classes=modes,
        load=lambda: _draw(mixture),
        mixture=mixture,
    )


def _draw(mixture: Mixture) -> Examples:
    rng = np.random.default_rng(0)
    labels = rng.integers(len(mixture.means), size=_NUM_POINTS, dtype=np.int32)
    points = mixture.means[labels] + mixture.std * rng.standard_normal([_NUM_POINTS, 2])
    return Examples(points.astype(np.float32), labels)
