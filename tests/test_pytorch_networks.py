"""Networks against the same networks in PyTorch: outputs, and gradients in what goes in."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models import DISCRIMINATORS, GENERATORS

pytestmark = pytest.mark.reference

SHAPE = (32, 32, 3)
LATENTS = jax.random.normal(jax.random.key(2), [4, 6])
IMAGES = jax.random.normal(jax.random.key(3), [4, *SHAPE])
LABELS = jnp.zeros(4, jnp.int32)
R3GAN = {"width": 8, "blocks": 2, "cardinality": 4}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: see CONTRIBUTING.md")


def pair(registry, name, inputs, **arguments):
    """A network of ours, its variables, and that of tests/benchmarks/pytorch."""
    spec = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    module = registry.build(spec, shape=SHAPE, num_classes=10)
    variables = module.init(jax.random.key(0), inputs, LABELS, train=True)
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [  # what starts at zero would hide mistakes
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    variables |= {"params": jax.tree.unflatten(tree, leaves)}
    other = importlib.import_module(f"tests.benchmarks.pytorch.{name}")
    kind = "Generator" if registry is GENERATORS else "Discriminator"
    other = getattr(other, kind)(SHAPE, inputs.shape[-1], **arguments)
    assert sum(x.numel() for x in other.parameters()) == sum(x.size for x in leaves)
    return module, variables, other


def numbered(name, layers):
    return {f"{name}_{i}": layer for i, layer in enumerate(layers)}


def copy(torch, params, layers):
    """Our parameters into the layers of PyTorch's, by our names; all of them."""
    assert set(params) == set(layers)
    for name, layer in layers.items():
        ours = params[name] if isinstance(params[name], dict) else {"kernel": params[name]}
        for key, value in ours.items():
            order = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
            theirs = layer
            if isinstance(layer, torch.nn.Module):
                theirs = layer.bias if key == "bias" else layer.weight
                if key == "kernel" and torch.nn.utils.parametrize.is_parametrized(layer):
                    theirs = layer.parametrizations.weight.original
            value = torch.tensor(np.asarray(value.transpose(order)))
            theirs.data.copy_(value.reshape(theirs.shape))


def nchw(x):
    return np.asarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)


def compare(torch, module, variables, other, inputs, tolerance=1e-4):
    """Outputs in train mode, and the gradient of the sum of their squares."""

    def squares(x):
        y, _ = module.apply(variables, x, LABELS, train=True, mutable=["batch_stats"])
        return jnp.sum(y**2), y

    gradient, y = jax.grad(squares, has_aux=True)(inputs)
    x = torch.tensor(nchw(inputs), requires_grad=True)
    outputs = other.train()(x)
    (outputs**2).sum().backward()
    for one, their in ((y, outputs.detach()), (gradient, x.grad)):
        scale = np.abs(one).max()
        assert scale > 1e-3
        np.testing.assert_allclose(nchw(one), their, rtol=tolerance, atol=tolerance * scale)


def test_resnet_generator(torch):
    module, variables, other = pair(GENERATORS, "resnet", LATENTS, width=8)
    convs = [layer for b in other.blocks for layer in (b.conv1, b.conv2, b.shortcut)]
    norms = [layer for b in other.blocks for layer in (b.norm1, b.norm2)]
    layers = numbered("Conv", [*convs, other.conv]) | numbered("BatchNorm", [*norms, other.norm])
    dense = {  # its outputs are [4, 4, C] here, [C, 4, 4] there
        key: value.reshape(-1, 16, 8).swapaxes(1, 2).reshape(value.shape)
        for key, value in variables["params"]["Dense_0"].items()
    }
    params = variables["params"] | {"Dense_0": dense}
    copy(torch, params, layers | {"Dense_0": other.dense})
    compare(torch, module, variables, other, LATENTS)


def resnet_discriminator(torch, norm):
    module, variables, other = pair(DISCRIMINATORS, "resnet", IMAGES, width=8, norm=norm)
    convs = [
        layer
        for b in other.blocks
        for layer in ((b.conv1, b.conv2, b.shortcut) if b.down else (b.conv1, b.conv2))
    ]
    copy(torch, variables["params"], numbered("Conv", convs) | {"Dense_0": other.dense})
    return module, variables, other


def test_resnet_discriminator(torch):
    compare(torch, *resnet_discriminator(torch, "none"), IMAGES)


