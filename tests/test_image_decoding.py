"""What pictures become as pixels."""

import warnings

import numpy as np
import pytest
from PIL import Image

from gan.data import DATASETS
from gan.data.resize import resize
from gan.errors import UsageError
from tests.pictures import encode, encoded_image, write

NOISE = np.random.default_rng(0).integers(0, 256, [8, 8, 3]).astype(np.uint8)


def build(tmp_path, files, *args):
    folder = write(tmp_path / "photos", files)
    return DATASETS.build(f"images({', '.join([repr(str(folder)), *args])})")


def load(tmp_path, files, *args):
    """The images, and the notes without the name of the folder."""
    dataset = build(tmp_path, files, *args)
    return dataset.load().examples, [note.removeprefix("photos: ") for note in dataset.notes]


@pytest.mark.parametrize(
    ("modes", "channels"),
    [("L", 1), ("1", 1), (("LA", "L"), 1), (("L", "RGB"), 3), (("RGB", "L", "L"), 3), ("P", 3),
     (("L", "CMYK"), 3)],
)  # fmt: skip
def test_there_is_colour_if_any_picture_has_it(tmp_path, modes, channels):
    files = {}
    for i, mode in enumerate((modes,) if isinstance(modes, str) else modes):
        suffix = "JPEG" if mode == "CMYK" else "PNG"
        files[f"{i}.{suffix.lower()}"] = encode(Image.fromarray(NOISE).convert(mode), suffix)
    images, notes = load(tmp_path, files)
    assert images.shape == (len(files), 8, 8, channels)
    assert notes == []


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("#404040", 64), ("black", 0)])
def test_what_is_transparent_shows_the_background(tmp_path, background, level):
    """A black square on nothing, in each of the ways in which a picture can be transparent."""
    drawing = np.zeros([8, 8, 4], np.uint8)
    drawing[2:6, 2:6, 3] = 255
    alpha = drawing[..., 3]
    rgba = Image.fromarray(drawing)
    rgb = Image.new("RGB", (8, 8), (9, 9, 9))
    rgb.paste((0, 0, 0), (2, 2, 6, 6))
    deep = np.where(alpha, 0, 900).astype(np.uint16)
    files = {
        "0_rgba.png": encode(rgba),
        "1_la.png": encode(rgba.convert("LA")),
        "2_p.png": encode(rgba.quantize(4), transparency=rgba.quantize(4).getpixel((0, 0))),
        "3_trns.png": encode(rgb, transparency=(9, 9, 9)),
        "4_l_trns.png": encode(rgb.convert("L"), transparency=9),
        "5_deep_trns.png": encode(Image.fromarray(deep), transparency=900),
        "6.webp": encode(rgba, "WEBP", lossless=True),
        "7.gif": encode(rgba, "GIF"),
    }
    expected = np.where(alpha, 0, level)
    images, notes = load(tmp_path, files, f"background={background!r}")
    for name, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, 2), err_msg=name)
    assert notes == [f"converted: 8 with transparency on {background}, 1 of 10 bits to 8"]


def test_what_is_half_transparent_is_mixed(tmp_path):
    half = np.full([8, 8, 4], (200, 0, 0, 128), np.uint8)
    images, _ = load(tmp_path, {"1.png": half})
    np.testing.assert_allclose(images[0, 0, 0], np.array([200, 0, 0]) * 0.502 + 255 * 0.498, atol=1)


def test_an_alpha_that_hides_nothing_is_no_news(tmp_path):
    opaque = np.concatenate([NOISE, np.full([8, 8, 1], 255, np.uint8)], -1)
    images, notes = load(tmp_path, {"1.png": opaque})
    np.testing.assert_array_equal(images[0], NOISE)
    assert notes == []


@pytest.mark.parametrize("background", ["wite", "", "#12", "none", "x" * 200])
def test_misuse_of_the_background(tmp_path, background):
    with pytest.raises(UsageError, match="a name such as 'white' or hex"):
        build(tmp_path, {"1.png": NOISE}, f"background={background!r}")


