"""GANs as two-player games, on JAX and Flax."""

import pathlib

__version__ = "0.1.0"

# In a checkout gan.models, gan.trainers and gan.configs lie beside this folder. An editable install
# links to single files; modules are looked for in the checkout itself, so that new files are found.
_here = pathlib.Path(__file__).resolve().parent
if not (_here / "models").is_dir():
    __path__[:] = [str(_here), str(_here.parent)]
