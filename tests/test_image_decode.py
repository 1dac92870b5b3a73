"""Decoding: every mode of picture that Pillow can write, and bytes that are no picture."""

import io
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, TiffImagePlugin

from embedders.data import Images
from embedders.errors import InputError
from embedders.image import decode as module
from embedders.image import opening
from embedders.image.decode import DecodeError, decode
from embedders.image.pixels import pixels
from embedders.image.prefetch import Budget

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


# Pixels against references that no reader of pictures made


def png(rows, depth, colour, *chunks):
    """A PNG by hand: (height, width, channels) of unsigned integers, big-endian; chunks: (name, body) before the pixels."""
    height, width = rows.shape[:2]
    size = rows.dtype.newbyteorder(">")
    body = zlib.compress(b"".join(b"\0" + row.astype(size).tobytes() for row in rows))
    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + name + b + struct.pack(">I", zlib.crc32(name + b)) for name, b in parts
    )


def as_is(content):
    """The pixels of a square of 32 x 32, not resized."""
    return decode("a", content, short_side=32, crop=32).astype(int)


DEEP = np.random.default_rng(0).integers(0, 65536, (32, 32, 4)).astype(np.uint16)


@pytest.mark.parametrize(
    ("channels", "colour"), [(1, 0), (3, 2), (2, 4), (4, 6)], ids=["grey", "RGB", "grey and alpha", "RGB and alpha"]
)
def test_sixteen_bits_of_each_kind(channels, colour):
    deep = DEEP[..., 4 - channels :]
    values = deep / 257
    if channels in (2, 4):
        alpha = values[..., -1:] / 255
        values = values[..., :-1] * alpha + 255 * (1 - alpha)
    expected = np.broadcast_to(values, (32, 32, 3))
    assert np.abs(as_is(png(deep, 16, colour)) - expected).max() <= 2.5


def test_sixteen_bit_rgb_tiff():
    deep = DEEP[..., :3].copy()
    entries = [(256, 4, 32), (257, 4, 32), (258, 3, 16), (259, 3, 1), (262, 3, 2), (273, 4, 8), (277, 3, 3), (278, 4, 32), (279, 4, deep.nbytes)]  # fmt: skip
    bits = struct.pack("<HHH", 16, 16, 16)
    place = 8 + deep.nbytes
    table = b"".join(
        struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, place if tag == 258 else value)
        for tag, kind, value in entries
    )
    directory = struct.pack("<H", len(entries)) + table + bytes(4)
    content = b"II*\0" + struct.pack("<I", place + len(bits)) + deep.astype("<u2").tobytes() + bits + directory
    assert np.abs(as_is(content) - deep / 257).max() <= 1


def test_one_bit_and_palette_with_alpha():
    bits = np.random.default_rng(1).integers(0, 2, (32, 32))
    packed = np.packbits(bits.astype(np.uint8), axis=1)[..., None]
    content = bytearray(png(packed, 1, 0))
    struct.pack_into(">I", content, 16, 32)  # the width in pixels, and the checksum of the header
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    assert np.array_equal(as_is(bytes(content)), np.repeat(bits[..., None] * 255, 3, axis=2))
    colours, alphas = np.array([(200, 10, 60), (0, 0, 255), (9, 99, 199)]), np.array([128, 0, 255])
    places = np.random.default_rng(2).integers(0, 3, (32, 32, 1)).astype(np.uint8)
    chunks = (b"PLTE", colours.astype(np.uint8).tobytes()), (b"tRNS", alphas.astype(np.uint8).tobytes())
    shown = colours * alphas[:, None] / 255 + 255 - alphas[:, None]
    assert np.abs(as_is(png(places, 8, 3, *chunks)) - shown[places[..., 0]]).max() <= 1


