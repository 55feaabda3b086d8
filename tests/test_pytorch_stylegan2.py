"""StyleGAN2 against the same networks in PyTorch: outputs, losses, first and second derivatives.

All in double precision, as some second derivatives, such as those of the minibatch deviation alone, are tiny.
"""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.config import TrainConfig
from gan.models import DISCRIMINATORS, GENERATORS
from tests.test_pytorch_networks import channels_first, nchw

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("x64")]

SHAPE = (8, 8, 3)
RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=[4, 6])
IMAGES = RNG.normal(size=[4, *SHAPE])
LABELS = np.zeros(4, np.int32)
WIDTHS = {"channel_base": 48, "channel_max": 8, "mapping_layers": 2}
OPTIONS = {"generator": WIDTHS | {"w_dim": 7}, "discriminator": WIDTHS | {"stddev_group": 2}}
NAMES = {  # ours, with dots, to PyTorch's
    r"synthesis\.(?=conv_\d)": "",
    r"synthesis\.constant": "constant",
    r"synthesis\.": "",
    r"image_bias_": "image_biases.",
    r"to_image_": "to_images.",
    r"^conv_(\d+)\.noise\.": r"conv_\1.",
    r"mapping\.layer_": "mapping.",
}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: see CONTRIBUTING.md")


def put(torch, params, network):
    """Copies our parameters into PyTorch's network; all of them."""
    theirs = dict(network.named_parameters())
    discriminator = "last.weight" in theirs
    for path, value in jax.tree.leaves_with_path(params):
        name = ".".join(key.key for key in path)
        for pattern, to in NAMES.items():
            name = re.sub(pattern, to, name)
        if discriminator:
            name = re.sub(r"^(conv|down|skip)_(\d+)", r"blocks.\2.\1", name)
        else:
            name = re.sub(r"^conv_", "convs.", name)
        if name == "last_hidden.kernel":
            value = channels_first(value, 4, 0)
        order = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0), 1: (0,), 0: ()}[value.ndim]
        their = theirs.pop(name.replace("kernel", "weight"))
        assert their.shape == value.transpose(order).shape
        their.data = torch.tensor(np.asarray(value.transpose(order)))
    assert not theirs


def pair(torch, role, **changes):
    """A network of ours, its variables, and PyTorch's; nothing is zero that begins as zero."""
    arguments = OPTIONS[role] | changes
    spec = f"stylegan2({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    registry, inputs = {
        "generator": (GENERATORS, LATENTS),
        "discriminator": (DISCRIMINATORS, IMAGES),
    }[role]
    module = registry.build(spec, shape=SHAPE, num_classes=1)
    variables = jax.jit(lambda: module.init(jax.random.key(0), inputs, LABELS, train=True))()
    leaves, tree = jax.tree.flatten(variables["params"])
    moved = [jnp.asarray(x + 0.1 * RNG.normal(size=x.shape)) for x in leaves]
    variables |= {"params": jax.tree.unflatten(tree, moved)}
    other = importlib.import_module("tests.benchmarks.pytorch.stylegan2")
    other = getattr(other, role.capitalize())(SHAPE, LATENTS.shape[-1], **arguments).eval().double()
    put(torch, variables["params"], other)
    for name, noise in variables.get("noise", {}).get("synthesis", {}).items():
        image = torch.tensor(np.asarray(noise["noise"]["image"][..., 0])).double()
        other.convs[int(name.removeprefix("conv_"))].noise = image
    return module, variables, other


def compare(torch, gradients, params, other, zero=()):
    """Our gradients against those that PyTorch's parameters have; those of `zero` must be 0."""
    their = {name: x.grad for name, x in other.named_parameters()}
    put(torch, gradients, other)
    for name, expected in other.named_parameters():
        scale = np.abs(expected.detach().numpy()).max()
        assert (scale == 0) == (name in zero), name
        np.testing.assert_allclose(
            their[name], expected.detach(), rtol=1e-6, atol=1e-6 * scale, err_msg=name
        )
    put(torch, params, other)


def apply(module, variables, inputs, **options):
    return module.apply(variables, inputs, LABELS, train=False, **options)


