"""The 2-D toy of the GAN papers: an equal mixture of small Gaussians, where lost modes are seen."""

import math
from typing import Literal

import numpy as np

from gan.data.dataset import DATASETS, Dataset, Examples, Mixture

_NUM_POINTS = 50_000


@DATASETS.register("gaussians")
def gaussians(
    modes: int = 8, layout: Literal["ring", "grid"] = "ring", std: float | None = None
) -> Dataset:
    """Points in the plane; a point's label is its mode.

    Args:
      modes: How many; a square number for the grid.
      layout: `"ring"`, a circle of radius 2 (Metz et al., "Unrolled GANs", ICLR 2017), or `"grid"`
        with 2 between neighbours (25 modes: Dumoulin et al., "Adversarially Learned Inference",
        ICLR 2017).
      std: Of each mode; by default 0.02 on the ring and 0.05 on the grid, as in those papers.
    """
    if modes < 1:
        raise ValueError(f"modes must be at least 1, given {modes}")
    if std is not None and std <= 0:
        raise ValueError(f"std must be above 0, given {std}")
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
