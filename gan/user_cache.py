"""The user's cache folder, for what can be made again."""

import os
import pathlib


def cache_folder(*parts: str) -> pathlib.Path:
    """A folder in `$GAN_CACHE_DIR`, else in `flax-gan` in `$XDG_CACHE_HOME` or `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    root = os.environ.get("GAN_CACHE_DIR") or pathlib.Path(home) / "flax-gan"
    return pathlib.Path(root, *parts)