def test_resnet_discriminator_with_spectral_norm(torch):
    """The power iterations of the two begin elsewhere, and end at the same singular vectors."""
    module, variables, other = resnet_discriminator(torch, "spectral")

    def once(_, variables):
        image, label = IMAGES[:1], LABELS[:1]
        return (
            variables
            | module.apply(variables, image, label, train=True, mutable=["batch_stats"])[1]
        )

    variables = jax.jit(lambda v: jax.lax.fori_loop(0, 300, once, v))(variables)
    with torch.no_grad():
        for _ in range(300):
            other(torch.tensor(nchw(IMAGES[:1])))
    compare(torch, module, variables, other, IMAGES, tolerance=1e-3)


def stages(other):
    blocks = [block for block in other.stages if hasattr(block, "reduce")]
    return [layer for b in blocks for layer in (b.expand, b.grouped, b.reduce)]


def test_r3gan_generator(torch):
    module, variables, other = pair(GENERATORS, "r3gan", LATENTS, **R3GAN)
    layers = numbered("Conv", [*stages(other), other.to_image])
    layers |= {"Dense_0": other.dense, "basis": other.basis}
    copy(torch, variables["params"], layers)
    compare(torch, module, variables, other, LATENTS)


def test_r3gan_discriminator(torch):
    module, variables, other = pair(DISCRIMINATORS, "r3gan", IMAGES, **R3GAN)
    layers = numbered("Conv", [other.from_image, *stages(other)])
    layers |= {"Dense_0": other.dense, "basis": other.basis.weight}
    copy(torch, variables["params"], layers)
    compare(torch, module, variables, other, IMAGES)


def channels_first(kernel, size, axis):
    """A dense kernel whose axis runs over `[size, size, C]` here, and `[C, size, size]` there."""
    split = kernel.reshape(*kernel.shape[:axis], size, size, -1, *kernel.shape[axis + 1 :])
    return jnp.moveaxis(split, axis + 2, axis).reshape(kernel.shape)


def dcgan_generator(torch, variables, other, base=4):
    """Our parameters in theirs: what PyTorch transposes is also flipped, `[C, C', h, w]`."""
    params = jax.tree.map(lambda x: x[::-1, ::-1].swapaxes(2, 3) if x.ndim == 4 else x, variables)
    params = params["params"] | {
        "Dense_0": {
            key: channels_first(value, base, value.ndim - 1)
            for key, value in params["params"]["Dense_0"].items()
        }
    }
    ups = [layer for layer in other.layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    norms = [layer for layer in other.layers if isinstance(layer, torch.nn.BatchNorm2d)]
    layers = numbered("ConvTranspose", ups) | numbered("BatchNorm", norms)
    copy(torch, params, layers | {"Dense_0": other.dense})


def dcgan_discriminator(torch, variables, other, base=4):
    dense = variables["params"]["Dense_0"]
    dense = dense | {"kernel": channels_first(dense["kernel"], base, 0)}
    convs = [layer for layer in other.layers if isinstance(layer, torch.nn.Conv2d)]
    norms = [layer for layer in other.layers if isinstance(layer, torch.nn.BatchNorm2d)]
    layers = numbered("Conv", convs) | numbered("BatchNorm", norms) | {"Dense_0": other.dense}
    copy(torch, variables["params"] | {"Dense_0": dense}, layers)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_dcgan_generator(torch, batch_norm):
    module, variables, other = pair(GENERATORS, "dcgan", LATENTS, width=8, batch_norm=batch_norm)
    dcgan_generator(torch, variables, other)
    compare(torch, module, variables, other, LATENTS)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_dcgan_discriminator(torch, norm):
    module, variables, other = pair(DISCRIMINATORS, "dcgan", IMAGES, width=8, norm=norm)
    dcgan_discriminator(torch, variables, other)
    compare(torch, module, variables, other, IMAGES)


def dense_layers(torch, other):
    layers = [layer for layer in other.layers if isinstance(layer, torch.nn.Linear)]
    return numbered("Dense", layers)


def test_mlp_generator(torch):
    module, variables, other = pair(GENERATORS, "mlp", LATENTS, width=8, depth=2)
    last = {
        key: jnp.moveaxis(value.reshape(-1, *SHAPE), 3, 1).reshape(value.shape)
        for key, value in variables["params"]["Dense_2"].items()
    }
    copy(torch, variables["params"] | {"Dense_2": last}, dense_layers(torch, other))
    compare(torch, module, variables, other, LATENTS)


def test_mlp_discriminator(torch):
    module, variables, other = pair(DISCRIMINATORS, "mlp", IMAGES, width=8, depth=2)
    first = variables["params"]["Dense_0"]
    first = first | {"kernel": channels_first(first["kernel"], SHAPE[0], 0)}
    copy(torch, variables["params"] | {"Dense_0": first}, dense_layers(torch, other))
    compare(torch, module, variables, other, IMAGES)