@pytest.mark.parametrize("bits", [6, 8, 10, 12, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_largest_value_of_the_dataset_is_white(tmp_path, bits, suffix):
    """Twelve bits in sixteen are no darker; Pillow itself would make nearly all white."""
    ramp = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    kind = {"png": "PNG", "tif": "TIFF"}[suffix]
    files = {f"{i}.{suffix}": encode(values, kind) for i, values in enumerate((ramp, ramp // 2))}
    images, notes = load(tmp_path, files)
    expected = np.stack([ramp, ramp // 2]) // 2 ** max(0, bits - 8)
    np.testing.assert_array_equal(images[..., 0], expected)
    assert notes == [f"converted: 2 of {max(8, bits)} bits to 8"]


def test_a_broken_picture_does_not_set_the_range(tmp_path):
    bright = np.random.default_rng(0).integers(0, 65_536, [64, 64]).astype(np.uint16)
    files = {"1.png": np.full([8, 8], 255, np.uint16), "2.png": encode(bright)[:-4000]}
    images, notes = load(tmp_path, files, "resolution=8")
    assert images.min() == 255
    assert notes == ["left out: 1 of 2 truncated; converted: 1 of 8 bits to 8"]


def test_what_has_no_range_is_left_out(tmp_path):
    files = {
        "1.png": NOISE,
        "2.tif": encode(np.full([8, 8], 0.5, np.float32), "TIFF"),
        "3.tif": encode(np.full([8, 8], -1, np.int32), "TIFF"),
        "4.tif": encode(Image.new("LAB", (8, 8)), "TIFF"),
    }
    images, notes = load(tmp_path, files)
    assert len(images) == 1
    assert notes == [
        "left out: 1 of 4 with float pixels, 1 of 4 with negative pixels, 1 of 4 with pixels of mode LAB"
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.bmp", "BMP"), ("a.gif", "GIF"), ("a.tiff", "TIFF"), ("a.JPE", "JPEG"), ("a.jfif", "JPEG"),
     ("a.jpeg", "JPEG"), ("a.webp", "WEBP"), ("a.avif", "AVIF"), ("png_inside.jpg", "PNG")],
)  # fmt: skip
def test_formats(tmp_path, name, kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    images, notes = load(tmp_path, {name: encoded_image(8, 8, 200, suffix=kind)})
    np.testing.assert_allclose(images[0].mean((0, 1)), [200, 0, 0], atol=4)
    assert notes == []


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (40, 200)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    images, notes = load(tmp_path, {f"1.{kind.lower()}": content})
    np.testing.assert_allclose(images[0, ..., 0], 40, atol=2)
    assert notes == ["converted: 1 of several frames to the first"]


def test_a_camera_s_orientation_is_respected(tmp_path):
    turned = Image.new("RGB", (8, 8))
    turned.paste((255, 0, 0), (0, 0, 4, 8))  # red at the left
    exif = turned.getexif()
    exif[0x112] = 6  # to be rotated clockwise
    images, _ = load(tmp_path, {"1.jpg": encode(turned, "JPEG", exif=exif, quality=95)})
    assert images[0, 1, 4, 0] > 200
    assert images[0, 6, 4, 0] < 50


def test_what_cannot_be_decoded_is_counted(tmp_path):
    jpeg = encoded_image(200, 200, suffix="JPEG")
    png = encoded_image(8, 8)
    header = b"\x7f\xff\xff\xff\x7f\xff\xff\xff"
    files = {
        "a.png": png, "b.jpg": jpeg[: len(jpeg) // 2], "c.png": b"none", "d.png": encode(
            Image.new("L", (14_000, 14_000))
        ), "e.png": png[:16] + header + png[24:], "f.ico": b"x", "g.png": encode(
            Image.new("RGB", (16, 16)), "ICO"
        ),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, notes = load(tmp_path, files, "resolution=8")
    assert len(images) == 1
    (note,) = notes
    assert note.startswith("left out: ")
    for words in ("3 of 7 not an image", "1 of 7 too large", "1 of 7 .ico", "1 of 7 truncated"):
        assert words in note


def test_pillow_s_limit_of_pixels(tmp_path, monkeypatch):
    """It warns above its limit, for each file, and refuses from twice as many."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    files = {"1.png": encoded_image(8, 8), "2.png": encoded_image(16, 16)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, notes = load(tmp_path, files, "resolution=8")
    assert len(images) == 1
    assert notes == ["left out: 1 of 2 too large"]


def test_colour_of_sixteen_bits_is_told(tmp_path):
    """Pillow keeps the upper bits only; it cannot write such a file, hence the bytes."""
    import struct
    import zlib

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + struct.pack(">3H", 0x8000, 0, 0xFFFF) * 8 for _ in range(8))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    images, notes = load(tmp_path, {"1.png": content})
    np.testing.assert_array_equal(images[0, 0, 0], [128, 0, 255])
    assert notes == ["converted: 1 of 16 bits in colour to their upper 8"]


def test_center_crop_is_the_centre_and_keeps_its_mean():
    image = np.zeros([10, 30, 1], np.uint8)
    image[:, 10:20] = 255
    np.testing.assert_array_equal(resize(image, 5), np.full([5, 5, 1], 255))
    noise = np.random.default_rng(0).integers(0, 256, [64, 64, 3]).astype(np.uint8)
    small = resize(noise, 8)
    assert abs(small.mean() - noise.mean()) < 2
    assert small.std() < noise.std() / 3  # antialiased: each pixel is a mean of many


@pytest.mark.parametrize("channels", [1, 3])
def test_stretch_and_pad_show_the_whole_image(channels):
    image = np.full([20, 40, channels], 10, np.uint8)
    image[:, 20:] = 90
    stretched = resize(image, 8, "stretch")
    assert stretched.shape == (8, 8, channels)
    assert (stretched[:, 0] == 10).all()
    assert (stretched[:, -1] == 90).all()
    padded = resize(image, 8, "pad", (255, 0, 0))
    expected = [255, 0, 0] if channels == 3 else [76]  # red as grey, ITU-R 601
    for row in (0, 1, 6, 7):
        np.testing.assert_array_equal(padded[row], np.tile(expected, (8, 1)))
    np.testing.assert_array_equal(padded[2:6, 0], np.full([4, channels], 10))
    np.testing.assert_array_equal(padded[2:6, -1], np.full([4, channels], 90))
    tall = resize(image.swapaxes(0, 1), 8, "pad", (255, 0, 0))
    np.testing.assert_array_equal(tall, padded.swapaxes(0, 1))


def test_a_very_long_image_is_padded_to_a_line():
    assert resize(np.zeros([1, 1000, 3], np.uint8), 5, "pad").min(axis=(1, 2)).tolist() == [
        255, 255, 0, 255, 255,
    ]  # fmt: skip
