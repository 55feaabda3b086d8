"""Flax networks, by name."""

from gan.models import dcgan, mlp, r3gan, resnet
from gan.models.registry import DISCRIMINATORS as DISCRIMINATORS
from gan.models.registry import GENERATORS as GENERATORS

__all__ = ["DISCRIMINATORS", "GENERATORS", "dcgan", "mlp", "r3gan", "resnet"]
