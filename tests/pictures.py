"""Pictures that are hard on a decoder: decompression bombs, damaged files, and mutations of good ones."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["HOSTILE", "mutated", "mutations", "noise", "seeds"]


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture with coarse and fine detail."""
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    fine = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + fine).clip(0, 255).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The file of a picture."""
    stream = io.BytesIO()
    image.save(stream, form, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def exif(orientation: int = 6) -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010F] = orientation, "a camera"
    return found


def seeds() -> dict[str, bytes]:
    """Small good files of every common format and of several modes, by suffix and number."""
    small, animation = noise(96, 72), [noise(40, 30 + i).resize((40, 30)) for i in range(3)]
    many = {"save_all": True, "append_images": animation[1:]}
    text = PngInfo()
    text.add_text("Comment", "some text", zip=True)
    files = [
        (".jpg", saved(small, "JPEG", quality=85, exif=exif())),
        (".jpg", saved(small, "JPEG", progressive=True, subsampling=0)),
        (".jpg", saved(small.convert("CMYK"), "JPEG")),
        (".jpg", saved(small.convert("L"), "JPEG", quality=60, icc_profile=bytes(500))),
        (".png", saved(small, "PNG", pnginfo=text, exif=exif(3))),
        (".png", saved(small.convert("P"), "PNG", transparency=3)),
        (".png", saved(small.convert("RGBA"), "PNG", icc_profile=bytes(500))),
        (".png", saved(Image.fromarray(np.arange(5000, dtype=np.uint16).reshape(50, 100)), "PNG")),
        (".png", saved(animation[0], "PNG", **many)),
        (".gif", saved(small, "GIF")),
        (".gif", saved(animation[0], "GIF", **many, duration=20, loop=0)),
        (".tif", saved(small, "TIFF")),
        (".tif", saved(small, "TIFF", compression="tiff_lzw")),
        (".tif", saved(small, "TIFF", compression="tiff_deflate", exif=exif(8))),
        (".tif", saved(small, "TIFF", compression="jpeg")),
        (".tif", saved(small.convert("1"), "TIFF", compression="group4")),
        (".tif", saved(animation[0], "TIFF", **many)),
        (".webp", saved(small, "WEBP", exif=exif())),
        (".webp", saved(small.convert("RGBA"), "WEBP", lossless=True)),
        (".webp", saved(animation[0], "WEBP", **many)),
        (".bmp", saved(small, "BMP")),
        (".bmp", saved(small.convert("P"), "BMP")),
    ]
    return {f"{number:02}{suffix}": content for number, (suffix, content) in enumerate(files)}


_NUMBERS = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0", b"\xff\xff", b"\0\1")


def mutated(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A damaged copy: bits and bytes changed, numbers made extreme, parts cut out, repeated or taken from another."""
    data = bytearray(content)

    def place() -> int:
        # Half of the changes are where sizes and tags are.
        return rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data))

    def flip() -> None:
        data[place()] ^= 1 << rng.randrange(8)

    def number() -> None:
        value, at = rng.choice(_NUMBERS), place()
        data[at : at + len(value)] = value

    def randomize() -> None:
        at = place()
        data[at : at + rng.randint(1, 16)] = rng.randbytes(rng.randint(1, 16))

    def cut() -> None:
        at = place()
        del data[at : at + rng.randint(1, 1 + len(data) // 3)]

    def repeat() -> None:
        at, to = place(), place()
        data[to:to] = data[at : at + rng.randint(1, 200)] * rng.choice((1, 1, 50))

    def splice() -> None:
        other = rng.choice(others)
        at = rng.randrange(len(other))
        data[place() :] = other[at:]

    def end() -> None:
        del data[place() :]

    steps: list[Callable[[], None]] = [flip, flip, flip, number, number, randomize, cut, repeat, splice, end]
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 10))):
        if len(data) > 1:
            rng.choice(steps)()
    return bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: int, *more: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A black PNG of that size of which only some rows are there."""
    row = 1 + width * {0: 1, 2: 3, 6: 4}[colour] * depth // 8
    packer, body = zlib.compressobj(9), b""
    for _ in range(rows):
        body += packer.compress(bytes(row))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", body + packer.flush()) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG with 2 GB of text and a profile of 1 GB, compressed."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    texts = [chunk(b"zTXt", b"a%d\0\0" % i + body) for i in range(8)]
    return png(64, 64, 64, *texts, chunk(b"iCCP", b"profile\0\0" + body * 4))


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header says that it has another size."""
    content = bytearray(saved(noise(64, 64), "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def scan_bomb() -> bytes:
    """A progressive JPEG of 16 megapixels with thousands of scans, each of which the decoder runs over all of it."""
    content = bytearray(saved(Image.new("L", (4000, 4000)), "JPEG", progressive=True, quality=20))
    start = content.rindex(b"\xff\xda")
    scan = bytes(content[start:-2])
    return bytes(content[:-2]) + scan * 2000 + b"\xff\xd9"


def metadata_bomb() -> bytes:
    """A JPEG with 16 MB of EXIF and XMP."""
    content = saved(noise(64, 64), "JPEG")
    parts = [
        b"Exif\0\0" + bytes(65000),
        b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 21000,
        b"ICC_PROFILE\0\1\xff" + bytes(60000),
    ]
    segments = [b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts] * 85
    return content[:2] + b"".join(segments) + content[2:]


def tiff(entries: list[tuple[int, int, int, int]], after: int, data: bytes = b"") -> bytes:
    """A TIFF with one directory of (tag, type, count, value), which names the next at `after`."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + directory + struct.pack("<I", after) + data


def tiff_of(width: int, height: int, strips: int = 1, after: int = 0) -> bytes:
    """An uncompressed TIFF that claims a size."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, strips, 200),
    ]
    return tiff(
        [*entries, (277, 3, 1, 1), (278, 4, 1, height), (279, 4, strips, width * height % 2**32)], after, bytes(300)
    )


def tiff_chain(length: int = 100_000) -> bytes:
    """A TIFF of very many directories."""
    content, size = b"II*\0\x08\0\0\0", 2 + 12 * 4 + 4
    for number in range(length):
        entries = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (34665, 4, 1, 8)]
        directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        content += directory + struct.pack("<I", 8 + size * (number + 1)) if number < 50 else b""
    return content + bytes(size * 10)


