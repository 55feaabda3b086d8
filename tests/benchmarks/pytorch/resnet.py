"""The networks of models/resnet.py, without labels."""

from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def glorot(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv3x3(channels: int, width: int) -> nn.Module:
    return glorot(nn.Conv2d(channels, width, 3, padding=1), sqrt(2))


class UpBlock(nn.Module):
    """`[B, width, H, W]` to `[B, width, 2H, 2W]`."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = conv3x3(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.shortcut = glorot(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(F.relu(self.norm1(x)), scale_factor=2)
        y = F.relu(self.norm2(self.conv1(y)))
        return self.conv2(y) + self.shortcut(F.interpolate(x, scale_factor=2))


class Generator(nn.Module):
    """`[B, Z]` to `[B, C, H, W]`."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int = 256):
        super().__init__()
        size, _, channels = shape
        blocks = (size // 4).bit_length() - 1
        base = size >> blocks
        self.dense = glorot(nn.Linear(latent_dim, width * base * base))
        self.unflatten = nn.Unflatten(1, (width, base, base))
        self.blocks = nn.Sequential(*(UpBlock(width) for _ in range(blocks)))
        self.norm = nn.BatchNorm2d(width)
        self.conv = glorot(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        x = self.blocks(self.unflatten(self.dense(latents)))
        return torch.tanh(self.conv(F.relu(self.norm(x))))


class Block(nn.Module):
    """`[B, channels, H, W]` to `[B, width, H, W]`, or with `down` to half of H and W."""

    def __init__(self, channels: int, width: int, *, first: bool = False, down: bool = False):
        super().__init__()
        self.first = first
        self.down = down
        self.conv1 = conv3x3(channels, width)
        self.conv2 = conv3x3(width, width)
        if down:
            self.shortcut = glorot(nn.Conv2d(channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x if self.first else F.relu(x))
        y = self.conv2(F.relu(y))
        if not self.down:
            return x + y
        return self.shortcut(F.avg_pool2d(x, 2)) + F.avg_pool2d(y, 2)


class Discriminator(nn.Module):
    """`[B, C, H, W]` to `[B]`; `latent_dim` is ignored: both networks take the same arguments."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        width: int = 128,
        norm: Literal["none", "spectral"] = "spectral",
    ):
        super().__init__()
        size, _, channels = shape
        blocks = [Block(channels, width, first=True, down=True)]
        size //= 2
        while size > 8:
            blocks.append(Block(width, width, down=True))
            size //= 2
        self.blocks = nn.Sequential(*blocks, Block(width, width), Block(width, width))
        self.dense = glorot(nn.Linear(width, 1, bias=False))
        if norm == "spectral":
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d | nn.Linear):
                    spectral_norm(module)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.blocks(images)).sum((2, 3))
        return self.dense(features)[:, 0]
