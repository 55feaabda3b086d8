"""Checkpoints that are verified before they are read, and the rules by which they are kept."""

from gan.checkpoints.checkpoints import Checkpoints as Checkpoints
from gan.checkpoints.manifest import DamageError as DamageError
from gan.checkpoints.manifest import Manifest as Manifest
