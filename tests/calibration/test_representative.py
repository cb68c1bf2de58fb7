"""Which images a network is calibrated on, and what is left out."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, colour_picture
from PIL import Image

from edgeq.calibration import MINIMUM_IMAGES, choose_images, shipped_images
from edgeq.errors import InputError
from edgeq.images import NOT_AN_IMAGE
from edgeq.preprocessing import Preprocessing

SMALL = Preprocessing(16, 16, crop=1.0)
SCRIPT = ROOT / "scripts" / "make-calibration-images"


def make_photos(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    """So many different pictures, named by their number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:03}.png" for i in range(count)]
    for i, path in enumerate(paths):
        colour_picture("green", first_seed + i, side=8).save(path)
    return paths


class TestChoice:
    def test_the_same_seed_chooses_the_same_images_in_the_same_order(self, photos: Path) -> None:
        once, again = (choose_images(photos, SMALL, count=12, seed=7) for _ in range(2))
        assert once.files == again.files
        assert once.digests == again.digests
        np.testing.assert_array_equal(once.pixels, again.pixels)

    def test_another_seed_chooses_others(self, photos: Path) -> None:
        chosen = {seed: frozenset(choose_images(photos, SMALL, count=12, seed=seed).files) for seed in range(4)}
        assert len(set(chosen.values())) == 4

    def test_what_the_file_system_lists_first_does_not_matter(self, tmp_path: Path) -> None:
        forwards, backwards = tmp_path / "forwards", tmp_path / "backwards"
        make_photos(forwards, 30)
        backwards.mkdir()
        for path in sorted(forwards.iterdir(), reverse=True):
            shutil.copy(path, backwards)
        names = [[f.name for f in choose_images(folder, SMALL, count=10).files] for folder in (forwards, backwards)]
        assert names[0] == names[1]

    @pytest.mark.parametrize(
        ("sizes", "count", "shares"),
        [
            pytest.param((30, 30, 30), 12, (4, 4, 4), id="all-alike"),
            pytest.param((30, 30, 3), 21, (9, 9, 3), id="one-runs-out"),
            pytest.param((1, 40), 10, (1, 9), id="one-has-a-single-image"),
            pytest.param((9, 9), 11, (6, 5), id="odd-count"),
            pytest.param((7, 2, 4), 100, (7, 2, 4), id="fewer-than-asked-for"),
        ],
    )
    def test_sub_folders_take_turns(
        self, sizes: tuple[int, ...], count: int, shares: tuple[int, ...], tmp_path: Path
    ) -> None:
        for number, size in enumerate(sizes):
            make_photos(tmp_path / f"class{number}", size, first_seed=1000 * number)
        files = choose_images(tmp_path, SMALL, count=count).files
        assert len(set(files)) == len(files) == sum(shares)
        chosen = Counter(path.parent.name for path in files)
        assert tuple(chosen[f"class{number}"] for number in range(len(sizes))) == shares

    def test_within_a_folder_every_image_can_be_chosen(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path, 20)
        times = Counter(f for seed in range(40) for f in choose_images(tmp_path, SMALL, count=10, seed=seed).files)
        # Each is drawn with probability 1/2: of 40 draws, 4 or 36 are more than five standard deviations off.
        assert set(times) == set(paths)
        assert min(times.values()) > 4
        assert max(times.values()) < 36

    def test_the_pixels_are_those_that_inference_sees(self, photos: Path) -> None:
        preprocessing = Preprocessing(24, 20, crop=0.75)
        chosen = choose_images(photos, preprocessing, count=10)
        for path, pixels in zip(chosen.files, chosen.pixels, strict=True):
            assert (pixels.shape, pixels.dtype) == ((24, 20, 3), np.uint8)
            np.testing.assert_array_equal(pixels, preprocessing.pixels(path))

    def test_counts_as_it_goes(self, photos: Path) -> None:
        calls: list[tuple[str, int, int]] = []
        choose_images(photos, SMALL, count=11, progress=lambda *call: calls.append(call))
        assert calls == [("Reading calibration images", done, 11) for done in range(1, 12)]


def _duplicate(folder: Path) -> None:
    shutil.copy(folder / "000.png", folder / "odd.png")


def _empty(folder: Path) -> None:
    (folder / "odd.jpg").touch()


def _text(folder: Path) -> None:
    (folder / "odd.txt").write_text("file,class_index\n")


def _garbage(folder: Path) -> None:
    (folder / "odd.jpg").write_bytes(bytes(range(256)) * 20)


def _truncated(folder: Path) -> None:
    path = folder / "odd.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def _corrupt(folder: Path) -> None:
    content = bytearray((folder / "000.png").read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 8] = b"\xff" * 8
    (folder / "odd.png").write_bytes(content)


