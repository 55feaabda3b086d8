"""The networks of models/r3gan.py, without labels."""

from math import sqrt

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=gain / sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """`[B, width, H, W]` to the same shape; `total` is the number of blocks in the network."""

    def __init__(self, width: int, cardinality: int, expansion: int, total: int):
        super().__init__()
        inner = width * expansion
        gain = nn.init.calculate_gain("leaky_relu", 0.2) * total**-0.25
        self.expand = scaled(nn.Conv2d(width, inner, 1), gain)
        self.grouped = scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=cardinality), gain)
        self.reduce = scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.expand(x), 0.2)
        y = F.leaky_relu(self.grouped(y), 0.2)
        return x + self.reduce(y)


class Resample(nn.Module):
    """Bilinear resampling of `[B, C, H, W]` to twice or half of H and W."""

    def __init__(self, *, up: bool):
        super().__init__()
        self.up = up
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        if self.up:
            return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=channels)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=channels)


class Generator(nn.Module):
    """`[B, Z]` to `[B, C, H, W]`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        width: int = 128,
        blocks: int = 1,
        cardinality: int = 16,
        expansion: int = 2,
    ):
        super().__init__()
        size, _, channels = shape
        doublings = (size // 4).bit_length() - 1
        base = size >> doublings
        total = blocks * (doublings + 1)
        self.dense = scaled(nn.Linear(latent_dim, width, bias=False))
        self.basis = nn.Parameter(torch.randn(width, base, base))
        layers = []
        for stage in range(doublings + 1):
            layers += [Resample(up=True)] if stage else []
            layers += [ResidualBlock(width, cardinality, expansion, total) for _ in range(blocks)]
        self.stages = nn.Sequential(*layers)
        self.to_image = scaled(nn.Conv2d(width, channels, 1, bias=False))

    def forward(self, latents: Tensor) -> Tensor:
        x = self.basis * self.dense(latents)[:, :, None, None]
        return self.to_image(self.stages(x))


class Discriminator(nn.Module):
    """`[B, C, H, W]` to `[B]`; `latent_dim` is ignored: both networks take the same arguments."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        width: int = 128,
        blocks: int = 1,
        cardinality: int = 16,
        expansion: int = 2,
    ):
        super().__init__()
        size, _, channels = shape
        num_downsamplings = (size // 4).bit_length() - 1
        total = blocks * (num_downsamplings + 1)
        self.from_image = scaled(nn.Conv2d(channels, width, 1, bias=False))
        layers = []
        for stage in range(num_downsamplings + 1):
            layers += [Resample(up=False)] if stage else []
            layers += [ResidualBlock(width, cardinality, expansion, total) for _ in range(blocks)]
        self.stages = nn.Sequential(*layers)
        self.basis = scaled(
            nn.Conv2d(width, width, size >> num_downsamplings, groups=width, bias=False)
        )
        self.dense = scaled(nn.Linear(width, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        x = self.basis(self.stages(self.from_image(images)))
        return self.dense(x.flatten(1))[:, 0]
