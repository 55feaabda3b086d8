"""Pictures in files, for the tests of what reads them."""

import io
import zipfile

import numpy as np
from PIL import Image


def encoded_image(width=12, height=10, value=200, mode="RGB", suffix="PNG"):
    """The bytes of a picture of one colour."""
    content = io.BytesIO()
    colour = value if mode == "L" else (value, 0, 0)
    Image.new(mode, (width, height), colour).save(content, suffix)
    return content.getvalue()


def encode(pixels, suffix="PNG", **how):
    """The bytes of a picture, given as an array or by Pillow."""
    content = io.BytesIO()
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(content, suffix, **how)
    return content.getvalue()


def write(root, files):
    """Writes files below a folder, given as bytes, text or arrays by their names; returns the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            content = encode(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zip_of(folder):
    """Packs a folder into a zip beside it, the last first; returns the zip."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(folder).as_posix())
    return path
