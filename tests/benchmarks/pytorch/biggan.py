"""The networks of models/biggan.py; with labels if `num_classes` is above 0."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize

UP = {  # multiples of the width, by the number of doublings
    4: (16, 16, 8, 4, 2),
    5: (16, 16, 8, 4, 2, 1),
    6: (16, 16, 8, 8, 4, 2, 1),
}
DOWN = {4: (1, 2, 4, 8, 16), 5: (1, 2, 4, 8, 16, 16), 6: (1, 2, 4, 8, 8, 16, 16)}


class SpectralNorm(nn.Module):
    """Divides a weight `[C', ...]` by its largest singular value, after a step of a power iteration."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("u", torch.randn(len(weight)))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(matrix.T @ self.u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
            if self.training:
                self.u.copy_(u)
        return weight / (u @ matrix @ v)


class Transposed(SpectralNorm):
    """The same, for a table `[N, C']`: the vector is one of C' numbers."""

    def __init__(self, weight: Tensor):
        super().__init__(weight.T)

    def forward(self, weight: Tensor) -> Tensor:
        return super().forward(weight.T).T


def spectral(layer: nn.Module) -> nn.Module:
    norm = Transposed if isinstance(layer, nn.Embedding) else SpectralNorm
    parametrize.register_parametrization(layer, "weight", norm(layer.weight))
    return layer


