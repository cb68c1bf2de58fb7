"""Random changes of pictures: what they do is read off pictures whose pixels say where they come from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeq.preprocessing import Preprocessing
from edgeq.training.augmentation import Augmentation

tf = pytest.importorskip("tensorflow")

NOTHING: dict[str, Any] = {"smallest_crop": 1.0, "rotation": 0.0, "colour": 0.0, "flips": False}
PIXELS: dict[str, Any] = {"mean": (0.0,), "std": (1.0,), "crop": 1.0}
COUNT = 64


def apply(augmentation: Augmentation, images: Any, preprocessing: Preprocessing, seed: tuple[int, int] = (0, 0)) -> Any:
    return augmentation.apply(tf.constant(images), preprocessing, tf.constant(seed)).numpy()


def noise(count: int, height: int, width: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def ramps(count: int, height: int, width: int) -> Any:
    """Pictures whose red is twice the column, and whose green is twice the row, of each pixel."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :, 0] = 2 * np.arange(width)
    picture[:, :, 1] = 2 * np.arange(height)[:, None]
    return np.repeat(picture[None], count, axis=0)


@pytest.fixture
def no_aspect_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.training.augmentation._LARGEST_ASPECT_CHANGE", 1.0)


@pytest.mark.usefixtures("no_aspect_change")
class TestNothing:
    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 64)], ids=str)
    def test_the_whole_picture_stays_as_it_is(self, size: tuple[int, int]) -> None:
        images = noise(3, *size)
        same = apply(Augmentation(**NOTHING), images, Preprocessing(*size, **PIXELS))
        assert same.dtype == np.float32
        np.testing.assert_allclose(same, images, atol=1e-3)

    def test_half_of_the_pictures_are_mirrored(self) -> None:
        images = noise(COUNT, 9, 8)
        result = apply(Augmentation(**NOTHING | {"flips": True}), images, Preprocessing(9, 8, **PIXELS))
        plain = [np.allclose(a, b, atol=1e-3) for a, b in zip(result, images, strict=True)]
        mirrored = [np.allclose(a, b[:, ::-1], atol=1e-3) for a, b in zip(result, images, strict=True)]
        assert all(a != b for a, b in zip(plain, mirrored, strict=True))
        assert COUNT / 4 < sum(mirrored) < 3 * COUNT / 4

    @pytest.mark.parametrize(
        ("normalization", "expected"),
        [
            (((127.5,), (127.5,)), lambda x: x / 127.5 - 1),
            (((0.0,), (1.0,)), lambda x: x),
            (((123.0, 116.0, 103.0), (58.0, 57.0, 56.0)), lambda x: (x - [123, 116, 103]) / [58, 57, 56]),
        ],
        ids=["-1..1", "0..255", "a-channel-each"],
    )
    def test_normalization(self, normalization: Any, expected: Any) -> None:
        images = noise(2, 8, 8)
        result = apply(Augmentation(**NOTHING), images, Preprocessing(8, 8, *normalization))
        np.testing.assert_allclose(result, expected(images.astype(float)), atol=1e-3)


class TestCrops:
    @pytest.mark.parametrize(("height", "width"), [(100, 100), (70, 110)])
    def test_area_aspect_and_place(self, height: int, width: int) -> None:
        rows, columns = 24, 32
        augmentation = Augmentation(0.5, rotation=0, colour=0, flips=False)
        result = apply(augmentation, ramps(COUNT, height, width), Preprocessing(rows, columns, **PIXELS))
        inner = result[:, 1:-1, 1:-1] / 2  # at the rim, pixels are mirrored
        step_x = (inner[:, 0, -1, 0] - inner[:, 0, 0, 0]) / (columns - 3)
        step_y = (inner[:, -1, 0, 1] - inner[:, 0, 0, 1]) / (rows - 3)
        box_width, box_height = step_x * columns, step_y * rows
        share = box_width * box_height / (width * height)
        aspect = np.log((box_width / width) / (box_height / height)) / math.log(4 / 3)
        assert 0.49 < share.min() < 0.6
        assert 0.85 < share.max() <= 1.001
        assert -1.001 < aspect.min() < -0.7
        assert 0.7 < aspect.max() < 1.001
        left = inner[:, 0, 0, 0] + 0.5 - 1.5 * step_x
        top = inner[:, 0, 0, 1] + 0.5 - 1.5 * step_y
        for start, length, side in ((left, box_width, width), (top, box_height, height)):
            assert start.min() > -0.01
            assert (start + length).max() < side + 0.01
            free = (side - length) > side / 10
            assert np.std(start[free] / (side - length)[free]) > 0.15  # anywhere, not always in a corner

    def test_reach_shows_what_lies_outside_as_a_mirror_would(self) -> None:
        inside, outside = (
            apply(
                Augmentation(1.0, reach, rotation=0, colour=0, flips=False),
                ramps(COUNT, 100, 100),
                Preprocessing(50, 50, **PIXELS),
            )
            for reach in (0.0, 0.25)
        )

        def turns(pictures: Any) -> Any:
            return (np.diff(pictures[:, 25, :, 0], axis=1) < -0.5).any(axis=1)

        assert not turns(inside).any()
        assert turns(outside).mean() > 0.2


