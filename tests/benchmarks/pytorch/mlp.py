"""The networks of models/mlp.py for images, without labels."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn


def dense(channels: int, features: int) -> nn.Linear:
    layer = nn.Linear(channels, features)
    nn.init.trunc_normal_(layer.weight, std=channels**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Generator(nn.Module):
    """`[B, Z]` to `[B, C, H, W]`."""

    def __init__(
        self, shape: tuple[int, int, int], latent_dim: int, width: int = 128, depth: int = 3
    ):
        super().__init__()
        sizes = [latent_dim, *[width] * depth]
        layers: list[nn.Module] = []
        for channels, features in pairwise(sizes):
            layers += [dense(channels, features), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, dense(sizes[-1], prod(shape)))
        self.unflatten = nn.Unflatten(1, (shape[2], *shape[:2]))

    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(self.unflatten(self.layers(latents)))


class Discriminator(nn.Module):
    """`[B, C, H, W]` to `[B]`; `latent_dim` is ignored: both networks take the same arguments."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        width: int = 128,
        depth: int = 3,
    ):
        super().__init__()
        sizes = [prod(shape), *[width] * depth]
        layers: list[nn.Module] = []
        for channels, features in pairwise(sizes):
            layers += [dense(channels, features), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, dense(sizes[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1))[:, 0]