def gif(width: int, height: int, frames: int) -> bytes:
    """A GIF with a large canvas and many frames of one pixel, without an end."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\x04\0\0\0\0\0," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2D\1\0"
    return head + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" + frame * frames


def bmp_of(width: int, height: int) -> bytes:
    """A BMP that claims a size, run-length encoded."""
    header = struct.pack("<IiiHHIIIIII", 40, width, height, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + b"\xff\0" * 1000


HOSTILE: dict[str, Callable[[], bytes]] = {
    "bomb_2_gigapixels.png": lambda: png(50_000, 40_000, 100),
    "bomb_178_megapixels.png": lambda: png(13_000, 13_700, 13_700, colour=6),
    "bomb_rgba16.png": lambda: png(9_000, 9_900, 9_900, colour=6, depth=16),
    "truncated_89_megapixels.png": lambda: png(9_400, 9_400, 10),
    "wide.png": lambda: png(100_000, 1, 1),
    "high.png": lambda: png(1, 100_000, 100_000),
    "text_bomb.png": text_bomb,
    "claims_4_gigapixels.jpg": lambda: jpeg_of(65_500, 65_500),
    "claims_250_megapixels.jpg": lambda: jpeg_of(16_000, 15_625),
    "wide.jpg": lambda: jpeg_of(65_500, 1),
    "scans.jpg": scan_bomb,
    "metadata.jpg": metadata_bomb,
    "claims_4_gigapixels.tif": lambda: tiff_of(65_000, 65_000),
    "claims_160_megapixels.tif": lambda: tiff_of(16_000, 10_000),
    "strips.tif": lambda: tiff_of(1_000, 1_000, 2**31),
    "loop.tif": lambda: tiff_of(16, 16, after=8),
    "chain.tif": tiff_chain,
    "endless.gif": lambda: gif(200, 200, 300_000),
    "claims_4_gigapixels.gif": lambda: gif(65_535, 65_535, 1),
    "claims_170_megapixels.gif": lambda: gif(17_000, 10_000, 1),
    "claims_2_gigapixels.bmp": lambda: bmp_of(50_000, 40_000),
    "postscript.jpg": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n",
    "empty.jpg": lambda: b"",
    "zeros.jpg": lambda: bytes(1_000_000),
}
"""Files made to use much time or memory, by name."""


def mutations(count: int, seed: int, photos: Sequence[bytes] = ()) -> Iterator[tuple[str, bytes]]:
    """Mutated pictures, each with its name; the same seed gives the same ones.

    Args:
        count: number of pictures.
        seed: for the mutations.
        photos: JPEG files to mutate besides `seeds`.
    """
    rng, files = random.Random(seed), seeds() | {f"photo{i}.jpg": content for i, content in enumerate(photos)}
    names, contents = list(files), list(files.values())
    for number in range(count):
        name = rng.choice(names)
        yield f"{number:06}_{name}", mutated(files[name], rng, contents)
