"""Splitting a stream into JPEG images: complete ones only, whatever is between them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import colour_picture
from PIL import Image

from edgeq.watching import mjpeg
from edgeq.watching.mjpeg import split_jpegs


def jpeg(seed: int, **options: object) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)  # many bytes 0xFF in the scan
    Image.fromarray(noise).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


def with_thumbnail() -> bytes:
    """An image whose metadata contains another complete JPEG."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 50
    small = io.BytesIO()
    colour_picture("red", 1, 16).save(small, "JPEG")
    return jpeg(3, exif=exif.tobytes() + small.getvalue())


IMAGES = [jpeg(0), jpeg(1, progressive=True), with_thumbnail(), jpeg(2, restart_marker_blocks=3)]


def chunks(stream: bytes, size: int) -> Iterator[bytes]:
    yield from (stream[i : i + size] for i in range(0, len(stream), size))
    yield b""


def split(stream: bytes, size: int = 1000) -> list[bytes]:
    parts = chunks(stream, size)
    return list(split_jpegs(lambda: next(parts)))


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_images_end_to_end(size: int) -> None:
    assert split(b"".join(IMAGES), size) == IMAGES


def test_with_headers_between_them() -> None:
    parts = [b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n" + image for image in IMAGES]
    assert split(b"HTTP" + b"".join(parts) + b"\r\n--frame--\r\n", 13) == IMAGES


def test_an_incomplete_last_one_is_left_out() -> None:
    assert split(IMAGES[0] + IMAGES[1][:-1]) == IMAGES[:1]


def test_a_damaged_one_costs_only_itself() -> None:
    """Its first segment states an impossible length."""
    damaged = bytearray(IMAGES[0])
    damaged[4:6] = b"\x00\x01"
    assert IMAGES[1] in split(bytes(damaged) + IMAGES[1] + IMAGES[2])
    assert split(b"\xff\xd8" + b"garbage" * 9 + IMAGES[1]) == [IMAGES[1]]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that never ends is given up."""
    monkeypatch.setattr(mjpeg, "MOST_FRAME_BYTES", 100_000)
    endless = IMAGES[0][:-2] + bytes(250_000)
    assert split(endless + IMAGES[1], 4096)[-1] == IMAGES[1]


def test_random_bytes() -> None:
    noise = np.random.default_rng(0).choice([0, 0xD8, 0xD9, 0xDA, 0xFF, 1], 20_000).astype(np.uint8).tobytes()
    split(noise, 100)  # neither an error nor an endless loop
