"""A run that is under way: what is trained, and where it is kept."""

import dataclasses
import pathlib
from dataclasses import dataclass

from gan.checkpoints import Checkpoints
from gan.config import from_mapping
from gan.manifests import Manifest
from gan.state import GANState
from gan.trainers.experiment import Experiment, build
from gan.trainers.transfer import difference, transfer


@dataclass(frozen=True)
class Run:
    """What belongs to a run besides its state.

    Attributes:
      experiment: Its parts.
      workdir: Its folder, locked.
      checkpoints: In it.
      on_optimizer_change: What becomes of the state of an optimizer or dynamics that changed.
    """

    experiment: Experiment
    workdir: pathlib.Path
    checkpoints: Checkpoints
    on_optimizer_change: str = "refuse"

    def load(self, checkpoints: Checkpoints, manifest: Manifest) -> tuple[GANState, list[str]]:
        """A checkpoint's state, its own or another run's, as this run goes on with it.

        Returns:
          The state, and a line for each part of it that is not as it was.

        Raises:
          UsageError: where it does not suit this run.
          DamageError: where it cannot be trusted.
        """
        new = self.experiment
        config = dataclasses.replace(  # of this machine, and no part of the state
            from_mapping(manifest.config),
            mesh=new.config.mesh,
            data_dir=new.config.data_dir,
            batch_size=new.config.batch_size,
        )
        if not difference(config, new.config).keys() & STATE_KEYS:
            return checkpoints.restore(manifest, new.state_target()), []
        old = build(config)
        state = checkpoints.restore(manifest, old.state_target())
        return transfer(state, old, new, self.on_optimizer_change)


STATE_KEYS = {
    "dataset",
    "latent_dim",
    "generator",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
    "dynamics",
    "averaging",
}
"""The config keys that decide what a state holds."""