def conv(channels: int, width: int, size: int = 3, *, bias: bool = True) -> nn.Module:
    return spectral(nn.Conv2d(channels, width, size, padding=size // 2, bias=bias))


def start(network: nn.Module, initializer: str) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            normalised = parametrize.is_parametrized(layer)
            weight = layer.parametrizations.weight.original if normalised else layer.weight
            if initializer == "orthogonal":
                nn.init.orthogonal_(weight)
            else:
                nn.init.normal_(weight, 0.0, 0.02)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)


class Attention(nn.Module):
    """`[B, C, H, W]` to the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        few, half = max(channels // 8, 1), max(channels // 2, 1)
        self.theta, self.phi = (conv(channels, few, 1, bias=False) for _ in range(2))
        self.g = conv(channels, half, 1, bias=False)
        self.o = conv(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x).flatten(2)
        phi, g = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.phi, self.g))
        weights = (theta.mT @ phi).softmax(2)
        return x + self.gamma * self.o((g @ weights.mT).unflatten(2, x.shape[2:]))


class Norm(nn.Module):
    """Batch normalisation, with scales and biases of a vector or of a label where there is one."""

    def __init__(self, channels: int, vector: int, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not vector and not num_classes)
        if vector:
            self.scale, self.bias = (
                spectral(nn.Linear(vector, channels, bias=False)) for _ in range(2)
            )
        elif num_classes:
            self.scale, self.bias = (nn.Embedding(num_classes, channels) for _ in range(2))

    def forward(self, x: Tensor, vector: Tensor | None) -> Tensor:
        x = self.norm(x)
        if vector is None:
            return x
        return x * (1 + self.scale(vector))[..., None, None] + self.bias(vector)[..., None, None]


class UpBlock(nn.Module):
    """`[B, channels, H, W]` to `[B, width, 2H, 2W]`."""

    def __init__(self, channels: int, width: int, *kind: int):
        super().__init__()
        self.norm1 = Norm(channels, *kind)
        self.conv1 = conv(channels, width)
        self.norm2 = Norm(width, *kind)
        self.conv2 = conv(width, width)
        self.shortcut = conv(channels, width, 1)

    def forward(self, x: Tensor, vector: Tensor | None) -> Tensor:
        y = F.interpolate(F.relu(self.norm1(x, vector)), scale_factor=2)
        y = F.relu(self.norm2(self.conv1(y), vector))
        return self.conv2(y) + self.shortcut(F.interpolate(x, scale_factor=2))


class Generator(nn.Module):
    """`[B, Z]`, and labels `[B]`, to `[B, C, H, W]`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        width: int = 64,
        attention: int = 0,
        initializer: Literal["orthogonal", "normal"] = "orthogonal",
        embedding: int = 128,
        hierarchical: bool = True,
        num_classes: int = 0,
    ):
        super().__init__()
        size, _, channels = shape
        count = (size // 4).bit_length() - 1
        first, *widths = (width * multiple for multiple in UP.get(count, (4,) * (count + 1)))
        self.parts = count + 1 if hierarchical else 1
        if latent_dim % self.parts:
            raise ValueError(f"latent_dim must divide by {self.parts}, given {latent_dim}")
        self.shared = nn.Embedding(num_classes, embedding) if num_classes and embedding else None
        vector = (latent_dim // self.parts) * hierarchical + embedding * (num_classes > 0)
        base = size >> count
        self.dense = spectral(nn.Linear(latent_dim // self.parts, first * base * base))
        self.unflatten = nn.Unflatten(1, (first, base, base))
        inputs = (first, *widths[:-1])
        self.blocks = nn.ModuleList(
            UpBlock(x, y, vector, num_classes) for x, y in zip(inputs, widths, strict=True)
        )
        sides = [base << (i + 1) for i in range(count)]
        self.at = sides.index(attention) if attention else -1
        self.attention = Attention(widths[self.at]) if attention else None
        self.norm = nn.BatchNorm2d(widths[-1])
        self.conv = conv(widths[-1], channels)
        start(self, initializer)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        first, *parts = latents.chunk(self.parts, 1)
        vectors: Sequence[Tensor | None] = parts or [labels] * len(self.blocks)
        if self.shared is not None:
            label = self.shared(labels)
            vectors = [torch.cat([label, x], 1) for x in parts] or [label] * len(self.blocks)
        x = self.unflatten(self.dense(first))
        for i, (block, vector) in enumerate(zip(self.blocks, vectors, strict=True)):
            x = block(x, vector)
            if i == self.at:
                x = self.attention(x)
        return torch.tanh(self.conv(F.relu(self.norm(x))))


class Block(nn.Module):
    """`[B, channels, H, W]` to `[B, width, H, W]`, or with `down` to half of H and W."""

    def __init__(self, channels: int, width: int, *, first: bool, down: bool):
        super().__init__()
        self.first = first
        self.down = down
        self.conv1 = conv(channels, width)
        self.conv2 = conv(width, width)
        self.shortcut = conv(channels, width, 1) if down or channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x if self.first else F.relu(x))
        y = self.conv2(F.relu(y))
        if not self.down:
            return self.shortcut(x) + y
        return self.shortcut(F.avg_pool2d(x, 2)) + F.avg_pool2d(y, 2)


class Discriminator(nn.Module):
    """`[B, C, H, W]`, and labels `[B]`, to `[B]`; `latent_dim` is ignored."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        width: int = 64,
        attention: int = 0,
        initializer: Literal["orthogonal", "normal"] = "orthogonal",
        num_classes: int = 0,
    ):
        super().__init__()
        size, _, channels = shape
        count = (size // 4).bit_length() - 1
        if count in DOWN:
            widths, halvings = [width * multiple for multiple in DOWN[count]], count
        else:
            halvings = 1
            while size >> halvings > 8:
                halvings += 1
            widths = [4 * width] * (halvings + 2)
        layers: list[nn.Module] = []
        for i, features in enumerate(widths):
            layers.append(Block(channels, features, first=i == 0, down=i < halvings))
            channels = features
            if i < halvings and attention == size >> (i + 1):
                layers.append(Attention(features))
        self.blocks = nn.Sequential(*layers)
        self.dense = spectral(nn.Linear(channels, 1))
        self.embed = spectral(nn.Embedding(num_classes, channels)) if num_classes else None
        start(self, initializer)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = F.relu(self.blocks(images)).sum((2, 3))
        logits = self.dense(features)[:, 0]
        if self.embed is not None:
            logits = logits + (self.embed(labels) * features).sum(1)
        return logits
