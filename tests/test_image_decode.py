"""Decoding: every mode of picture that Pillow can write, and bytes that are no picture."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, TiffImagePlugin

from embedders.data import Images
from embedders.errors import InputError
from embedders.image import decode as module
from embedders.image.decode import DecodeError, decode
from embedders.image.pixels import pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(size=(64, 64)):
    """Red, green over blue, white."""
    image = Image.new("RGB", size, RED)
    draw = ImageDraw.Draw(image)
    w, h = size
    draw.rectangle([w // 2, 0, w, h // 2 - 1], fill=GREEN)
    draw.rectangle([0, h // 2, w // 2 - 1, h], fill=BLUE)
    draw.rectangle([w // 2, h // 2, w, h], fill=WHITE)
    return image


def corners(array):
    n = len(array)
    return [tuple(int(v) for v in array[y, x]) for y in (n // 8, -n // 8) for x in (n // 8, -n // 8)]


def close(got, expected, tolerance=12):
    return np.abs(np.array(got, int) - np.array(expected, int)).max() <= tolerance


@pytest.fixture
def write(tmp_path):
    def write(image, name, **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


def square(path, **options):
    array = decode(path, **{"short_side": 32, "crop": 28, **options})
    assert array.shape == (28, 28, 3) and array.dtype == np.uint8
    return array


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("progressive.jpg", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
        ("a.gif", {}),
        ("a.jp2", {}),
    ],
)
def test_formats(write, name, options):
    assert close(corners(square(write(quarters(), name, **options))), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "LA", "RGBA", "YCbCr"])
def test_modes(write, mode):
    grey = mode in {"L", "1", "LA"}
    image = (Image.new("RGB", (64, 64), WHITE) if grey else quarters()).convert(mode)
    path = write(image, "a.tif" if mode in {"CMYK", "YCbCr"} else "a.png")
    assert close(corners(square(path)), [WHITE] * 4 if grey else [RED, GREEN, BLUE, WHITE])


def test_cmyk_jpeg(write):
    path = write(quarters().convert("CMYK"), "a.jpg", quality=95, subsampling=0)
    assert close(corners(square(path)), [RED, GREEN, BLUE, WHITE], 25)


def test_sixteen_bit_grey_is_scaled(write):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    eight = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    expected = square(write(Image.fromarray(eight), "eight.png"))
    for name in ("sixteen.png", "sixteen.tif"):
        assert close(square(write(Image.fromarray(ramp), name)), expected, 2), name
    big_endian = Image.frombytes("I;16B", (64, 64), ramp.byteswap().tobytes())
    assert close(square(write(big_endian, "big.tif")), expected, 2)


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0, -3.5e6])
def test_float_grey_takes_the_range_it_has(write, scale):
    ramp = np.tile(np.linspace(0, scale, 64, dtype=np.float32), (64, 1))
    array = square(write(Image.fromarray(ramp), "a.tif")).astype(int)
    assert abs(array[0, 0, 0] - array[0, -1, 0]) > 200


def test_not_a_number_is_broken(write):
    ramp = np.full((64, 64), np.nan, np.float32)
    assert code(write(Image.fromarray(ramp), "a.tif")) == "broken_image"


def test_transparency_is_laid_on_white(write, tmp_path):
    image = quarters().convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 32, 0).repeat(64, 1)))
    assert close(corners(square(write(image, "a.png"))), [WHITE, WHITE, BLUE, WHITE])
    palette = quarters().quantize(4)
    clear = palette.getpixel((0, 0))
    assert close(corners(square(write(palette, "p.png", transparency=clear))), [WHITE, GREEN, BLUE, WHITE])
    assert close(corners(square(write(palette, "p.gif", transparency=clear))), [WHITE, GREEN, BLUE, WHITE])
    grey = Image.new("L", (8, 8), 7)
    assert (square(write(grey, "key.png", transparency=7)) == 255).all()


def test_animation_gives_its_first_frame(write):
    frames = [Image.new("RGB", (40, 40), colour) for colour in (GREEN, RED, BLUE)]
    for name in ("a.gif", "a.png", "a.webp"):
        path = write(frames[0], name, save_all=True, append_images=frames[1:], duration=10)
        assert close(corners(square(path)), [GREEN] * 4), name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_exif_orientation(write, orientation, name):
    from PIL import ImageOps

    image = quarters((96, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
    turned = write(image, name, exif=exif, **options)
    with Image.open(turned) as opened:
        upright = ImageOps.exif_transpose(opened)
    assert close(square(turned), square(write(upright, "upright.png")), 6)


def test_the_square_is_the_centre_of_the_resized_picture(write):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (192, 312, 3), np.uint8))
    whole = photo.resize((104, 64), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((24, 4, 80, 60)))
    got = decode(write(photo, "a.png"), short_side=64, crop=56, interpolation="bicubic")
    assert close(got, expected, 1)


def test_a_large_jpeg_is_decoded_reduced(write, monkeypatch):
    path = write(quarters((2000, 1500)), "a.jpg", quality=90)
    loaded = []
    real = module._square
    monkeypatch.setattr(module, "_square", lambda image, *rest: loaded.append(image.size) or real(image, *rest))
    assert close(corners(square(path)), [RED, GREEN, BLUE, WHITE])
    assert loaded == [(250, 188)]


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1), (2, 5000), (65000, 1)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_extreme_shapes(write, size, name):
    assert close(decode(write(Image.new("RGB", size, BLUE), name), short_side=256, crop=224), BLUE, 3)


def code(path, **options):
    with pytest.raises(DecodeError) as caught:
        decode(path, **{"short_side": 32, "crop": 28, **options})
    assert str(path) in str(caught.value)
    return caught.value.code


def test_reasons(tmp_path, write):
    assert code(tmp_path / "none.jpg") == "missing_file"
    assert code(tmp_path) == "missing_file"
    (tmp_path / "empty.jpg").touch()
    assert code(tmp_path / "empty.jpg") == "empty_file"
    (tmp_path / "text.jpg").write_text("not a picture, but long enough to have a header")
    assert code(tmp_path / "text.jpg") == "not_an_image"
    (tmp_path / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert code(tmp_path / "script.jpg") == "not_an_image"
    whole = write(Image.effect_noise((200, 200), 90), "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert code(tmp_path / "cut.jpg") == "broken_image"
    (tmp_path / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert code(tmp_path / "head.png") == "broken_image"


def test_pixel_limit_is_checked_before_decoding(write, monkeypatch):
    path = write(Image.new("1", (1000, 1000)), "a.png")
    assert code(path, pixel_limit=999_999) == "too_many_pixels"
    assert decode(path, short_side=32, crop=28, pixel_limit=1_000_000).shape == (28, 28, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)  # Pillow would warn from here, and refuse twice that
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(path, short_side=32, crop=28).shape == (28, 28, 3)
        assert code(write(Image.new("1", (1000, 1000)), "a.tif")) == "too_many_pixels"


def test_a_bomb_costs_nothing(tmp_path):
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")))
    assert code(tmp_path / "bomb.png") == "too_many_pixels"


def test_damaged_bytes_never_escape(tmp_path):
    """Flipped and cut bytes of every format give a square or a reason, and warn nobody."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker" * 20
    image = quarters((40, 30))
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000"):
        buffer = io.BytesIO()
        image.save(buffer, form, **({"exif": exif} if form in {"JPEG", "PNG", "TIFF", "WEBP"} else {}))
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for trial in range(40):
            damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
            spots = rng.integers(0, min(len(damaged), 400), 3)
            damaged[spots] = rng.integers(0, 256, 3)
            path = tmp_path / f"{form}{trial}"
            path.write_bytes(damaged.tobytes())
            try:
                square(path, pixel_limit=1_000_000)
            except DecodeError as error:
                assert error.code in {"not_an_image", "broken_image", "too_many_pixels"}


