"""scripts/views.py: augmented views, against Pillow and closed forms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import views


def pictures(count: int = 4, side: int = 32) -> np.ndarray:
    """Smooth random pictures: (count, side, side, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side))) for one in coarse])


@pytest.mark.parametrize("side", [32, 96])
def test_whole_pictures_are_what_inference_sees(side: int) -> None:
    found = np.asarray(views.render(views.whole_pictures(pictures(), side)))
    expected = [Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR) for one in pictures()]
    assert found.shape == (4, side, side, 3)
    assert found == pytest.approx(
        np.stack([np.asarray(one) for one in expected]) / 127.5 - 1, abs=1 / 127.5
    )  # Pillow rounds twice


def test_a_shift_a_flip_and_a_mirrored_edge() -> None:
    """Sampled at whole pixels, a view is the picture's own pixels; beyond the edge they come back."""
    pixels = pictures(1)
    shifted = views._positions(np.array([0.25]), np.array([1.0]), 32, 32)
    flipped = views._positions(np.array([1.0]), np.array([-1.0]), 32, 32)
    plain = views.whole_pictures(pixels, 32)
    found = np.asarray(views.render(plain | {"rows": shifted, "columns": flipped}))
    rows = [*range(8, 32), *range(31, 23, -1)]
    assert found[0] == pytest.approx(pixels[0, rows][:, ::-1] / 127.5 - 1, abs=1e-5)


def test_mixed_views_have_mixed_labels() -> None:
    pixels, labels = pictures(), np.array([3, 1, 0, 2])
    mixed = views.whole_pictures(pixels, 32) | {"second": np.array([0, 0.25, 0, 0.5], np.float32)}
    shares = views.mixed_shares(labels, 4, mixed)
    assert shares.tolist() == [[0, 0, 0, 1], [0, 0.75, 0, 0.25], [1, 0, 0, 0], [0.5, 0, 0.5, 0]]
    found = np.asarray(views.render(mixed))
    assert found[1] == pytest.approx((0.75 * pixels[1] + 0.25 * pixels[0]) / 127.5 - 1, abs=1e-4)


def test_the_same_seed_gives_the_same_view_at_any_size() -> None:
    def drawn(side: int) -> dict[str, np.ndarray]:
        return views.draw_views(pictures(), side, views.Augmentation(), np.random.default_rng(7))

    small, same, large = drawn(32), drawn(32), drawn(96)
    assert all(np.array_equal(small[name], same[name]) for name in small)
    assert np.array_equal(small["colour"], large["colour"])
    # The middle one of three large pixels lies where the small pixel does, but for the picture's own edge.
    inside = (small["rows"] > 0) & (small["rows"] < 31)
    assert large["rows"][:, 1::3][inside] == pytest.approx(small["rows"][inside], abs=1e-4)
