"""Training written the usual way in PyTorch, from one of our configs: the same maths, step by step.

Specs are read by `gan.registry`, which does not import JAX. A part that is not known here raises
ValueError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gan.config import TrainConfig
from gan.errors import UsageError
from gan.registry import Registry
from tests.benchmarks.pytorch import biggan, dcgan, mlp, r3gan, resnet, stylegan2
from tests.benchmarks.pytorch.optimizers import OPTIMIZERS, set_rates

NUM_IMAGES = 2048
Shape = tuple[int, int, int]
Variant = Literal["eager", "channels_last", "compile", "cuda_graphs"]

GENERATORS: Registry[nn.Module] = Registry("PyTorch generator", context=("shape", "latent_dim"))
DISCRIMINATORS: Registry[nn.Module] = Registry(
    "PyTorch discriminator", context=("shape", "latent_dim")
)
for module in (biggan, dcgan, mlp, r3gan, resnet, stylegan2):
    name = module.__name__.rpartition(".")[2]
    GENERATORS.register(name)(module.Generator)
    DISCRIMINATORS.register(name)(module.Discriminator)


@dataclass(frozen=True)
class Loss:
    """Both players' losses of logits `[B]`; `paired` if the generator's depends on real ones."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Any, Tensor], Tensor]
    paired: bool = False


LOSSES: Registry[Loss] = Registry("PyTorch loss")


@LOSSES.register("non_saturating")
def non_saturating() -> Loss:
    return Loss(
        lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        lambda real, fake: F.softplus(-fake).mean(),
    )


@LOSSES.register("minimax")
def minimax() -> Loss:
    return Loss(non_saturating().discriminator, lambda real, fake: -F.softplus(fake).mean())


@LOSSES.register("hinge")
def hinge() -> Loss:
    return Loss(
        lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    )


@LOSSES.register("wasserstein")
def wasserstein() -> Loss:
    return Loss(lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean())


@LOSSES.register("least_squares")
def least_squares() -> Loss:
    return Loss(
        lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    )


@LOSSES.register("relativistic")
def relativistic() -> Loss:
    return Loss(
        lambda real, fake: F.softplus(fake - real).mean(),
        lambda real, fake: F.softplus(real - fake).mean(),
        paired=True,
    )


@dataclass(frozen=True)
class Regularizer:
    """A penalty applied at every n-th update of the discriminator, multiplied by n.

    It is a function of the discriminator, of real and fake examples `[B, C, H, W]`, which require
    gradients, and of their logits.
    """

    penalty: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor, Tensor], Tensor]
    every: int = 1


REGULARIZERS: Registry[Regularizer] = Registry("PyTorch regularizer")


@REGULARIZERS.register("r1")
def r1(weight: float = 1.0, every: int = 1) -> Regularizer:
    return Regularizer(lambda _, real, __, y, ___: weight / 2 * squared(y, real).mean(), every)


@REGULARIZERS.register("r2")
def r2(weight: float = 1.0, every: int = 1) -> Regularizer:
    return Regularizer(lambda _, __, fake, ___, y: weight / 2 * squared(y, fake).mean(), every)


@REGULARIZERS.register("gradient_penalty")
def gradient_penalty(weight: float = 10.0, every: int = 1) -> Regularizer:
    def penalty(judge: Any, real: Tensor, fake: Tensor, *_: Tensor) -> Tensor:
        ratio = torch.rand(len(real), 1, 1, 1, device=real.device)
        x = torch.lerp(real.detach(), fake.detach(), ratio).requires_grad_()
        return weight * ((squared(judge(x), x).sqrt() - 1) ** 2).mean()

    return Regularizer(penalty, every)


def squared(logits: Tensor, examples: Tensor) -> Tensor:
    """Computes ||grad_x D(x)||^2 `[B]` for each example."""
    (gradient,) = torch.autograd.grad(logits.sum(), examples, create_graph=True)
    return gradient.square().sum((1, 2, 3))


