"""Folders of made images: whole or not at all, and recognized again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import colour_picture
from PIL import Image

from edgeq.calibration import choose_images
from edgeq.calibration.image_folder import read_origin, replacing_folder, write_images
from edgeq.errors import InputError
from edgeq.preprocessing import Preprocessing

ORIGIN = {"seed": 3, "synthesized_from": {"file": "größe.keras"}}


def random_images(count: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(channels).integers(0, 256, (count, 7, 9, channels), np.uint8)


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def make_set(
    folder: Path, count: int, error: type[BaseException] | None = None, meanwhile: Callable[[], object] = bool
) -> Path:
    """Write so many images, let something happen meanwhile, and fail where `error` says so."""
    with replacing_folder(folder) as part:
        write_images(part, random_images(count), ORIGIN)
        meanwhile()
        if error:
            raise error("stop")
    return folder


class TestImages:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_are_kept_exactly_in_order_with_their_origin(self, channels: int, tmp_path: Path) -> None:
        images = random_images(12, channels)
        paths = write_images(tmp_path, images, ORIGIN)
        assert [path.name for path in paths] == [f"synthesized-{i:04}.png" for i in range(1, 13)]
        assert sorted(tmp_path.iterdir()) == paths
        for path, pixels in zip(paths, images, strict=True):
            with Image.open(path) as image:
                assert (image.format, image.mode) == ("PNG", {1: "L", 3: "RGB"}[channels])
                np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
            assert read_origin(path) == ORIGIN

    def test_all_of_them_and_nothing_else_are_calibrated_on(self, tmp_path: Path) -> None:
        folder = make_set(tmp_path / "set", 12)
        chosen = choose_images(folder, Preprocessing(7, 9, crop=1.0))
        assert (len(chosen.files), chosen.skipped) == (12, ())

    def test_the_same_images_give_the_same_bytes(self, tmp_path: Path) -> None:
        first, second = (make_set(tmp_path / name, 3) for name in "ab")
        for one, other in zip(sorted(first.iterdir()), sorted(second.iterdir()), strict=True):
            assert one.read_bytes() == other.read_bytes()

    def test_other_files_have_no_origin(self, tmp_path: Path) -> None:
        colour_picture("red", 0).save(tmp_path / "a.png")
        colour_picture("red", 0).save(tmp_path / "b.jpg")
        (tmp_path / "c.png").write_text("no image")
        assert [read_origin(tmp_path / name) for name in ("a.png", "b.jpg", "c.png", "d.png")] == [None] * 4


class TestReplacing:
    @pytest.mark.parametrize("before", ["nothing", "empty", "larger-set", "smaller-set", "link"])
    def test_the_folder_holds_the_new_set_alone(self, before: str, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "set"
        if before == "empty":
            folder.mkdir(parents=True)
        elif before.endswith("set"):
            make_set(folder, {"larger-set": 5, "smaller-set": 1}[before])
        elif before == "link":
            make_set(tmp_path / "elsewhere", 2)
            folder.parent.mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
        with replacing_folder(folder) as part:
            write_images(part, random_images(3), ORIGIN)
        assert names_in(folder) == [f"synthesized-000{i}.png" for i in (1, 2, 3)]
        assert [path.name for path in folder.parent.iterdir()] == ["set"]
        assert folder.is_symlink() == (before == "link")

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
    @pytest.mark.parametrize("exists", [True, False])
    def test_nothing_changes_when_the_block_raises(
        self, exists: bool, error: type[BaseException], tmp_path: Path
    ) -> None:
        folder = tmp_path / "set"
        if exists:
            make_set(folder, 2)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
        with pytest.raises(error, match="stop"):
            make_set(folder, 3, error)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert [path.name for path in tmp_path.iterdir()] == (["set"] if exists else [])

    @pytest.mark.parametrize("name", ["photo.jpg", "synthesized-0001.png", ".notes", "synthesized-0003.png/"])
    def test_what_is_not_its_own_is_not_replaced(self, name: str, tmp_path: Path) -> None:
        """A picture of that very name, too, if it does not say that edgeq made it."""
        folder = make_set(tmp_path / "set", 2)
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            colour_picture("red", 0).save(folder / name, format="png")
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        message = f"{folder}: holds {name.rstrip('/')}, which edgeq did not synthesize"
        with pytest.raises(InputError, match=re.escape(message)), replacing_folder(folder):
            pytest.fail("nobody waits for minutes only to learn this")
        assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before

    def test_what_came_in_the_meantime_is_not_replaced(self, tmp_path: Path) -> None:
        folder = make_set(tmp_path / "set", 2)
        with pytest.raises(InputError, match=re.escape(f"{folder}: holds mine.txt")):
            make_set(folder, 3, meanwhile=lambda: (folder / "mine.txt").write_text("mine"))
        assert names_in(tmp_path) == ["set", "set/mine.txt", "set/synthesized-0001.png", "set/synthesized-0002.png"]

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "set").write_text("mine")
        for folder, message in ((tmp_path / "set", "is a file"), (tmp_path / "set" / "a", "cannot write")):
            expected = re.escape(f"{tmp_path / 'set'}: {message}")
            with pytest.raises(InputError, match=expected), replacing_folder(folder):
                pytest.fail("nobody waits for minutes only to learn this")
        assert names_in(tmp_path) == ["set"]

    def test_not_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its place would be taken, and the user's shell be nowhere."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=r"^\.: is the current folder"), replacing_folder("."):
            pytest.fail("nobody waits for minutes only to learn this")
