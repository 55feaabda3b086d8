"""Pictures from files as pixels: what formats and modes become, and what cannot be read."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gan.data.image_files import FORMATS, File
from gan.data.resize import Resize, resize
from gan.errors import UsageError, nearest, printable

_GREY = ("1", "L", "LA")  # and all modes of more than 8 bits
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


class LeftOut(Exception):  # noqa: N818
    """A picture is left out; the message is the reason."""


class Background(NamedTuple):
    """What is behind transparent pixels and beside padded pictures.

    Attributes:
      name: As the user wrote it.
      colour: Red, green and blue from 0 to 255.
    """

    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Target:
    """What all pictures of a dataset are made into.

    Attributes:
      resolution: Side in pixels.
      channels: 1 or 3.
      bits: The bits of grey pictures of more than 8: their largest value is below `2**bits`.
      resize: How they become squares.
      background: What shows through where they are transparent.
    """

    resolution: int
    channels: int
    bits: int
    resize: Resize
    background: Background


class Survey(NamedTuple):
    """What the headers of all pictures say.

    Attributes:
      sizes: Width and height of the first picture of each size, by its path.
      colour: Whether any has colour.
      bits: See `Target`; at least 8.
    """

    sizes: dict[tuple[int, int], str]
    colour: bool
    bits: int


def parse_background(name: str) -> Background:
    """Returns a colour by its name or hex.

    Raises:
      UsageError: for one that Pillow does not know.
    """
    from PIL import ImageColor

    try:
        red, green, blue = (min(value, 255) for value in ImageColor.getrgb(name)[:3])
    except ValueError as error:
        hint = nearest(name, ImageColor.colormap)
        raise UsageError(
            f"background={name!r}: a name such as 'white' or hex such as '#80ff00' is accepted{hint}"
        ) from error
    return Background(name, (red, green, blue))


def survey(files: Iterable[File]) -> Survey:
    """Reads the headers of all pictures, and all of those that have more than 8 bits of grey."""
    sizes: dict[tuple[int, int], str] = {}
    colour, largest = False, 0
    for file in files:
        with contextlib.suppress(Exception), _opened(file) as image:  # counted when it is decoded
            _check_mode(image)
            if _is_deep(image):
                largest = max(largest, int(_deep_values(image).max()))
            sizes.setdefault(image.size, file.name)
            colour = colour or image.mode in _COLOUR
    return Survey(sizes, colour, max(8, largest.bit_length()))


def decode(file: File, target: Target) -> tuple[np.ndarray, list[str]]:
    """Decodes a picture, rotated as its EXIF data say.

    Returns:
      The pixels, uint8 `[resolution, resolution, channels]`, and what was done to them that may not
      be expected.

    Raises:
      Exception: of any type, for a file that is not such a picture; see `reason`.
    """
    from PIL import ImageOps

    done = []
    with _opened(file) as image:
        _check_mode(image)
        layout = str(image.tile)  # of the file; empty once it is read
        upright = ImageOps.exif_transpose(image)
        if _is_deep(image):
            upright = _eight_bits(upright, target.bits)
            done.append(f"of {target.bits} bits to 8")
        elif ";16" in layout:  # colour; Pillow keeps the upper half of each value
            done.append("of 16 bits in colour to their upper 8")
        if _may_be_transparent(upright) and (opaque := _opaque(upright, target.background)):
            upright = opaque
            done.append(f"with transparency on {target.background.name}")
        if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's two views
            done.append("of several frames to the first")
        pixels = np.asarray(upright.convert("L" if target.channels == 1 else "RGB"))
    pixels = pixels.reshape(*pixels.shape[:2], target.channels)
    return resize(pixels, target.resolution, target.resize, target.background.colour), done


def reason(error: Exception) -> str:
    """Returns why a picture could not be decoded, in a few words that many files share."""
    from PIL import Image, UnidentifiedImageError

    match error:
        case LeftOut():
            return str(error)
        case UnidentifiedImageError():
            return "not an image"
        case Image.DecompressionBombError() | MemoryError():
            return "too large"
        case OSError() if error.errno is not None:
            return "unreadable"
    return "truncated" if "truncated" in str(error).lower() else "damaged"


@contextlib.contextmanager
def _opened(file: File) -> Iterator[Any]:
    """Opens a picture and reads its header; Pillow's warnings are not for people with many files."""
    from PIL import Image

    with warnings.catch_warnings(), file.open() as stream:
        warnings.simplefilter("ignore")
        known = [name for name in FORMATS if name in Image.OPEN]
        with Image.open(stream, formats=known) as image:
            yield image


def _check_mode(image: Any) -> None:
    """Raises LeftOut for pixels that are no shades or colours of known range."""
    if image.mode == "F":
        raise LeftOut("with float pixels")
    if not _is_deep(image) and image.mode not in _GREY + _COLOUR:
        raise LeftOut(f"with pixels of mode {printable(image.mode)}")


def _is_deep(image: Any) -> bool:
    return image.mode.startswith("I")  # "I" has 32 bits, "I;16" and its variants 16


def _deep_values(image: Any) -> np.ndarray:
    """Returns the pixels of a picture of more than 8 bits, integers `[H, W]`."""
    values = np.asarray(image)
    if values.min() < 0:
        raise LeftOut("with negative pixels")
    return values


def _eight_bits(image: Any, bits: int) -> Any:
    """Returns a grey picture with the upper 8 of its bits; Pillow itself would clip it."""
    from PIL import Image

    values = _deep_values(image)
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if isinstance(transparent := image.info.get("transparency"), int):  # the value that is
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        grey.putalpha(Image.fromarray(alpha))
    return grey


def _may_be_transparent(image: Any) -> bool:
    return (
        image.mode in ("LA", "PA", "RGBA")
        or "transparency" in image.info
        or (image.mode == "P" and image.palette.mode.endswith("A"))
    )


def _opaque(image: Any, background: Background) -> Any:
    """Lays a picture on the background; returns None where no pixel is transparent."""
    from PIL import Image

    picture = image.convert("RGBA")
    if picture.getextrema()[3][0] == 255:
        return None
    canvas = Image.new("RGBA", picture.size, (*background.colour, 255))
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")