@dataclass(frozen=True)
class EMA:
    """average <- decay average + (1 - decay) newest; until `start_step` it is the newest."""

    decay: float = 0.999
    start_step: int = 0

    def update(self, average: list[Tensor], newest: Sequence[Tensor], step: int) -> None:
        weight = 1.0 if step <= self.start_step else 1 - self.decay
        torch._foreach_lerp_(average, newest, weight)


AVERAGING: Registry[EMA] = Registry("PyTorch averaging")
AVERAGING.register("ema")(EMA)


def flip(images: Tensor, probability: float = 0.5) -> Tensor:
    """Mirrors some of the images `[B, C, H, W]` left to right."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(mirrored, images.flip(3), images)


class Training:
    """Two networks, their optimizers, averages and data.

    Raises:
      ValueError: for a config that asks for something unknown.
    """

    def __init__(
        self,
        config: TrainConfig,
        shape: Shape,
        *,
        variant: Variant = "eager",
        device: str = "cpu",
    ):
        if len(shape) != 3:
            raise ValueError(f"shape must be (H, W, C), given {shape}")
        known = {
            "data_augmentation": ((), ("flip",)), "discriminator_augmentation": ("none",),
            "microbatches": (1,),
        }  # fmt: skip
        for key, values in known.items():
            if getattr(config, key) not in values:
                choices = " or ".join(map(repr, values))
                raise ValueError(f"{key} is not known to the PyTorch side, but as {choices}")
        if config.mesh not in ("data", "data(1)"):
            raise ValueError(f"mesh {config.mesh!r} is not known to the PyTorch side: one device")
        self.config = config
        self.device = torch.device(device)
        self.mixed = config.precision == "bfloat16"  # parameters, logits and losses in float32
        layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
        sizes = {"shape": shape, "latent_dim": config.latent_dim}
        try:
            generator = GENERATORS.build(config.generator, **sizes)
            discriminator = DISCRIMINATORS.build(config.discriminator, **sizes)
            self.generator = generator.to(self.device, memory_format=layout)
            self.discriminator = discriminator.to(self.device, memory_format=layout)
            self.loss = LOSSES.build(config.loss)
            self.regularizers = [REGULARIZERS.build(spec) for spec in config.regularizers]
            self.averaging = [AVERAGING.build(spec) for spec in config.averaging]
            self.dynamics = DYNAMICS.build(config.dynamics)
            if config.generator_batch_size is not None and (
                self.loss.paired
                or not isinstance(self.dynamics, Alternating)
                or self.dynamics.reuse_fakes
            ):
                raise ValueError(
                    "generator_batch_size is known to the PyTorch side with alternating dynamics alone, "
                    "fresh fakes, and a loss whose generator does not see the real examples"
                )
            self.generator_optimizer, self.discriminator_optimizer = (
                OPTIMIZERS.build(spec, params=list(network.parameters()))
                for spec, network in (
                    (config.generator_optimizer, generator),
                    (config.discriminator_optimizer, discriminator),
                )
            )
        except UsageError as error:
            raise ValueError(str(error)) from error
        self.compiled_generator, self.compiled_discriminator = self.generator, self.discriminator
        self.compiled = variant in ("compile", "cuda_graphs")
        if self.compiled:
            mode = "reduce-overhead" if variant == "cuda_graphs" else None
            self.compiled_generator = torch.compile(self.generator, mode=mode)
            self.compiled_discriminator = torch.compile(self.discriminator, mode=mode)
        floats = [
            *generator.parameters(),
            *(x for x in generator.buffers() if x.is_floating_point()),
        ]
        self.averaged = [x.detach() for x in floats]
        self.averages = [[x.clone() for x in self.averaged] for _ in self.averaging]
        height, width, channels = shape
        images = torch.randint(256, (NUM_IMAGES, channels, height, width), dtype=torch.uint8)
        self.images = images.to(self.device, memory_format=layout)
        self.steps = 0  # of the generator
        self.updates = 0  # of the discriminator

    def step(self) -> None:
        """Makes one step of the dynamics, and updates the averages."""
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()  # the last step's results may be overwritten
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            set_rates(optimizer, self.steps)
        self.dynamics(self)
        self.steps += 1
        for averaging, average in zip(self.averaging, self.averages, strict=True):
            averaging.update(average, self.averaged, self.steps)

    def batch(self) -> Tensor:
        """Draws real examples `[B, C, H, W]` in [-1, 1]."""
        chosen = torch.randint(NUM_IMAGES, (self.config.batch_size,), device=self.device)
        real = self.images[chosen].float().div_(127.5).sub_(1)
        return flip(real) if self.config.data_augmentation else real

    def latents(self, size: int) -> Tensor:
        """Draws latents `[size, Z]`."""
        return torch.randn(size, self.config.latent_dim, device=self.device)

    def generate(self, size: int | None = None) -> Tensor:
        """Generates fake examples `[B, C, H, W]` from fresh latents; B is `batch_size` by default."""
        latents = self.latents(size or self.config.batch_size)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            return self.compiled_generator(latents).float()

    def judge(self, examples: Tensor, *, eager: bool = False) -> Tensor:
        """Computes logits `[B]`."""
        network = self.discriminator if eager else self.compiled_discriminator
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            return network(examples).float()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the discriminator's loss with penalties, and the real and the fake logits."""
        due = [x for x in self.regularizers if self.updates % x.every == 0]
        self.updates += 1
        if due:
            real.requires_grad_()
            fake.requires_grad_()
        # torch.compile has no second derivatives: with a penalty the network itself is called.
        fake_logits = self.judge(fake, eager=bool(due))
        real_logits = self.judge(real, eager=bool(due))
        loss = self.loss.discriminator(real_logits, fake_logits)
        for x in due:

            def judge(examples: Tensor) -> Tensor:
                return self.judge(examples, eager=True)

            loss = loss + x.every * x.penalty(judge, real, fake, real_logits, fake_logits)
        return loss, real_logits, fake_logits