class TestSkipping:
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            pytest.param(_duplicate, r"the same as (000|odd)\.png", id="duplicate"),
            pytest.param(_empty, "not an image that Pillow can read", id="empty"),
            pytest.param(_text, NOT_AN_IMAGE, id="text"),
            pytest.param(_garbage, "not an image that Pillow can read", id="garbage"),
            pytest.param(_truncated, r"damaged or unreadable image \(.*truncated.*\)", id="truncated"),
            pytest.param(_corrupt, "damaged or unreadable image", id="corrupt"),
        ],
    )
    def test_a_file_that_cannot_serve_is_skipped_with_the_reason(
        self, spoil: Callable[[Path], None], reason: str, tmp_path: Path
    ) -> None:
        good = make_photos(tmp_path, 12)
        spoil(tmp_path)
        chosen = choose_images(tmp_path, SMALL)
        ((path, why),) = chosen.skipped
        assert path.name.startswith("odd.") or spoil is _duplicate
        assert re.match(reason, why)
        assert len(chosen.files) == len(good)
        assert path not in chosen.files

    def test_hidden_files_are_not_even_mentioned(self, tmp_path: Path) -> None:
        make_photos(tmp_path, 10)
        make_photos(tmp_path / ".thumbnails", 5, first_seed=50)
        (tmp_path / ".DS_Store").write_bytes(b"\0")
        chosen = choose_images(tmp_path, SMALL)
        assert (len(chosen.files), chosen.skipped) == (10, ())

    def test_bad_files_do_not_use_up_the_count(self, tmp_path: Path) -> None:
        make_photos(tmp_path, 15)
        for number in range(15):
            (tmp_path / f"{number:03}.jpg").write_text(str(number))
        assert len(choose_images(tmp_path, SMALL, count=15).files) == 15

    def test_all_other_files_are_told_however_few_images_are_wanted(self, tmp_path: Path) -> None:
        """In the folder of a data set, for instance; the choice is the same as if they were images that are damaged."""
        make_photos(tmp_path, 15)
        others = [tmp_path / name for name in ("a.csv", "b", "labels.csv")]
        for path in others:
            path.touch()
        chosen = choose_images(tmp_path, SMALL, count=10)
        assert chosen.skipped == tuple((path, NOT_AN_IMAGE) for path in others)
        for path in others:
            path.rename(path.with_name(f"{path.name}.png"))
        assert choose_images(tmp_path, SMALL, count=10).files == chosen.files

    def test_one_image_again_and_again_is_one_image(self, tmp_path: Path) -> None:
        (original,) = make_photos(tmp_path, 1)
        for number in range(1, 40):
            shutil.copy(original, tmp_path / f"{number:03}.png")
        with pytest.raises(InputError, match=r"1 usable images \(39 files skipped\)"):
            choose_images(tmp_path, SMALL)


def fingerprints(paths: Iterable[Path]) -> frozenset[str]:
    return frozenset(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths)


class TestSparing:
    def test_photos_kept_for_others_are_left_alone(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path, 20)
        chosen = choose_images(tmp_path, SMALL, spared=fingerprints(paths[:6]))
        assert set(chosen.files) == set(paths[6:])
        assert chosen.skipped == ()  # nothing is wrong with them
        assert not fingerprints(paths[:6]) & {*chosen.provenance()["fingerprints"]}

    def test_by_what_is_in_them_whatever_they_are_called(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path / "photos", 12)
        spared = fingerprints(paths[:2])
        for path in paths[:2]:
            path.rename(path.with_name(f"copy_of_{path.name}"))
        names = {path.name for path in choose_images(tmp_path, SMALL, spared=spared).files}
        assert names == {path.name for path in paths[2:]}

    def test_they_do_not_use_up_the_count(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path, 30)
        assert len(choose_images(tmp_path, SMALL, count=20, spared=fingerprints(paths[5:15])).files) == 20

    def test_the_others_are_chosen_as_ever(self, tmp_path: Path) -> None:
        make_photos(tmp_path, 20)
        assert choose_images(tmp_path, SMALL, 12).files == choose_images(tmp_path, SMALL, 12, spared={"0" * 16}).files

    def test_too_few_that_are_left_says_so(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path, 15)
        with pytest.raises(InputError) as caught:
            choose_images(tmp_path, SMALL, spared=fingerprints(paths[:8]))
        message = str(caught.value)
        assert message.startswith(f"{tmp_path}: 7 usable images (0 files skipped, 8 held out for evaluation); ")
        assert "\n" not in message


class TestMinimum:
    def test_ten_images_suffice(self, tmp_path: Path) -> None:
        make_photos(tmp_path, MINIMUM_IMAGES)
        assert len(choose_images(tmp_path, SMALL).files) == MINIMUM_IMAGES == 10

    def test_nine_do_not_and_the_message_says_what_to_do(self, tmp_path: Path) -> None:
        make_photos(tmp_path, 9)
        (tmp_path / "notes.txt").write_text("these are my photos")
        with pytest.raises(InputError) as caught:
            choose_images(tmp_path, SMALL)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path}: 9 usable images (1 files skipped)")
        assert "at least 10" in message

    def test_asking_for_nine_is_refused(self, photos: Path) -> None:
        with pytest.raises(InputError, match="calibration count 9: must be at least 10"):
            choose_images(photos, SMALL, count=9)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nowhere: no such folder"):
            choose_images(tmp_path / "nowhere", SMALL)