def test_damaged_metadata_does_not_cost_the_picture(write, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(quarters(), "a.jpg", exif=exif, quality=95, subsampling=0)
    data = path.read_bytes()
    at = data.index(b"Exif\0\0") + 14
    path.write_bytes(data[:at] + b"\xff\xff" + data[at + 2 :])
    with ThreadPoolExecutor(2) as pool:
        assert all(a.shape == (28, 28, 3) for a in pool.map(square, [path] * 4))


def test_out_of_memory_is_not_a_broken_picture(write, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", full)
    with pytest.raises(MemoryError):
        square(write(quarters(), "a.tif"))


def test_wrong_sizes_are_an_error(write):
    with pytest.raises(InputError, match="short_side >= crop"):
        decode(write(quarters(), "a.png"), short_side=20, crop=28)


def test_pixels(write, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    files = [write(quarters(), "a.png"), tmp_path / "bad.png", write(Image.new("RGB", (9, 9), RED), "b.png")]
    matrix = pixels(Images(["a", "bad", "b"], files, ["", "", ""]), size=8)
    assert matrix.shape == (3, 192) and matrix.dtype == np.float32
    assert not matrix[1].any()
    assert matrix[2].reshape(-1, 3).tolist() == [[1, 0, 0]] * 64
    assert pixels(Images([], [], [])).shape == (0, 768)
