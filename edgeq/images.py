"""Find image files, and decode them to upright 8-bit images.

Reads every format that Pillow reads. Handles EXIF rotation, palettes, CMYK, 16-bit grey and transparency, in the same
way for calibration, inference and comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from PIL import Image, UnidentifiedImageError

from edgeq.errors import ImageError, InputError, one_line
from edgeq.image_limits import MOST_PIXELS, open_image, require_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "NOT_AN_IMAGE",
    "Source",
    "decode",
    "expand",
    "files_below",
    "images_below",
    "is_array_file",
    "is_image",
    "require_folder",
    "skipped_note",
    "source_name",
]

Source: TypeAlias = "str | Path | bytes | BinaryIO | Image.Image | npt.NDArray[np.uint8]"
"""An image: a file's path, its bytes, an open binary file, a Pillow image, or a uint8 array.

An array has shape (height, width, 3) for RGB, (height, width, 4) for RGBA or (height, width) for grey. OpenCV's arrays
are BGR: pass ``frame[:, :, ::-1]``."""

NOT_AN_IMAGE = "not an image by its name"
"""The reason that is reported for a file in a folder that was skipped without being opened."""

# Includes photo formats that Pillow may not read, such as HEIC: such a file is reported as unreadable, not skipped.
_SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dds", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras",
    ".sgi", ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
)  # fmt: skip
_ARRAY_SUFFIXES = (".npz", ".npy")
_EXIF_ORIENTATION = 0x0112
_EXIF_SOURCES = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where Pillow looks for the orientation
_WHOLE_FILE = 1 << 28  # bytes; larger than any photo
_STRIP_PIXELS = 1 << 24  # pixels that are put on the background at a time
_BACKGROUND = (255, 255, 255)  # behind transparent pixels: white, as in a viewer or on a printed page


def require_folder(folder: str | Path) -> Path:
    """Check that a folder exists, and return it as a `Path`.

    Raises:
        InputError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder}: {'is a file, not a folder' if root.exists() else 'no such folder'}")
    return root


def files_below(folder: str | Path) -> list[Path]:
    """List all files in `folder` and below it, sorted, except hidden files and folders.

    Raises:
        InputError: `folder` is not a folder.
    """
    root = require_folder(folder)
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def is_image(path: str | Path) -> bool:
    """Return whether a file has the suffix of an image format."""
    return Path(path).suffix.lower() in _SUFFIXES


def is_array_file(path: str | Path) -> bool:
    """Return whether a file has the suffix of NumPy's files, ``.npz`` or ``.npy``."""
    return Path(path).suffix.lower() in _ARRAY_SUFFIXES


