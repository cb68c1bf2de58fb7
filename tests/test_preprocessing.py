"""Preprocessing against the usual recipe (done with Pillow, step by step) and against closed forms."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import ImageError, InputError
from edgeq.preprocessing import (
    NORMALIZATIONS,
    Preprocessing,
    apply_table,
    default_crop,
    normalization_of_range,
    parse_normalization,
)

PICTURES = Path(__file__).resolve().parent.parent / "calibration"

# Pixels


def usual_recipe(image: Image.Image, shorter: int = 256, side: int = 224) -> np.ndarray:
    """Shorter side to 256, centre crop of 224, bilinear: ImageNet's usual evaluation, step by step."""
    scale = shorter / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = ((length - side) // 2 for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def assert_is_the_usual_recipe(image: Image.Image) -> None:
    """Equal to one grey level, of a picture whose 256-pixel version has whole, even sides.

    Of others it has not: the recipe then rounds the side and moves the crop by up to half a pixel.
    """
    assert all(256 * length % (2 * min(image.size)) == 0 for length in image.size)
    difference = Preprocessing(224, 224).pixels(image) - usual_recipe(image).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "size", [(720, 480), (480, 720), (333, 222), (1250, 1000), (256, 256), (1111, 1111), (300, 900), (99, 66)], ids=str
)
def test_is_the_usual_recipe(size) -> None:
    for path in sorted(PICTURES.glob("*.jpg"))[::25]:
        assert_is_the_usual_recipe(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC))


def test_is_the_usual_recipe_on_photos(shared) -> None:
    photos = [
        *sorted((shared / "data/imagenet_samples").glob("*.jpg"))[::25],
        *(shared / "models/coral").glob("*.[bj]*"),
    ]
    assert len(photos) >= 20
    for path in photos:
        photo = Image.open(path).convert("RGB")
        third = min(photo.width // 3, photo.height // 2)
        assert_is_the_usual_recipe(photo.crop((0, 0, 3 * third, 2 * third)))


@pytest.mark.parametrize("target", [(32, 32), (32, 48), (48, 32), (17, 31)], ids=lambda t: f"to {t[1]}x{t[0]}")
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (101, 67), (63, 125), (124, 41)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.5])
def test_every_pixel_comes_from_its_place(size, target, crop) -> None:
    """Closed form: bilinear resampling leaves a linear ramp linear, so each output pixel tells where it was taken.

    A ramp of 2 grey levels a pixel, rounded twice, tells that to half a pixel of the picture.
    """
    (width, height), (rows, columns) = size, target
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    ramps = np.stack([2 * x, 2 * y, 255 - 2 * x], axis=2)
    picture = Image.fromarray(ramps.round().astype(np.uint8))
    scale = crop * min(width / columns, height / rows)
    at_x = width / 2 + (np.arange(columns) + 0.5 - columns / 2) * scale
    at_y = height / 2 + (np.arange(rows) + 0.5 - rows / 2) * scale
    found = Preprocessing(rows, columns, crop=crop).pixels(picture).astype(float)
    inside = np.s_[2:-2, 2:-2]  # at the picture's edges the filter is cut off
    np.testing.assert_allclose(found[inside][..., 0] / 2, np.broadcast_to(at_x, (rows, columns))[inside], atol=0.51)
    np.testing.assert_allclose(
        found[inside][..., 1] / 2, np.broadcast_to(at_y[:, None], (rows, columns))[inside], atol=0.51
    )
    np.testing.assert_allclose(
        (255 - found[inside][..., 2]) / 2, np.broadcast_to(at_x, (rows, columns))[inside], atol=0.51
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (1, 500), (3000, 1), (7, 5)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_tiny_and_odd_pictures(size, form) -> None:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 200, 200)).save(file, form)
    for target in ((1, 1), (8, 8), (224, 224), (33, 7)):
        pixels = Preprocessing(*target).pixels(file.getvalue())
        assert pixels.shape == (*target, 3)
        assert pixels.dtype == np.uint8
        assert set(pixels.ravel().tolist()) == {200}


def test_a_picture_of_the_inputs_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Preprocessing(96, 64, crop=1.0).pixels(Image.fromarray(pixels)), pixels)


def test_bgr_is_rgb_backwards(photos) -> None:
    path = photos / "red" / "00.jpg"
    rgb = Preprocessing(20, 20, channels="RGB").pixels(path)
    assert rgb[..., 0].mean() > rgb[..., 2].mean() + 100
    np.testing.assert_array_equal(Preprocessing(20, 20, channels="BGR").pixels(path), rgb[:, :, ::-1])


def test_one_grey_channel(photos) -> None:
    path = photos / "green" / "00.jpg"
    found = Preprocessing(48, 48, channels="L", crop=1.0).pixels(path)
    assert found.shape == (48, 48, 1)
    luma = np.asarray(Image.open(path).convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - luma).max() <= 1.5  # the JPEG's own luma, before it became RGB and was rounded