def test_transparent_pixels_leave_no_colour():
    """Averaging before the alpha is applied would mix the hidden red into the white."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[::2] = (255, 0, 0, 0)
    pixels[1::2] = (0, 0, 255, 255)
    small = decode("a", png(pixels, 8, 6), short_side=32, crop=28)
    assert close(small, (127, 127, 255), 3)


@pytest.mark.parametrize("transform", [0, 2], ids=["CMYK", "YCCK"])
def test_inverted_cmyk_of_adobe(transform):
    """Adobe stores 255 - ink; with transform 2 the inks C, M, Y as the luma and chroma of an RGB picture."""
    ink = np.array(
        [(0, 255, 255, 0), (255, 0, 255, 0), (255, 255, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255), (40, 90, 10, 60)]
    )
    expected = (255 - ink[:, :3]) * (255 - ink[:, 3:]) / 255
    for one, shown in zip(ink, expected, strict=True):
        stored = 255 - one.astype(float)
        if transform == 2:  # libjpeg gives 255 - R, G, B of the YCbCr it finds as C, M, Y
            r, g, b = one[:3]
            luma = 0.299 * r + 0.587 * g + 0.114 * b
            stored[:3] = luma, 128 + (b - luma) * 0.564, 128 + (r - luma) * 0.713
        raw = np.clip(np.rint(255 - stored), 0, 255).astype(np.uint8)  # Pillow inverts as it writes
        buffer = io.BytesIO()
        image = Image.fromarray(np.broadcast_to(raw, (32, 32, 4)).copy(), "CMYK")
        image.save(buffer, "JPEG", quality=100, subsampling=0)
        content = bytearray(buffer.getvalue())
        at = content.index(b"Adobe") + 11
        assert content[at] == 0
        content[at] = transform
        assert close(as_is(bytes(content)), shown, 4), (one, shown)


def test_profiles_of_colour_are_not_applied(write):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(square(write(quarters(), "p.png", icc_profile=profile)), square(write(quarters(), "a.png")))


def test_a_name_says_nothing(write):
    path = write(quarters(), "a.png")
    assert np.array_equal(square(path.rename(path.with_suffix(".jpg"))), square(write(quarters(), "b.png")))


# Files that must not stop the run


def test_what_is_no_file_does_not_wait(tmp_path):
    import os
    import socket

    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "socket.jpg"))
        codes = {
            name: code(tmp_path / name) for name in ("pipe.jpg", "zero.jpg", "loop.jpg", "nowhere.jpg", "socket.jpg")
        }
    assert codes == dict.fromkeys(codes, "missing_file")


def test_a_file_that_may_not_be_read(write, monkeypatch):
    path = write(quarters(), "a.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening.os, "open", refuse)  # the superuser may read anything
    assert code(path) == "missing_file"


def test_a_jpeg_that_asks_for_endless_passes(write, monkeypatch):
    path = write(quarters((640, 480)), "a.jpg", progressive=True)
    scans = path.read_bytes().count(b"\xff\xda")
    assert scans >= 6
    monkeypatch.setattr(opening, "SCANNED_PIXELS", 640 * 480 * scans - 1)
    assert code(path) == "broken_image"
    assert square(write(quarters((640, 480)), "b.jpg")).any()
    monkeypatch.setattr(opening, "SCANNED_PIXELS", 640 * 480 * scans)
    assert square(path).any()


def test_a_header_of_900_million_pixels(tmp_path):
    (tmp_path / "a.bmp").write_bytes(
        struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    assert code(tmp_path / "a.bmp") == "too_many_pixels"
    assert code(tmp_path / "a.bmp", pixel_limit=10**9) == "broken_image"  # it holds none of them


def test_pictures_that_are_decoded_at_once_are_bounded(write, monkeypatch):
    """Sixteen threads, of which so many decode at once as fit; one that is larger than all that fits is alone."""
    at_once, most, alone, lock = [0], [0], [], threading.Lock()
    real = module._square

    def watched(image, *rest):
        size = image.width * image.height
        with lock:
            at_once[0] += size
            most[0] = max(most[0], at_once[0])
            if size > 3000:
                alone.append(at_once[0] == size)
        time.sleep(0.002)
        try:
            return real(image, *rest)
        finally:
            with lock:
                at_once[0] -= size

    monkeypatch.setattr(module, "_square", watched)
    monkeypatch.setattr(module, "_PIXELS", Budget(3000))
    files = [write(quarters((32, 32)), "a.png")] * 20 + [write(quarters((64, 64)), "b.png")] * 4
    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(square, files))) == 24
    assert 1024 < most[0] <= 4096 and alone == [True] * 4


def test_the_budget_is_given_back_after_an_error(write, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PIXELS", Budget(10))
    whole = write(Image.effect_noise((200, 200), 90), "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert [code(tmp_path / "cut.jpg") for _ in range(3)] == ["broken_image"] * 3


def test_reduced_decoding_stays_near_the_whole(shared_data, monkeypatch):
    for path in sorted(shared_data("images_camera").glob("*.jpg"))[1:3]:
        reduced = decode(path, short_side=256, crop=224).astype(float)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_DRAFT_GAP", 1000)
            whole = decode(path, short_side=256, crop=224)
        assert 0 < np.abs(reduced - whole).mean() < 2.5, path


def test_pixels(write, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    files = [write(quarters(), "a.png"), tmp_path / "bad.png", write(Image.new("RGB", (9, 9), RED), "b.png")]
    matrix = pixels(Images(["a", "bad", "b"], files, ["", "", ""]), size=8)
    assert matrix.shape == (3, 192) and matrix.dtype == np.float32
    assert not matrix[1].any()
    assert matrix[2].reshape(-1, 3).tolist() == [[1, 0, 0]] * 64
    assert pixels(Images([], [], [])).shape == (0, 768)


# What decoding holds


def not_interleaved(size, scans):
    """A baseline JPEG whose scans have one component each: some bytes a pass over all pixels."""
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "JPEG", subsampling=0)
    head, mark, _ = out.getvalue().partition(b"\xff\xda")
    return head + (mark + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)) * scans + b"\xff\xd9"


def test_a_jpeg_of_endless_passes_that_says_it_is_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "SCANNED_PIXELS", 640 * 480 * 50)
    (tmp_path / "a.jpg").write_bytes(not_interleaved((640, 480), 50))
    assert square(tmp_path / "a.jpg").any()
    (tmp_path / "a.jpg").write_bytes(not_interleaved((640, 480), 51))
    assert code(tmp_path / "a.jpg") == "broken_image"
    plain = jpeg((640, 480))  # in one scan, with other pictures in its metadata
    others = 60 * jpeg((16, 16))
    (tmp_path / "b.jpg").write_bytes(plain[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(others)) + others + plain[2:])
    assert square(tmp_path / "b.jpg").any()


def jpeg(size):
    out = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(out, "JPEG", quality=5)
    return out.getvalue()


@pytest.mark.parametrize(
    ("options", "passes"),
    [({}, False), ({"progressive": True}, True), ({"optimize": True, "restart_marker_rows": 1}, False)],
)
def test_which_jpegs_hold_all_coefficients(options, passes):
    out = io.BytesIO()
    quarters((64, 64)).save(out, "JPEG", **options)
    found = opening.open_picture("a.jpg", out.getvalue(), 10**6)
    assert opening.in_passes(found, out.getvalue()) == passes
    assert opening.in_passes(opening.open_picture("b.jpg", (content := not_interleaved((64, 64), 3)), 10**6), content)


@pytest.mark.parametrize("kind", ["whole", "progressive", "not interleaved"])
def test_the_budget_counts_what_a_jpeg_holds(tmp_path, monkeypatch, kind):
    """Decoded at an eighth of its size, one in a single scan holds a few of its pixels, any other all of them."""
    held = []

    class Watched(Budget):
        def hold(self, size):
            held.append(size)
            return super().hold(size)

    monkeypatch.setattr(module, "_PIXELS", Watched(10**9))
    path = tmp_path / "a.jpg"
    if kind == "not interleaved":
        path.write_bytes(not_interleaved((1600, 1600), 3))
    else:
        quarters((1600, 1600)).save(path, progressive=kind == "progressive")
    square(path)
    assert held == [200 * 200 if kind == "whole" else 1600 * 1600]


def tiled(side, tile):
    """A grey TIFF of side x side pixels in one tile of tile x tile."""
    pixels = zlib.compress(bytes(tile * tile), 9)
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


def test_a_small_tiff_in_a_giant_tile(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiled(10, 64))
    assert not square(tmp_path / "a.tif").any()
    assert code(tmp_path / "a.tif", pixel_limit=4095) == "too_many_pixels"
    (tmp_path / "b.tif").write_bytes(tiled(10, 4096)[:-4] + bytes(4))
    with pytest.raises(DecodeError, match="10 x 10 pixels in tiles of 16,777,216"):
        square(tmp_path / "b.tif", pixel_limit=10**7)


def test_a_tiff_between_pillows_limits(tmp_path, monkeypatch):
    """Pillow warns from its limit on, and refuses from twice that on."""
    Image.new("L", (100, 100), 77).save(tmp_path / "a.tif", compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert (square(tmp_path / "a.tif") == 77).all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DecodeError, match=r"at most 8,000 pixels are decoded of a TIFF\. Make a smaller copy\.$"):
        square(tmp_path / "a.tif")