def images_below(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """List the files in `folder` and below it: the images, told by their suffix, and the other files. Both are sorted.

    Raises:
        InputError: `folder` is not a folder, or contains no images.
    """
    files = files_below(folder)
    images = [path for path in files if is_image(path)]
    others = [path for path in files if not is_image(path)]
    if not images:
        raise InputError(f"{folder}: holds no images" + (f", only {len(others)} other files" if others else ""))
    return images, others


def skipped_note(count: int) -> str:
    """Say how many files were skipped because they are not images.

    Args:
        count: the number of other files that `images_below` returned.
    """
    return f"skipped {count} {'file that is not an image' if count == 1 else 'files that are not images'}"


def expand(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Expand command-line arguments (files, folders, glob patterns, ``-``) to single files, in order.

    A folder is replaced by the images in it and below it. A pattern is expanded only if no file has exactly that name.
    An argument that matches nothing is returned unchanged; decoding it then reports the error.

    Returns:
        The files to decode, and the files in the folders that are not images.

    Raises:
        InputError: a folder contains no images.
    """
    files: list[str] = []
    skipped: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument not in ("", "-") and path.is_dir():
            images, others = images_below(path)
            files += map(str, images)
            skipped += map(str, others)
        elif any(sign in argument for sign in "*?[") and not path.exists():
            import glob  # imported here: only patterns need it

            files += sorted(glob.glob(argument, recursive=True)) or [argument]  # noqa: PTH207 (Path.glob wants a root)
        else:
            files.append(argument)
    return files, skipped


def decode(
    source: Source,
    mode: str = "RGB",
    enough: Callable[[int, int], tuple[int, int]] | None = None,
) -> Image.Image:
    """Decode an image to 8 bits per channel, upright.

    Args:
        source: the image.
        mode: ``RGB`` or ``L`` (one grey channel).
        enough: function from the image's upright width and height to the width and height that suffice. If it is
            given, a JPEG is decoded at 1/8, 1/4 or 1/2 of its size: the smallest that suffices and is a whole number of
            pixels.

    Returns:
        A loaded Pillow image of `mode`. Transparent pixels are put on white; 16-bit grey is scaled to 8 bits.

    Raises:
        ImageError: the file cannot be read, is not an image, or is damaged.
    """
    name = source_name(source)
    try:
        with _open(source) as image:
            if enough is not None:
                _reduce(image, enough)
            require_memory(image, copies=1 if image.mode == mode and _orientation(image) == 1 else 2)
            image.load()
            return _to_mode(_upright(image), mode)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder, not an image") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that Pillow can read") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise ImageError(f"{name}: damaged or unreadable image ({one_line(error)})") from None


def source_name(source: Source) -> str:
    """Return the name of an image for messages: its path or file name, else ``image``."""
    if isinstance(source, str | Path):
        return str(source)
    return str(getattr(source, "filename", None) or getattr(source, "name", None) or "image")


def _open(source: Source) -> Image.Image:
    if isinstance(source, Image.Image):
        return source.copy()  # the `with` closes the copy, not the caller's image
    if hasattr(source, "__array_interface__"):
        array: Any = source
        try:
            return Image.fromarray(array).copy()  # a camera may reuse the array for its next frame
        except TypeError:
            raise ImageError(
                f"{array.dtype} array of shape {array.shape}; an image is uint8 of shape (height, width, 3), RGB"
            ) from None
    return open_image(source)


def _reduce(image: Image.Image, enough: Callable[[int, int], tuple[int, int]]) -> None:
    """Make Pillow decode a JPEG at a reduced scale that is still large enough; ignore other formats."""
    if image.format not in ("JPEG", "MPO"):
        return
    # One block for the whole file: Pillow releases the GIL while it decodes a block, and its default is 64 kB.
    image.decodermaxblock = _WHOLE_FILE  # type: ignore[attr-defined]
    width, height = image.size
    if _orientation(image) in (5, 6, 7, 8):  # stored on its side
        enough_height, enough_width = enough(height, width)
    else:
        enough_width, enough_height = enough(width, height)
    for divisor in (8, 4, 2):
        # If the size were not a whole number, the last column or row would be partly padding and shift the crop. Huge
        # images, where that is less than a thousandth, cannot be decoded at full size.
        exact = width % divisor == height % divisor == 0 or width * height > MOST_PIXELS
        if exact and width // divisor >= enough_width and height // divisor >= enough_height:
            image.draft(None, (width // divisor, height // divisor))
            return


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 is upright."""
    # getexif() imports Pillow's TIFF parser, which costs a fifth of the time to decode a small image.
    if image.format in ("JPEG", "MPO", "PNG", "WEBP") and not any(key in image.info for key in _EXIF_SOURCES):
        return 1
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if value in range(2, 9) else 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    from PIL import ImageOps  # imported here: only rotated images need it

    return ImageOps.exif_transpose(image)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ImageError("floating-point image; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own convert() would clip at 255
        import numpy as np  # imported here: few images need it, and decoding can start before it is loaded

        grey = np.asarray(image).astype(np.int64)
        if "transparency" in image.info:
            grey[grey == image.info["transparency"]] = 65535
        image = Image.fromarray((grey.clip(0, 65535) / 257.0).round().astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _on_background(image)
    return image if image.mode == mode else image.convert(mode)


def _on_background(image: Image.Image) -> Image.Image:
    """Put an image with transparent pixels on the background, a few rows at a time to save memory."""
    width, height = image.size
    result = Image.new("RGB", image.size, _BACKGROUND)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if "transparency" in image.info:
            strip.info["transparency"] = image.info["transparency"]
        visible = strip.convert("RGBA")
        result.paste(visible, (0, top), visible.getchannel("A"))
    return result