def test_decode_and_resample_are_pixels(photos) -> None:
    preprocessing = Preprocessing(20, 30)
    for path in photos.glob("*/00.jpg"):
        np.testing.assert_array_equal(preprocessing.resample(preprocessing.decode(path)), preprocessing.pixels(path))


def test_a_broken_picture_is_named(tmp_path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError) as caught:
        Preprocessing(8, 8).pixels(path)
    assert str(caught.value).startswith(f"{path}: ")


# The crop box


@pytest.mark.parametrize(
    ("preprocessing", "size", "box"),
    [
        (Preprocessing(224, 224), (256, 256), (16, 16, 240, 240)),
        (Preprocessing(224, 224), (512, 256), (144, 16, 368, 240)),
        (Preprocessing(224, 224), (256, 512), (16, 144, 240, 368)),
        (Preprocessing(224, 224, crop=1.0), (640, 480), (80, 0, 560, 480)),
        (Preprocessing(96, 192, crop=1.0), (400, 400), (0, 100, 400, 300)),
        (Preprocessing(192, 96, crop=1.0), (400, 400), (100, 0, 300, 400)),
        (Preprocessing(100, 200, crop=0.5), (400, 200), (100, 50, 300, 150)),
        (Preprocessing(224, 224), (1, 1), (0.0625, 0.0625, 0.9375, 0.9375)),
        (Preprocessing(3, 7, crop=1.0), (7, 300), (0, 148.5, 7, 151.5)),
    ],
    ids=str,
)
def test_crop_box(preprocessing, size, box) -> None:
    assert preprocessing.crop_box(*size) == pytest.approx(box, abs=1e-9)


@pytest.mark.parametrize("crop", [1.0, 0.999, 0.875, 1 / 3, 1e-3])
def test_crop_box_is_centred_inside_and_of_the_inputs_aspect(crop) -> None:
    rng = np.random.default_rng(3)
    for width, height, rows, columns in rng.integers(1, 5000, (500, 4)).tolist():
        preprocessing = Preprocessing(rows, columns, crop=crop)
        left, top, right, bottom = preprocessing.crop_box(width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert left + right == pytest.approx(width)
        assert top + bottom == pytest.approx(height)
        assert (right - left) * rows == pytest.approx((bottom - top) * columns)
        assert max((right - left) / width, (bottom - top) / height) == pytest.approx(crop)


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(224, 224, 0.875), (160, 160, 0.875), (128, 128, 0.875), (127, 128, 1.0), (96, 96, 1.0), (32, 600, 1.0)],
)
def test_default_crop(height, width, crop) -> None:
    assert default_crop(height, width) == crop


# Normalization


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("-1..1", [-1], [1]),
        ("0..1", [0], [1]),
        ("0..255", [0], [255]),
        # torchvision: mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225 of values in [0, 1]
        (
            "imagenet",
            [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        ),
    ],
)
def test_named_normalizations(name, first, last) -> None:
    preprocessing = Preprocessing(4, 4, *NORMALIZATIONS[name])
    table = preprocessing.normalized_values()
    assert table.dtype == np.float32
    assert table.shape == (256, len(first))
    np.testing.assert_allclose(table[0], first, rtol=1e-6)
    np.testing.assert_allclose(table[255], last, rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(table, axis=0), np.broadcast_to((table[255] - table[0]) / 255, (255, len(first))), atol=2e-5
    )
    assert preprocessing.real_range == pytest.approx((min(first), max(last)))


def test_normalize_is_the_formula() -> None:
    mean, std = NORMALIZATIONS["imagenet"]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    found = Preprocessing(5, 6, mean, std).normalize(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (pixels - np.array(mean)) / np.array(std), rtol=1e-6, atol=1e-7)


def test_one_mean_may_go_with_three_stds() -> None:
    found = Preprocessing(1, 1, (100.0,), (1.0, 2.0, 4.0)).normalize(np.full((1, 1, 3), 108, np.uint8))
    np.testing.assert_array_equal(found, [[[8, 4, 2]]])


