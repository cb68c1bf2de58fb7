"""Decoding: every kind of file to upright 8-bit pixels, errors that name the file, and finding files."""

from __future__ import annotations

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import HOSTILE, mutations
from PIL import Image, PngImagePlugin

from edgeq.errors import EdgeqError, ImageError, InputError
from edgeq.images import decode, expand, files_below, images_below, is_image, skipped_note
from edgeq.preprocessing import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "calibration"

SLOW_TO_MAKE = ("bomb_178_megapixels.png", "bomb_rgba16.png", "text_bomb.png", "claims_170_megapixels.gif", "scans.jpg")

UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
"""What EXIF 2.3, tag 0x0112 says is to be done to the stored pixels, for each of its values."""

REDUCED = {"12 megapixels": (0.6, 8), "photo": (1.5, 24)}
"""How far a network's input may be off when its JPEG is decoded at reduced scale: mean and largest absolute
difference, in pixel values of 255. It is rounding in a large picture; in one decoded at just twice the input's size,
it is also the JPEG decoder's filter against Pillow's."""


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def corners() -> np.ndarray:
    """16 by 32 pixels, each quarter of another colour: no two orientations look the same."""
    quarters = np.zeros((16, 32, 3), np.uint8)
    quarters[:8, :16], quarters[:8, 16:], quarters[8:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return quarters


@pytest.fixture(scope="module")
def large_pictures() -> dict[str, Image.Image]:
    """Two of the shipped pictures at 12 megapixels, with the noise of a camera."""
    noise = np.tile(np.random.default_rng(0).normal(0, 6, (756, 1008, 1)).astype(np.int16), (4, 4, 1))
    large = {}
    for path in sorted(PICTURES.glob("*.jpg"))[::60]:
        enlarged = Image.open(path).convert("RGB").resize((4032, 3024), Image.Resampling.BICUBIC)
        large[path.name] = Image.fromarray((np.asarray(enlarged) + noise).clip(0, 255).astype(np.uint8))
    return large


# Orientation


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", UPRIGHT)
def test_exif_orientation_is_undone_exactly(corners, form, value) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(Image.fromarray(corners), form, exif=orientation(value), **options)
    np.testing.assert_array_equal(np.asarray(decode(content)), UPRIGHT[value](corners))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("value", UPRIGHT)
def test_exif_orientation_of_jpegs(corners, mode, value) -> None:
    content = saved(Image.fromarray(corners), "JPEG", quality=95, subsampling=0, exif=orientation(value))
    expected = pixels(Image.fromarray(np.ascontiguousarray(UPRIGHT[value](corners))).convert(mode))
    found = decode(content, mode)
    assert found.mode == mode
    assert np.abs(pixels(found) - expected).max() <= 8


@pytest.mark.parametrize("value", UPRIGHT)
def test_exif_orientation_with_reduced_decoding(corners, value) -> None:
    """What suffices is asked for the upright size, and the reduced picture is upright too."""
    stored = corners.repeat(16, axis=0).repeat(16, axis=1)
    upright = UPRIGHT[value](stored)
    asked = []

    def enough(width: int, height: int) -> tuple[int, int]:
        asked.append((width, height))
        return width // 8, height // 8

    found = decode(saved(Image.fromarray(stored), "JPEG", quality=95, exif=orientation(value)), enough=enough)
    assert asked == [(upright.shape[1], upright.shape[0])]
    assert found.size == (upright.shape[1] // 8, upright.shape[0] // 8)
    assert np.abs(pixels(found) - upright[4::8, 4::8]).mean() < 4


def test_orientation_of_a_pillow_image(corners) -> None:
    opened = Image.open(io.BytesIO(saved(Image.fromarray(corners), exif=orientation(6))))
    np.testing.assert_array_equal(np.asarray(decode(opened)), UPRIGHT[6](corners))
    assert opened.size == (32, 16)  # the caller's image is left as it was


def test_orientation_in_xmp(corners) -> None:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp)
    np.testing.assert_array_equal(
        np.asarray(decode(saved(Image.fromarray(corners), pnginfo=chunks))), UPRIGHT[6](corners)
    )


def exif_block(entry: bytes) -> bytes:
    """An EXIF block of one directory entry (tag, type, count, value), as no library would write it."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0no such thing",
        exif_block(struct.pack("<HHIHH", 0x0112, 3, 1, 0, 0)),
        exif_block(struct.pack("<HHIHH", 0x0112, 3, 1, 9, 0)),
        exif_block(struct.pack("<HHIHH", 0x0112, 3, 2, 1, 6)),
        exif_block(struct.pack("<HHI4s", 0x0112, 2, 4, b"top\0")),
        exif_block(struct.pack("<HHII", 0x0112, 5, 1, 0xFFFFFF)),
        exif_block(b"")[:12],
    ],
    ids=["garbage", "zero", "nine", "two values", "text", "past the end", "cut off"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on what is wrong there
def test_nonsense_in_exif_leaves_the_picture_as_it_is(corners, exif) -> None:
    content = saved(Image.fromarray(corners), "JPEG", quality=95, exif=exif)
    assert decode(content, enough=lambda width, height: (width, height)).size == (32, 16)


# Colour


def test_grey_becomes_three_equal_channels() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    content = saved(Image.fromarray(ramp))
    np.testing.assert_array_equal(np.asarray(decode(content)), np.repeat(ramp[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(np.asarray(decode(content, "L")), ramp)


def test_colour_becomes_grey_by_its_luma() -> None:
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [12, 200, 99]]], np.uint8)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels(decode(saved(Image.fromarray(colours)), "L")) - luma).max() <= 0.51


def test_one_bit_is_black_and_white() -> None:
    content = saved(Image.fromarray(np.array([[True, False], [False, True]])))
    np.testing.assert_array_equal(np.asarray(decode(content, "L")), [[255, 0], [0, 255]])
    np.testing.assert_array_equal(
        np.asarray(decode(content)), np.array([[255, 0], [0, 255]])[:, :, None].repeat(3, axis=2)
    )


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_sixteen_bits_are_scaled_not_clipped(form, mode) -> None:
    """Closed form: ``v / 257``, which makes 65535 white; Pillow's own conversion would make all above 255 white."""
    values = np.array([[0, 128, 129, 255, 256], [257, 30000, 40000, 65534, 65535]], np.uint16)
    expected = np.array([[0, 0, 1, 1, 1], [1, 117, 156, 255, 255]])
    found = pixels(decode(saved(Image.fromarray(values), form), mode))
    np.testing.assert_array_equal(found if mode == "L" else found[:, :, 1], expected)


def test_thirty_two_bit_integers_saturate_at_sixteen() -> None:
    values = np.array([[-5, 0, 65535, 1_000_000]], np.int32)
    np.testing.assert_array_equal(np.asarray(decode(saved(Image.fromarray(values), "TIFF"), "L")), [[0, 0, 255, 255]])


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for form in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(np.asarray(decode(saved(image, form))), [[(10, 20, 30), (200, 100, 50)]])


def test_palette_with_a_transparent_entry_lies_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        np.testing.assert_array_equal(
            np.asarray(decode(saved(image, form, transparency=0))), [[(255, 255, 255), (200, 100, 50)]]
        )


@pytest.mark.parametrize("alpha", [0, 1, 64, 128, 254, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode, alpha) -> None:
    """Closed form: ``alpha * colour + (1 - alpha) * white``."""
    colour = (200, 100, 0) if mode == "RGBA" else (100,)
    over_white = [round((alpha * c + (255 - alpha) * 255) / 255) for c in colour]
    found = np.asarray(decode(saved(Image.new(mode, (3, 2), (*colour, alpha)))))[1, 1]
    assert np.abs(np.subtract(found, over_white)).max() <= 1


@pytest.mark.parametrize(
    ("stored", "key", "expected"),
    [
        (Image.new("RGB", (1, 1), (10, 20, 30)), (10, 20, 30), 255),
        (Image.new("L", (1, 1), 10), 10, 255),
        (Image.fromarray(np.full((1, 1), 2570, np.uint16)), 2570, 255),
        (Image.new("L", (1, 1), 10), 11, 10),
    ],
    ids=["RGB", "grey", "16-bit grey", "other colour"],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_lies_on_white(stored, key, expected, mode) -> None:
    """PNG's tRNS chunk: pixels of one colour are transparent, without an alpha channel."""
    found = decode(saved(stored, transparency=key), mode)
    assert found.getpixel((0, 0)) == (expected if mode == "L" else (expected,) * 3)


def test_cmyk_jpeg() -> None:
    """Ink is subtracted from white: full cyan and magenta make blue."""
    for ink, colour in {(255, 255, 0, 0): (0, 0, 255), (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 0): (255,) * 3}.items():
        found = np.asarray(decode(saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)))
        assert np.abs(np.subtract(found[8, 8], colour)).max() <= 3


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    for form in ("GIF", "PNG"):
        content = saved(frames[0], form, save_all=True, append_images=frames[1:])
        assert decode(content).getpixel((0, 0)) == (200, 0, 0)


def test_floating_point_images_are_refused(tmp_path) -> None:
    path = tmp_path / "depth.tif"
    Image.new("F", (4, 4), 0.5).save(path)
    with pytest.raises(ImageError, match="floating-point") as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")


# Sources and errors


def test_all_kinds_of_source_give_the_same(photos, monkeypatch) -> None:
    path = photos / "red" / "03.jpg"
    expected = np.asarray(Image.open(path))
    monkeypatch.chdir(photos)
    with path.open("rb") as file, Image.open(path) as image:
        for source in (
            path,
            str(path),
            Path("red/03.jpg"),
            path.read_bytes(),
            file,
            io.BytesIO(path.read_bytes()),
            image,
        ):
            np.testing.assert_array_equal(np.asarray(decode(source)), expected)
        assert not file.closed
        assert image.getpixel((0, 0)) == tuple(expected[0, 0])  # still usable


def test_pillow_images_that_need_nothing_are_copied() -> None:
    image = Image.new("RGB", (2, 2))
    decode(image).putpixel((0, 0), (9, 9, 9))
    assert image.getpixel((0, 0)) == (0, 0, 0)


def damaged_png() -> bytes:
    """Its compressed data has a flipped bit, and the checksum that would tell is that of the flipped data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = bytearray(zlib.compress(bytes(range(256)) * 13))
    rows[len(rows) // 2] ^= 0x10
    header = struct.pack(">IIBBBBB", 64, 51, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(rows)) + chunk(b"IEND", b"")


WHOLE_JPEG = saved(Image.effect_noise((64, 64), 60), "JPEG")
BROKEN = {
    "empty.jpg": (b"", "not an image"),
    "text.jpg": (b"this is not an image", "not an image"),
    "cut early.jpg": (WHOLE_JPEG[:30], "not an image|damaged"),
    "cut half.jpg": (WHOLE_JPEG[: len(WHOLE_JPEG) // 2], "truncated"),
    "cut.png": (saved(Image.effect_noise((64, 64), 60))[:900], "truncated|damaged"),
    "cut.webp": (saved(Image.effect_noise((64, 64), 60), "WEBP")[:300], "not an image|damaged"),
    "cut.tif": (saved(Image.effect_noise((64, 64), 60), "TIFF")[:300], "not an image|damaged"),
    "flipped.png": (damaged_png(), "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name) -> None:
    content, complaint = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, str(path)):
        with pytest.raises(ImageError, match=complaint) as caught:
            decode(source, enough=lambda width, height: (8, 8))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    with path.open("rb") as file, pytest.raises(ImageError, match=complaint) as caught:
        decode(file)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(ImageError, match=complaint) as caught:
        decode(content)
    assert str(caught.value).startswith("image: ")


def test_missing_file_and_folder_are_named(tmp_path) -> None:
    with pytest.raises(ImageError, match="no such file") as caught:
        decode(tmp_path / "no.jpg")
    assert str(caught.value).startswith(f"{tmp_path / 'no.jpg'}: ")
    with pytest.raises(ImageError, match="is a folder") as caught:
        decode(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("name", ["nul\0byte.jpg", "a" * 300 + ".jpg"], ids=["nul", "too long"])
def test_impossible_names(name) -> None:
    with pytest.raises(ImageError) as caught:
        decode(name)
    assert str(caught.value).startswith(name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(tmp_path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(WHOLE_JPEG)
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied") as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_huge_picture_is_refused() -> None:
    """A few bytes that would decode to gigabytes."""
    content = saved(Image.new("1", (60_000, 3_000)))
    with pytest.raises(ImageError, match="decompression bomb"):
        decode(content)


def test_image_errors_are_input_errors() -> None:
    assert issubclass(ImageError, InputError)
    assert issubclass(InputError, EdgeqError)


# Reduced scale


@pytest.mark.parametrize("wanted", [1, 13, 100, 101, 200, 201, 400, 401, 800, 5000])
def test_reduced_pictures_are_the_smallest_that_suffices(wanted) -> None:
    content = saved(Image.effect_noise((800, 600), 40), "JPEG")
    asked_height = max(1, wanted * 600 // 800)
    found = decode(content, enough=lambda width, height: (wanted, asked_height))
    divisor = max(d for d in (1, 2, 4, 8) if d == 1 or (800 // d >= wanted and 600 // d >= asked_height))
    assert found.size == (800 // divisor, 600 // divisor)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_other_formats_are_never_reduced(form) -> None:
    assert decode(saved(Image.new("RGB", (640, 480)), form), enough=lambda width, height: (10, 10)).size == (640, 480)


def assert_reduced_decoding_changes_little(image: Image.Image, value: int, side: int, tolerance: str) -> None:
    """The input of a network of `side` pixels is nearly the same after reduced and after full decoding."""
    content = saved(image.convert("RGB"), "JPEG", quality=90, exif=orientation(value))
    preprocessing = Preprocessing(side, side)
    reduced, full = preprocessing.decode(content), decode(content)
    if image.width % 8 == image.height % 8 == 0:
        assert reduced.width < full.width
    assert full.size == (image.size if value < 5 else image.size[::-1])
    difference = np.abs(preprocessing.resample(reduced).astype(int) - preprocessing.resample(full))
    mean, largest = REDUCED[tolerance]
    assert difference.mean() <= mean
    assert difference.max() <= largest


@pytest.mark.slow
@pytest.mark.parametrize(("value", "side"), [(1, 224), (6, 224), (1, 160), (1, 96)])
def test_reduced_decoding_of_12_megapixels_changes_little(large_pictures, value, side) -> None:
    for image in large_pictures.values():
        assert_reduced_decoding_changes_little(image, value, side, "12 megapixels")


@pytest.mark.parametrize("size", [(256, 256), (255, 187), (250, 251), (185, 256)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("value", [1, 5])
def test_reduced_decoding_of_small_pictures_changes_little(size, value) -> None:
    """Also where 2 does not divide the size: the last pixels of a reduced picture then are only half a picture's."""
    for path in sorted(PICTURES.glob("*.jpg"))[::10]:
        assert_reduced_decoding_changes_little(Image.open(path).crop((0, 0, *size)), value, 40, "photo")


@pytest.mark.parametrize("value", [1, 8])
def test_reduced_decoding_of_photos_changes_little(shared, value) -> None:
    for path in [shared / "models/coral/parrot.jpg", *sorted((shared / "data/imagenet_samples").glob("*.jpg"))[::50]]:
        assert_reduced_decoding_changes_little(Image.open(path), value, 64, "photo")


# Finding files


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A few files, some hidden, some with names that look like patterns; it is the working folder."""
    for name in ("b.jpg", "a.png", "deep/er/c.jpg", "deep/a.jpg", ".hidden.jpg", ".git/x.jpg", "deep/.d/y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("img[1].jpg", "img1.jpg", "what?.jpg", "whats.jpg"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_below_are_sorted_and_not_hidden(tree) -> None:
    found = [path.relative_to(tree).as_posix() for path in files_below(tree)]
    assert found == [
        *("a.png", "b.jpg", "deep/a.jpg", "deep/er/c.jpg"),
        *("img1.jpg", "img[1].jpg", "what?.jpg", "whats.jpg"),
    ]


def test_files_below_a_hidden_folder_are_found_when_it_is_asked_for(tree) -> None:
    assert files_below(".git") == [Path(".git/x.jpg")]
    assert expand([".git"]) == ([".git/x.jpg"], [])


@pytest.mark.parametrize(("folder", "message"), [("nowhere", "no such folder"), ("b.jpg", "is a file, not a folder")])
def test_files_below_no_folder(tree, folder, message) -> None:
    with pytest.raises(InputError, match=f"{folder}: {message}"):
        files_below(folder)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["b.jpg"], ["b.jpg"]),
        (["deep"], ["deep/a.jpg", "deep/er/c.jpg"]),
        (["b.jpg", "deep", "a.png", "b.jpg"], ["b.jpg", "deep/a.jpg", "deep/er/c.jpg", "a.png", "b.jpg"]),
        (["*.png"], ["a.png"]),
        (["deep/**/*.jpg"], ["deep/a.jpg", "deep/er/c.jpg"]),
        (["img[1].jpg"], ["img[1].jpg"]),
        (["img[0-9].jpg"], ["img1.jpg"]),
        (["what?.jpg"], ["what?.jpg"]),
        (["-"], ["-"]),
        (["missing.jpg"], ["missing.jpg"]),
        (["*.bmp"], ["*.bmp"]),
        (["what[s].jpg", "-"], ["whats.jpg", "-"]),
        ([], []),
    ],
    ids=lambda v: " ".join(v) or "nothing",
)
def test_expand(tree, arguments, expected) -> None:
    assert expand(arguments) == (expected, [])


def test_dash_is_standard_input_even_beside_a_folder_of_that_name(tree) -> None:
    (tree / "-").mkdir()
    assert expand(["-"]) == (["-"], [])


def test_other_files_of_folders_are_told_apart(tree) -> None:
    for name in ("deep/labels.csv", "deep/NOTES", "c.JPEG", "d.heic", "e.txt", ".hidden.txt"):
        Path(name).touch()
    assert expand(["deep", "e.txt"]) == (["deep/a.jpg", "deep/er/c.jpg", "e.txt"], ["deep/NOTES", "deep/labels.csv"])
    images, others = images_below(".")
    assert others == [Path("deep/NOTES"), Path("deep/labels.csv"), Path("e.txt")]
    assert {Path("c.JPEG"), Path("d.heic"), Path("deep/er/c.jpg")} <= set(images)
    assert len(images) == 10


@pytest.mark.parametrize(
    ("names", "message"), [((), "holds no images$"), (("a.csv",), "holds no images, only 1 other")]
)
def test_a_folder_without_images(tmp_path, names, message) -> None:
    for name in names:
        (tmp_path / name).touch()
    for find in (images_below, lambda folder: expand([str(folder)])):
        with pytest.raises(InputError, match=message):
            find(tmp_path)


def test_suffixes_are_those_that_pillow_opens() -> None:
    """Photos of phones besides; but neither documents, films nor data, which are hardly ever meant."""
    Image.init()
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    suffixes = {name for name in known if is_image(f"photo{name.upper()}")}
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"} <= suffixes
    assert not [name for name in (".h5", ".mpg", ".ps", ".eps", "", ".") if is_image(f"a{name}")]
    assert is_image(Path("a.heic"))


def test_skipped_note() -> None:
    assert [skipped_note(n) for n in (1, 2)] == [
        "skipped 1 file that is not an image",
        "skipped 2 files that are not images",
    ]


def test_pattern_that_matches_nothing_is_reported_when_decoded(tree) -> None:
    with pytest.raises(ImageError, match=r"^\*\.bmp: no such file"):
        decode(expand(["*.bmp"])[0][0])


class TestHostile:
    @pytest.mark.parametrize("name", [name for name in HOSTILE if name not in SLOW_TO_MAKE])
    def test_it_is_read_or_refused_in_one_line(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(HOSTILE[name]())
        start = time.process_time()
        said = outcome(tmp_path / name)
        assert said == "read" or said.startswith(f"{tmp_path / name}: ")
        assert "\n" not in said
        assert time.process_time() - start < 5

    def test_a_jpeg_with_thousands_of_scans(self) -> None:
        with pytest.raises(ImageError, match="has 2006 scans, which would take very long"):
            decode(HOSTILE["scans.jpg"]())

    def test_postscript_is_not_run(self) -> None:
        with pytest.raises(ImageError, match="is PostScript"):
            decode(HOSTILE["postscript.jpg"]())

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [(4000, 3000), (16_321, 12_241)], ids=str)
    def test_honest_photos_of_up_to_200_megapixels_are_read(self, size: tuple[int, int]) -> None:
        stream = io.BytesIO()
        Image.new("RGB", size, (225, 30, 20)).save(stream, "JPEG", quality=50)
        pixels = Preprocessing(224, 224).pixels(stream.getvalue())
        assert np.abs(pixels.astype(int) - (225, 30, 20)).max() <= 3

    def test_mutated_pictures_are_read_or_refused(self) -> None:
        """scripts/fuzz-pictures does the same with more of them, through the command."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [outcome(content) for _, content in mutations(400, seed=11)]
        assert 50 < found.count("read") < 350
        assert not any("\n" in said for said in found)


def outcome(source: Path | bytes) -> str:
    """``read``, or why it was refused."""
    try:
        pixels = Preprocessing(64, 64).pixels(source)
    except ImageError as error:
        return str(error)
    assert pixels.shape == (64, 64, 3)
    return "read"
