"""The networks of models/dcgan.py, without labels."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def widths(size: int, width: int) -> list[int]:
    """Returns the channels of each layer, from the image inwards to 4x4 (to 7x7 for 28x28)."""
    num_downsamplings = 2 if size == 28 else (size // 4).bit_length() - 1
    return [width * min(2**i, 8) for i in range(num_downsamplings)]


def normal(layer: nn.Module) -> nn.Module:
    nn.init.normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Generator(nn.Module):
    """`[B, Z]` to `[B, C, H, W]`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        width: int = 64,
        batch_norm: bool = True,
    ):
        super().__init__()
        size, _, image_channels = shape
        *outer, channels = widths(size, width)
        base = size >> (len(outer) + 1)

        def activation(channels: int) -> list[nn.Module]:
            return [*([nn.BatchNorm2d(channels)] if batch_norm else []), nn.ReLU(inplace=True)]

        def up(channels: int, features: int, *, bias: bool) -> nn.Module:
            return normal(nn.ConvTranspose2d(channels, features, 4, 2, 1, bias=bias))

        bias = not batch_norm
        self.dense = normal(nn.Linear(latent_dim, channels * base * base, bias=bias))
        layers = [nn.Unflatten(1, (channels, base, base)), *activation(channels)]
        for features in reversed(outer):
            layers += [up(channels, features, bias=bias), *activation(features)]
            channels = features
        self.layers = nn.Sequential(*layers, up(channels, image_channels, bias=True))

    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(self.layers(self.dense(latents)))


class Discriminator(nn.Module):
    """`[B, C, H, W]` to `[B]`; `latent_dim` is ignored: both networks take the same arguments."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        width: int = 64,
        norm: Literal["none", "batch", "spectral"] = "none",
    ):
        super().__init__()
        size, _, channels = shape
        layers: list[nn.Module] = []
        for i, features in enumerate(widths(size, width)):
            normalised = norm == "batch" and i > 0
            layers.append(normal(nn.Conv2d(channels, features, 4, 2, 1, bias=not normalised)))
            layers += [nn.BatchNorm2d(features)] if normalised else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            channels = features
            size //= 2
        self.layers = nn.Sequential(*layers)
        self.dense = normal(nn.Linear(channels * size * size, 1))
        if norm == "spectral":
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear):
                    spectral_norm(module)

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.layers(images).flatten(1))[:, 0]