class TestList:
    def test_of_files_gives_those(self, photos: Path) -> None:
        files = sorted((photos / "red").iterdir())
        chosen = choose_images([*map(str, files)], SMALL)
        assert (sorted(chosen.files), chosen.folder) == (files, None)
        assert set(choose_images(files[::-1], SMALL, count=10).files) < set(files)

    def test_in_any_order_gives_the_same_set(self, photos: Path) -> None:
        files = sorted(photos.rglob("*.jpg"))
        once, again = (choose_images(listed, SMALL, count=12) for listed in (files, files[::-1]))
        assert once.files == again.files == choose_images(photos, SMALL, count=12).files

    def test_with_a_file_that_is_not_there(self, photos: Path, tmp_path: Path) -> None:
        for path, reason in ((tmp_path / "none.jpg", "no such image"), (tmp_path, "is not an image file")):
            with pytest.raises(InputError, match=f"{path}: {reason}"):
                choose_images([*photos.rglob("*.jpg"), path], SMALL)

    def test_that_is_too_short(self, photos: Path) -> None:
        with pytest.raises(InputError, match="the list of images: 2 usable images"):
            choose_images(sorted(photos.rglob("*.jpg"))[:2], SMALL)


def digest_of(folder: Path) -> str:
    """The digest of all images below a folder."""
    return str(choose_images(folder, SMALL).provenance()["sha256"])


class TestProvenance:
    def test_the_digest_is_of_contents_wherever_they_lie(self, photos: Path, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere"
        for path in photos.rglob("*.jpg"):
            target = moved / f"of_{path.parent.name}" / f"photo_{path.name}"  # sorted as before
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        assert digest_of(photos) == digest_of(moved)

    def test_the_digest_sees_every_image(self, tmp_path: Path) -> None:
        paths = make_photos(tmp_path, 10)
        digests = {digest_of(tmp_path)}
        for number, path in enumerate(paths):
            colour_picture("red", 500 + number, side=8).save(path)
            digests.add(digest_of(tmp_path))
        assert len(digests) == 11
        assert all(len(digest) == 64 for digest in digests)

    def test_each_image_has_its_fingerprint(self, photos: Path) -> None:
        chosen = choose_images(photos, SMALL, count=12)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in chosen.files]
        assert list(chosen.digests) == digests
        assert chosen.provenance()["fingerprints"] == [digest[:16] for digest in digests]

    @pytest.mark.parametrize("given", ["absolute", "relative", "dot"])
    def test_it_tells_of_the_set_but_not_where_it_lay(
        self, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "somewhere" / "holiday"
        make_photos(folder, 14)
        monkeypatch.chdir(folder)
        paths: dict[str, str | Path] = {"absolute": folder, "relative": Path("..") / "holiday", "dot": "."}
        chosen = choose_images(paths[given], SMALL, count=11, seed=3)
        provenance = chosen.provenance()
        assert set(provenance) == {"count", "seed", "sha256", "fingerprints"}
        assert (provenance["count"], provenance["seed"]) == (11, 3)
        text = json.dumps(provenance)
        assert "holiday" not in text
        assert "/" not in text
        assert "\\" not in text


class TestShippedImages:
    def test_there_are_a_hundred_good_and_different_pictures(self) -> None:
        chosen = choose_images(shipped_images(), Preprocessing(96, 96, crop=1.0), count=100)
        assert (len(chosen.files), chosen.skipped) == (100, ())
        pixels = np.stack(chosen.pixels).astype(np.float64)  # (100, 96, 96, 3)
        assert pixels.std(axis=(1, 2, 3)).min() > 10  # none is all but empty
        assert pixels.min() < 10  # together they use the range of pixel values
        assert pixels.max() > 245

    def test_the_script_makes_them_again(self, tmp_path: Path) -> None:
        command = [sys.executable, str(SCRIPT), "--count", "2", "--seed", "0", "--out", str(tmp_path / "new")]
        subprocess.run(command, check=True, capture_output=True)
        made = sorted((tmp_path / "new").iterdir())
        shipped = sorted(shipped_images().iterdir())[:2]
        assert [path.name for path in made] == [path.name for path in shipped]
        for mine, theirs in zip(made, shipped, strict=True):
            if mine.read_bytes() != theirs.read_bytes():  # another Pillow may draw and compress a little differently
                ours, others = (np.asarray(Image.open(path), np.int64) for path in (mine, theirs))
                assert np.abs(ours - others).max() <= 2

    def test_another_seed_makes_others(self, tmp_path: Path) -> None:
        command = [sys.executable, str(SCRIPT), "--count", "1", "--seed", "1", "--out", str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)
        (made,) = tmp_path.iterdir()
        ours, shipped = (np.asarray(Image.open(p), np.int64) for p in (made, shipped_images() / made.name))
        assert ours.shape == shipped.shape == (256, 256, 3)
        assert np.abs(ours - shipped).mean() > 10
