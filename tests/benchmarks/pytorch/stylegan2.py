"""The networks of models/stylegan2.py, without labels.

In training noise is random and styles are mixed, at one layer for the whole batch; in evaluation noise is an
image of each layer's own, and nothing is mixed.
"""

import itertools
from math import prod, sqrt
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EPSILON = 1e-8


def activated(x: Tensor, gain: float = sqrt(2)) -> Tensor:
    return F.leaky_relu(x, 0.2) * gain


def normalized(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def widths(size: int, base: int, most: int) -> list[int]:
    """Channels at each resolution, the lowest first."""
    sides = [size >> i for i in range((size // 4).bit_length())]
    return [min(base // side, most) for side in reversed(sides)]


class Filter(nn.Module):
    """Filters each channel with [1, 3, 3, 1] / 8 along both axes; with `up` or `down`, by 2."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None])

    def expanded(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)

    def forward(self, x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
        return F.conv2d(x, gain * self.expanded(x), padding=padding, groups=x.shape[1])

    def up(self, x: Tensor) -> Tensor:
        kernel = 4 * self.expanded(x)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    def down(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.expanded(x), stride=2, padding=1, groups=x.shape[1])


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        scale = self.rate / sqrt(self.weight.shape[1])
        return F.linear(x, self.weight * scale, self.bias * self.rate)


class Conv(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, size: int, *, down: bool = False, bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.filter = Filter() if down else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / sqrt(prod(self.weight.shape[1:]))
        size = weight.shape[-1]
        if self.filter is None:
            return F.conv2d(x, weight, self.bias, padding=size // 2)
        if size == 1:
            return F.conv2d(self.filter.down(x), weight, self.bias)
        return F.conv2d(self.filter(x, 1 + size // 2), weight, self.bias, stride=2)


class ModulatedConv(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, size: int, w_dim: int, *, up: bool, demodulate: bool
    ):
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.filter = Filter() if up else None
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles, weight = self.affine(w), self.weight
        if not self.demodulate:
            weight = weight / sqrt(prod(weight.shape[1:]))
        x = x * styles[:, :, None, None]
        if self.filter is None:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        else:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = self.filter(x, 1, gain=4.0)
        if not self.demodulate:
            return x
        squares = styles.square() @ weight.square().sum((2, 3)).T
        return x * (squares + EPSILON).rsqrt()[:, :, None, None]


class StyledConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int, *, up: bool):
        super().__init__()
        self.modulated = ModulatedConv(inputs, outputs, 3, w_dim, up=up, demodulate=True)
        self.strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(side, side))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.modulated(x, w)
        shape = (len(x), 1, *x.shape[2:])
        noise = torch.randn(shape, device=x.device) if self.training else self.noise
        return activated(x + self.strength * noise + self.bias[:, None, None])


class Generator(nn.Module):
    """`[B, Z]` to `[B, C, H, W]`; `synthesize` maps `[B, L, W]`."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        channel_base: int = 32_768,
        channel_max: int = 512,
        mapping_layers: int = 8,
        mapping_rate: float = 0.01,
        w_dim: int = 512,
        style_mixing: float = 0.9,
        mean_decay: float = 0.995,
    ):
        super().__init__()
        size, _, channels = shape
        self.style_mixing, self.mean_decay = style_mixing, mean_decay
        sizes = [latent_dim, *[w_dim] * mapping_layers]
        self.mapping = nn.ModuleList(
            Linear(a, b, mapping_rate) for a, b in itertools.pairwise(sizes)
        )
        self.register_buffer("w_mean", torch.zeros(w_dim))
        every = widths(size, channel_base, channel_max)
        base = size >> (len(every) - 1)
        self.constant = nn.Parameter(torch.randn(every[0], base, base))
        convs, to_images, inputs = [], [], every[0]
        for number, width in enumerate(every):
            for up in (True, False) if number else (False,):
                convs.append(StyledConv(inputs, width, w_dim, base << number, up=up))
                inputs = width
            to_images.append(ModulatedConv(width, channels, 1, w_dim, up=False, demodulate=False))
        self.convs, self.to_images = nn.ModuleList(convs), nn.ModuleList(to_images)
        self.image_biases = nn.ParameterList(torch.zeros(channels) for _ in every)
        self.filter = Filter()

    def map(self, latents: Tensor) -> Tensor:
        w = normalized(latents)
        for layer in self.mapping:
            w = activated(layer(w))
        return w

    def forward(self, latents: Tensor) -> Tensor:
        w = self.map(latents)
        layers = len(self.convs) + 1
        ws = w[:, None].expand(-1, layers, -1)
        if self.training:
            self.w_mean.lerp_(w.detach().mean(0), 1 - self.mean_decay)
            if self.style_mixing:
                others = self.map(torch.randn_like(latents))
                first = torch.randint(1, layers, (), device=w.device)
                mixes = torch.rand((), device=w.device) < self.style_mixing
                mixed = mixes & (torch.arange(layers, device=w.device) >= first)
                ws = torch.where(mixed[:, None], others[:, None], ws)
        return self.synthesize(ws)

    def synthesize(self, ws: Tensor) -> Tensor:
        x = self.constant.expand(len(ws), -1, -1, -1)
        image = None
        for number, (to_image, bias) in enumerate(
            zip(self.to_images, self.image_biases, strict=True)
        ):
            for layer in (2 * number - 1, 2 * number) if number else (0,):
                x = self.convs[layer](x, ws[:, layer])
            added = to_image(x, ws[:, 2 * number + 1]) + bias[:, None, None]
            image = added if image is None else self.filter.up(image) + added
        return image


class Block(nn.Module):
    """`[B, width, H, W]` to `[B, out, H / 2, W / 2]`."""

    def __init__(self, width: int, out: int, architecture: str):
        super().__init__()
        self.conv = Conv(width, width, 3)
        self.down = Conv(width, out, 3, down=True)
        self.skip = Conv(width, out, 1, down=True, bias=False) if architecture == "resnet" else None

    def forward(self, x: Tensor) -> Tensor:
        y = activated(self.down(activated(self.conv(x))))
        return y if self.skip is None else (self.skip(x) + y) * sqrt(0.5)


class Discriminator(nn.Module):
    """`[B, C, H, W]` to `[B]`; `latent_dim` is ignored: both networks take the same arguments."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int = 0,
        channel_base: int = 32_768,
        channel_max: int = 512,
        mapping_layers: int = 8,
        mapping_rate: float = 0.01,
        architecture: Literal["resnet", "orig"] = "resnet",
        stddev_group: int = 4,
        stddev_channels: int = 1,
    ):
        super().__init__()
        size, _, channels = shape
        every = widths(size, channel_base, channel_max)[::-1]
        self.group, self.stddev_channels = stddev_group, stddev_channels
        self.from_image = Conv(channels, every[0], 1)
        self.blocks = nn.Sequential(
            *(Block(a, b, architecture) for a, b in itertools.pairwise(every))
        )
        last, base = every[-1], size >> (len(every) - 1)
        self.last_conv = Conv(last + stddev_channels, last, 3)
        self.last_hidden = Linear(last * base * base, last)
        self.last = Linear(last, 1)

    def deviation(self, x: Tensor) -> Tensor:
        """Computes the deviation in each group of every (B / group)-th image: `[B, channels, H, W]`."""
        size = min(self.group, len(x))
        groups = x.reshape(size, len(x) // size, self.stddev_channels, -1, *x.shape[2:])
        deviation = (groups.var(0, correction=0) + EPSILON).sqrt().mean((2, 3, 4))
        return deviation.repeat(size, 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(activated(self.from_image(images)))
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.stddev_channels:
            x = torch.cat([x, self.deviation(x)], 1)
        x = activated(self.last_conv(x)).flatten(1)
        return self.last(activated(self.last_hidden(x)))[:, 0]
