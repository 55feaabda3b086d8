"""GANs as two-player games, on JAX and Flax."""

import pathlib

__version__ = "0.1.0"

# In a checkout gan.models, gan.trainers and gan.configs lie beside this folder.
_here = pathlib.Path(__file__).resolve().parent
if not (_here / "models").is_dir():
    __path__.append(str(_here.parent))