def test_means_are_in_the_order_of_the_channels() -> None:
    """A BGR network's first mean is that of blue."""
    blue = Image.new("RGB", (4, 4), (0, 0, 255))
    preprocessing = Preprocessing(4, 4, (100.0, 0.0, 0.0), (1.0,), channels="BGR")
    np.testing.assert_array_equal(preprocessing.normalize(preprocessing.pixels(blue))[0, 0], [155, 0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_apply_table_looks_up_each_channel_in_its_column(channels) -> None:
    table = np.arange(256 * channels).reshape(256, channels) * 7
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    found = apply_table(table, pixels)
    assert found.dtype == table.dtype
    for place in np.ndindex(pixels.shape):
        assert found[place] == table[pixels[place], place[-1] if channels == 3 else 0]


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (-1, 1, "-1..1"),
        (-0.9960784, 1.0039216, "-1..1"),
        (-1, 0.9921875, "-1..1"),
        (-1.059, 1.059, "-1..1"),
        (0, 1, "0..1"),
        (0, 0.99609375, "0..1"),
        (0.029, 0.971, "0..1"),
        (0, 255, "0..255"),
        (-7.6, 262.6, "0..255"),
        (-1.061, 1, None),
        (-1, 1.061, None),
        (0, 1.031, None),
        (-0.031, 1, None),
        (-0.5, 1, None),
        (-0.5, 0.5, None),
        (0, 2, None),
        (0, 0, None),
        (0, 247, None),
        (-128, 127, None),
        (-2.1179, 2.64, None),
        (-123.68, 151.06, None),
        (float("-inf"), float("inf"), None),
        (float("nan"), float("nan"), None),
    ],
)
def test_normalization_of_range(low, high, name) -> None:
    assert normalization_of_range(low, high) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1..1", ((127.5,), (127.5,))),
        ("0..1", ((0.0,), (255.0,))),
        ("0..255", ((0.0,), (1.0,))),
        ("imagenet", ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))),
        ("127.5/127.5", ((127.5,), (127.5,))),
        ("0/255", ((0.0,), (255.0,))),
        ("-3/1e2", ((-3.0,), (100.0,))),
        ("103.939,116.779,123.68/1", ((103.939, 116.779, 123.68), (1.0,))),
        (" 1, 2, 3 / 4, 5, 6 ", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))),
    ],
)
def test_parse_normalization(text, expected) -> None:
    assert parse_normalization(text) == expected


@pytest.mark.parametrize("text", ["", "1..2", "ImageNet", "127.5", "1/2/3", "/", "1/", "a/b", "1,/2", "1;2/3", "0…1"])
def test_parse_normalization_says_what_is_possible(text) -> None:
    with pytest.raises(InputError) as caught:
        parse_normalization(text)
    message = str(caught.value)
    assert repr(text) in message
    assert all(name in message for name in NORMALIZATIONS)
    assert "MEAN/STD" in message


# The object


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"height": 0}, "224x0"),
        ({"width": -1}, "-1x224"),
        ({"channels": "RGBA"}, "'RGBA'"),
        ({"channels": "rgb"}, "'rgb'"),
        ({"crop": 0.0}, "crop 0.0"),
        ({"crop": 1.01}, "crop 1.01"),
        ({"crop": -0.5}, "crop -0.5"),
        ({"crop": float("nan")}, "crop nan"),
        ({"mean": ()}, "do not fit the channels RGB"),
        ({"mean": (1.0, 2.0)}, "do not fit the channels RGB"),
        ({"std": (1.0, 2.0, 3.0, 4.0)}, "do not fit the channels RGB"),
        ({"std": (1.0, 2.0, 3.0), "channels": "L"}, "do not fit the channels L"),
        ({"std": (0.0,)}, "std positive"),
        ({"std": (1.0, -1.0, 1.0)}, "std positive"),
        ({"mean": (float("nan"),)}, "finite"),
        ({"mean": (float("inf"),)}, "finite"),
        ({"std": (float("inf"),)}, "finite"),
    ],
    ids=str,
)
def test_impossible_preprocessing_is_refused(change, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        dataclasses.replace(Preprocessing(224, 224), **change)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(224, 160),
        Preprocessing(32, 32, *NORMALIZATIONS["imagenet"], channels="BGR", crop=1.0),
        Preprocessing(1, 1, (1 / 3,), (0.1,), channels="L", crop=1 / 7),
    ],
    ids=["default", "BGR", "L"],
)
def test_json_round_trip(preprocessing) -> None:
    """To the last bit, and through text."""
    again = Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json())))
    assert again == preprocessing
    assert hash(again) == hash(preprocessing)
    assert set(preprocessing.to_json()) == {"height", "width", "mean", "std", "channels", "crop"}


def test_geometry_tells_whether_pixels_can_be_shared(photos) -> None:
    path = photos / "blue" / "00.jpg"
    one = Preprocessing(16, 24)
    same = dataclasses.replace(one, mean=(0.0,), std=(255.0,))
    assert same.geometry == one.geometry
    np.testing.assert_array_equal(same.pixels(path), one.pixels(path))
    for change in ({"height": 17}, {"width": 25}, {"channels": "BGR"}, {"channels": "L"}, {"crop": 0.5}):
        other = dataclasses.replace(one, **change)
        assert other.geometry != one.geometry
        assert not np.array_equal(other.pixels(path), one.pixels(path))