@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_loss_gradients_and_r1_of_the_discriminator(torch, architecture):
    module, variables, other = pair(torch, "discriminator", architecture=architecture)

    def loss(params, images):
        return jnp.mean(jax.nn.softplus(-apply(module, {"params": params}, images)))

    def r1(params, images):
        slopes = jax.grad(lambda x: apply(module, {"params": params}, x).sum())(images)
        return jnp.sum(slopes**2, (1, 2, 3)).mean()

    params = variables["params"]
    value, (of_params, of_images) = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, IMAGES)
    penalty, second = jax.jit(jax.value_and_grad(r1))(params, IMAGES)

    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2), requires_grad=True)
    logits = other(images)
    np.testing.assert_allclose(
        apply(module, variables, IMAGES), logits.detach(), rtol=1e-6, atol=1e-6
    )
    their = torch.nn.functional.softplus(-logits).mean()
    their.backward(retain_graph=True)
    np.testing.assert_allclose(value, their.detach(), rtol=1e-6)
    scale = np.abs(of_images).max()
    np.testing.assert_allclose(nchw(of_images), images.grad, rtol=1e-6, atol=1e-6 * scale)
    compare(torch, of_params, params, other)

    other.zero_grad()
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2), requires_grad=True)
    (slopes,) = torch.autograd.grad(other(images).sum(), images, create_graph=True)
    their = slopes.square().sum((1, 2, 3)).mean()
    np.testing.assert_allclose(penalty, their.detach(), rtol=1e-6)
    for parameter in other.parameters():  # from the last convolution on all is linear but for kinks
        parameter.grad = torch.zeros_like(parameter)
    their.backward()
    compare(torch, second, params, other, ("last_conv.bias", "last_hidden.bias", "last.bias"))


def test_images_and_gradients_of_the_generator(torch):
    module, variables, other = pair(torch, "generator")
    rest = {name: value for name, value in variables.items() if name != "params"}

    def squares(params, latents):
        images = apply(module, {"params": params, **rest}, latents)
        return jnp.mean(images**2), images

    gradient = jax.jit(jax.grad(squares, (0, 1), has_aux=True))
    (of_params, of_latents), images = gradient(variables["params"], LATENTS)
    latents = torch.tensor(LATENTS, requires_grad=True)
    their = other(latents)
    np.testing.assert_allclose(nchw(images), their.detach(), rtol=1e-6, atol=1e-6)
    their.square().mean().backward()
    scale = np.abs(of_latents).max()
    np.testing.assert_allclose(of_latents, latents.grad, rtol=1e-6, atol=1e-6 * scale)
    compare(torch, of_params, variables["params"], other)


def test_path_length_of_the_generator(torch):
    """||J^T y|| with respect to w, as in equation 4, with the mean over the layers of the authors' code.

    length = sqrt(mean over l of sum over j of (d sum(G(w) y) / d w[l, j])^2), y normal / sqrt(H W).
    """
    module, variables, other = pair(torch, "generator")
    rest = {name: value for name, value in variables.items() if name != "params"}
    y = RNG.normal(size=[4, *SHAPE]) / 8

    def ours(params, ws):
        def moved(ws):
            images = module.apply({"params": params, **rest}, ws, train=False, method="synthesize")
            return jnp.sum(images * y)

        lengths = jnp.sqrt(jnp.mean(jnp.sum(jax.grad(moved)(ws) ** 2, 2), 1))
        return jnp.mean((lengths - 0.5) ** 2), lengths

    @jax.jit
    def penalty(params):
        ws = module.apply(
            {"params": params, **rest}, LATENTS, LABELS, train=False, method="map_latents"
        )
        return ours(params, ws)

    (value, lengths), gradient = jax.value_and_grad(penalty, has_aux=True)(variables["params"])
    ws = other.map(torch.tensor(LATENTS))[:, None].repeat(1, module.num_layers, 1)
    moved = (other.synthesize(ws) * torch.tensor(y.transpose(0, 3, 1, 2))).sum()
    (slopes,) = torch.autograd.grad(moved, ws, create_graph=True)
    their = slopes.square().sum(2).mean(1).sqrt()
    np.testing.assert_allclose(lengths, their.detach(), rtol=1e-6)
    for parameter in other.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loss = (their - 0.5).square().mean()
    np.testing.assert_allclose(value, loss.detach(), rtol=1e-6)
    loss.backward()
    compare(torch, gradient, variables["params"], other, ("image_biases.0", "image_biases.1"))


def test_training_steps_of_the_benchmark(torch):
    """In PyTorch's training mode noise is random and styles are mixed; the step is there and moves all."""
    training = importlib.import_module("tests.benchmarks.pytorch.training")
    generator, discriminator = (
        f"stylegan2({', '.join(f'{key}={value}' for key, value in options.items())})"
        for options in OPTIONS.values()
    )
    config = TrainConfig(
        generator=generator,
        discriminator=discriminator,
        batch_size=4,
        latent_dim=6,
        regularizers=("r1(0.1, every=2)",),
    )
    theirs = training.Training(config, SHAPE)
    before = [x.detach().clone() for x in theirs.generator.parameters()]
    for _ in range(2):
        theirs.step()
    after = list(theirs.generator.parameters())
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert (theirs.generator.w_mean != 0).any()
    first, second = theirs.generate(), theirs.generate()
    assert first.shape == (4, 3, 8, 8)
    assert (first != second).any()