DYNAMICS: Registry[Any] = Registry("PyTorch dynamics")


@DYNAMICS.register("alternating")
@dataclass(frozen=True)
class Alternating:
    """Steps of the discriminator, each on a new batch, then one of the generator.

    With `reuse_fakes`, the generator's step goes back through the pass that made the last fakes.
    """

    discriminator_steps: int = 1
    reuse_fakes: bool = False

    def __call__(self, training: Training) -> None:
        discriminator, optimizer = training.discriminator, training.discriminator_optimizer
        for place in range(self.discriminator_steps):
            real = training.batch()
            with torch.set_grad_enabled(self.reuse_fakes and place + 1 == self.discriminator_steps):
                fake = training.generate()
            loss, _, _ = training.discriminator_loss(real, fake.detach())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        discriminator.requires_grad_(False)
        optimizer = training.generator_optimizer
        if not self.reuse_fakes:
            fake = training.generate(training.config.generator_batch_size)
        fake_logits = training.judge(fake)
        real_logits = training.judge(real.detach()) if training.loss.paired else None
        loss = training.loss.generator(real_logits, fake_logits)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        discriminator.requires_grad_(True)


@DYNAMICS.register("simultaneous")
@dataclass(frozen=True)
class Simultaneous:
    """A step of both players, each along its gradient at the same point.

    The fake's logits are computed once, and their graph is kept for the second backward pass. A
    compiled graph cannot be passed twice: there, the generator's loss computes the logits anew.
    """

    def __call__(self, training: Training) -> None:
        generator, discriminator = training.generator, training.discriminator
        fake = training.generate()
        seen = fake.detach() if training.compiled else fake
        loss, real_logits, fake_logits = training.discriminator_loss(training.batch(), seen)
        if training.compiled:
            discriminator.requires_grad_(False)
            real_logits, fake_logits = real_logits.detach(), training.judge(fake)
            discriminator.requires_grad_(True)
        generator_loss = training.loss.generator(real_logits, fake_logits)
        own, theirs = list(generator.parameters()), list(discriminator.parameters())
        gradients = torch.autograd.grad(loss, theirs, retain_graph=not training.compiled)
        gradients += torch.autograd.grad(generator_loss, own)
        for param, gradient in zip(theirs + own, gradients, strict=True):
            param.grad = gradient
        for optimizer in (training.generator_optimizer, training.discriminator_optimizer):
            optimizer.step()
            optimizer.zero_grad()