class TestRotation:
    @pytest.mark.usefixtures("no_aspect_change")
    def test_angles(self) -> None:
        augmentation = Augmentation(**NOTHING | {"rotation": 20.0})
        result = apply(augmentation, ramps(COUNT, 100, 100), Preprocessing(100, 100, **PIXELS))
        red = result[:, 40:60, 40:60, 0] / 2  # far from the mirrored corners
        across, down = np.diff(red, axis=2).mean(axis=(1, 2)), np.diff(red, axis=1).mean(axis=(1, 2))
        np.testing.assert_allclose(np.hypot(across, down), 1, atol=0.01)  # turned, and nothing else
        degrees = np.degrees(np.arctan2(down, across))
        assert np.abs(degrees).max() < 20.1
        assert degrees.min() < -12 < 12 < degrees.max()
        np.testing.assert_allclose(result[:, 49:51, 49:51, :2].mean(axis=(1, 2)), 99, atol=0.1)  # about the centre


class TestColour:
    def test_brightness_and_contrast_have_their_limits(self) -> None:
        grey = np.full((COUNT, 4, 4, 3), 127, np.uint8)
        grey[:, :2] = 27
        augmentation = Augmentation(1.0, rotation=0, colour=0.2)
        result = apply(augmentation, grey, Preprocessing(4, 4, **PIXELS))
        low, high = result[:, 0, 0], result[:, -1, -1]
        assert np.ptp(result, axis=3).max() < 0.01  # grey stays grey
        assert np.abs(high / 127 - 1).max() < 0.11  # mid-grey: brightness alone, by half of it at most
        contrast = ((high - low) / 100).mean(axis=1)
        assert 0.79 < contrast.min() < 0.85
        assert 1.15 < contrast.max() < 1.21

    def test_values_stay_pixels(self) -> None:
        images = np.concatenate([np.zeros((COUNT, 4, 4, 3), np.uint8), np.full((COUNT, 4, 4, 3), 255, np.uint8)])
        result = apply(Augmentation(colour=0.5), images, Preprocessing(4, 4))
        assert result.min() == -1
        assert result.max() == 1


class TestSeed:
    def test_the_same_seed_gives_the_same_pictures(self) -> None:
        images, preprocessing = noise(8, 37, 37), Preprocessing(32, 32)
        first = apply(Augmentation(), images, preprocessing, (1, 2))
        np.testing.assert_array_equal(apply(Augmentation(), images, preprocessing, (1, 2)), first)
        graph = tf.function(lambda x, seed: Augmentation().apply(x, preprocessing, seed))
        np.testing.assert_allclose(graph(images, tf.constant([1, 2])), first, atol=1e-4)
        for other in ((1, 3), (2, 2), (2, 1)):
            assert np.abs(apply(Augmentation(), images, preprocessing, other) - first).max() > 0.1

    def test_equal_pictures_become_different_ones(self) -> None:
        result = apply(Augmentation(), np.repeat(noise(1, 37, 37), 8, axis=0), Preprocessing(32, 32))
        assert min(np.abs(a - b).mean() for i, a in enumerate(result) for b in result[:i]) > 0.01
