"""Photos of a folder: their classes, the split, what is skipped, and the pixels that are learnt from."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, colour_picture
from PIL import Image

from edgeq.errors import InputError
from edgeq.images import NOT_AN_IMAGE
from edgeq.networks import Architecture
from edgeq.preprocessing import Preprocessing
from edgeq.training import PhotoSet, read_photos
from edgeq.training.photos import decode_photos

SMALL = Preprocessing(32, 32, crop=1.0)


def make_folder(root: Path, **counts: int) -> Path:
    """A folder with so many pictures of each class, all different."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            colour_picture("red", seed=1000 * number + i, side=8).save(root / name / f"{i:03}.png")
    return root


def sides(photos: PhotoSet) -> tuple[set[str], set[str]]:
    """The digests of the training and of the validation photos."""
    return {photo.digest for photo in photos.training}, {photo.digest for photo in photos.validation}


class TestSplit:
    def test_classes_are_the_sub_folders_in_alphabetical_order(self, photos: Path) -> None:
        found = read_photos(photos)
        assert found.classes == ("blue", "green", "red") == tuple(sorted(COLOURS))
        for photo in found.training + found.validation:
            assert photo.path.parent.name == found.classes[photo.class_index]
        assert found.skipped == ()

    @pytest.mark.parametrize(
        ("share", "held_out"),
        [(0.001, 1), (0.1, 1), (0.2, 2), (0.5, 5), (0.51, 5), (0.9, 9), (0.99, 9)],
    )
    def test_each_class_gives_its_share_and_keeps_a_photo_on_either_side(
        self, tmp_path: Path, share: float, held_out: int
    ) -> None:
        found = read_photos(make_folder(tmp_path, cat=10, dog=10), share)
        assert Counter(photo.class_index for photo in found.validation) == {0: held_out, 1: held_out}
        assert Counter(photo.class_index for photo in found.training) == {0: 10 - held_out, 1: 10 - held_out}
        training, validation = sides(found)
        assert not training & validation
        assert len(training | validation) == 20

    def test_two_photos_a_class_suffice(self, tmp_path: Path) -> None:
        found = read_photos(make_folder(tmp_path, cat=2, dog=3), 0.99)
        assert Counter(photo.class_index for photo in found.training) == {0: 1, 1: 1}
        assert Counter(photo.class_index for photo in found.validation) == {0: 1, 1: 2}

    def test_the_seed_decides(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=10, dog=10)
        assert read_photos(tmp_path, seed=3) == read_photos(str(tmp_path), seed=3)
        splits = {frozenset(sides(read_photos(tmp_path, seed=seed))[1]) for seed in range(5)}
        assert len(splits) == 5

    def test_names_do_not_decide(self, tmp_path: Path) -> None:
        make_folder(tmp_path / "one", cat=10, dog=10)
        before = read_photos(tmp_path / "one")
        for number, path in enumerate(sorted((tmp_path / "one").rglob("*.png"), reverse=True)):
            target = tmp_path / "two" / path.parent.name / str(number % 3) / f"{number}.WebP"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        after = read_photos(tmp_path / "two")
        assert sides(after) == sides(before)
        assert after.sha256 == before.sha256

    def test_adding_a_photo_moves_one_at_most(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=12, dog=12)
        before = read_photos(tmp_path, 0.3)
        for i in range(8):
            colour_picture("blue", seed=5000 + i, side=8).save(tmp_path / "cat" / f"new{i}.png")
            after = read_photos(tmp_path, 0.3)
            assert after.sha256 != before.sha256
            assert len(sides(before)[0] & sides(after)[1]) + len(sides(before)[1] & sides(after)[0]) <= 1
            before = after

    def test_copies_never_stand_on_both_sides(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=6, dog=6)
        alone = sides(read_photos(tmp_path, 0.5))
        for path in sorted((tmp_path / "cat").iterdir()):
            shutil.copy(path, path.with_name(f"copy of {path.name}"))
        shutil.copy(tmp_path / "cat" / "000.png", tmp_path / "dog" / "a cat.png")
        found = read_photos(tmp_path, 0.5)
        assert sides(found) == alone
        assert (tmp_path / "dog" / "a cat.png", f"the same as {Path('cat', '000.png')}") in found.skipped
        assert len(found.skipped) == 7

    def test_the_digest_tells_all_that_matters(self, tmp_path: Path) -> None:
        digests = [
            read_photos(make_folder(tmp_path / "a", cat=4, dog=4)).sha256,
            read_photos(tmp_path / "a", seed=1).sha256,
            read_photos(tmp_path / "a", 0.5).sha256,
            read_photos(make_folder(tmp_path / "b", cat=4, elk=4)).sha256,
            read_photos(make_folder(tmp_path / "c", cat=4, dog=5)).sha256,
        ]
        assert len(set(digests)) == len(digests)


class TestFolders:
    def test_nested_hidden_and_stray_files(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=3, dog=3)
        (tmp_path / "cat" / "indoors" / "dog").mkdir(parents=True)
        colour_picture("blue", seed=1).save(tmp_path / "cat" / "indoors" / "dog" / "x.png")
        colour_picture("blue", seed=2).save(tmp_path / "cat" / ".hidden.png")
        (tmp_path / ".thumbnails").mkdir()
        colour_picture("blue", seed=3).save(tmp_path / ".thumbnails" / "x.png")
        colour_picture("blue", seed=4).save(tmp_path / "stray.png")
        found = read_photos(tmp_path)
        assert found.classes == ("cat", "dog")
        every = found.training + found.validation
        assert Counter(photo.class_index for photo in every) == {0: 4, 1: 3}
        assert found.skipped == ((tmp_path / "stray.png", "in no class's sub-folder"),)

    def test_a_file_that_cannot_be_read_is_skipped(self, tmp_path: Path) -> None:
        if not Path("/proc/self/mem").is_file():
            pytest.skip("no file here that exists and cannot be read, even by root")
        make_folder(tmp_path, cat=3, dog=3)
        (tmp_path / "cat" / "broken.png").symlink_to("/proc/self/mem")
        found = read_photos(tmp_path)
        assert len(found.training + found.validation) == 6
        ((path, reason),) = found.skipped
        assert path.name == "broken.png"
        assert reason == f"cannot read ({os.strerror(errno.EIO)})"

    def test_names_of_photos_need_not_be_utf_8(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=3, dog=3)
        name = os.fsdecode(b"gr\xfcn.png")
        colour_picture("green", seed=9).save(tmp_path / "cat" / name)
        found = read_photos(tmp_path)
        assert name in [photo.path.name for photo in found.training + found.validation]

    @pytest.mark.parametrize(
        "name",
        [b"gr\xfcn", b"two\nlines", b" padded"],
        ids=["not-utf-8", "two-lines", "space"],
    )
    def test_a_class_needs_a_name_that_can_be_a_label(self, tmp_path: Path, name: bytes) -> None:
        make_folder(tmp_path, **{"cat": 3, os.fsdecode(name): 3})
        with pytest.raises(InputError, match="rename the folder"):
            read_photos(tmp_path)

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ({"cat": 3, "dog": 0}, "dog: 0 photos .*each class needs 2"),
            ({"cat": 1, "dog": 3}, "cat: 1 photo .*each class needs 2"),
            ({"cat": 3}, r"has one sub-folder \(cat\); training needs two classes"),
            ({}, "has no sub-folders"),
        ],
        ids=["empty", "one-photo", "one-class", "no-class"],
    )
    def test_too_little(self, tmp_path: Path, counts: dict[str, int], message: str) -> None:
        make_folder(tmp_path, **counts)
        with pytest.raises(InputError, match=message):
            read_photos(tmp_path)

    def test_copies_count_once(self, tmp_path: Path) -> None:
        make_folder(tmp_path, cat=3, dog=1)
        shutil.copy(tmp_path / "dog" / "000.png", tmp_path / "dog" / "001.png")
        with pytest.raises(InputError, match="dog: 1 photo "):
            read_photos(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such folder"):
            read_photos(tmp_path / "photos")
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="is a file, not a folder"):
            read_photos(tmp_path / "file")


class TestPixels:
    @pytest.mark.parametrize(
        ("family", "height", "width", "larger"),
        [
            ("mobilenet_v2", 32, 32, (37, 37)),
            ("mobilenet_v2", 64, 96, (73, 110)),
            ("mobilenet_v3_small", 33, 47, (38, 54)),
            ("mobilenet_v2", 224, 224, (256, 256)),
        ],
    )
    def test_validation_sees_what_inference_sees(
        self, photos: Path, tmp_path: Path, family: str, height: int, width: int, larger: tuple[int, int]
    ) -> None:
        preprocessing = Architecture(family, height, width, output_stride=4).preprocessing
        found = read_photos(photos)
        usable, training, validation = decode_photos(found, preprocessing, tmp_path)
        assert usable == found
        assert training.shape == (30, *larger, 3)
        assert training.dtype == validation.dtype == np.uint8
        assert len(validation) == 6
        for photo, pixels in zip(found.validation, validation, strict=True):
            np.testing.assert_array_equal(pixels, preprocessing.pixels(photo.path))

    def test_training_photos_keep_their_edges(self, tmp_path: Path) -> None:
        """At 224, inference cuts the outer eighth off; augmentation may show it."""
        framed = np.zeros((400, 400, 3), np.uint8)
        framed[:20] = framed[-20:] = framed[:, :20] = framed[:, -20:] = 255
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            for i in range(2):
                framed[200, 200] = (i, len(name), ord(name[0]))  # so that no two files are equal
                Image.fromarray(framed).save(tmp_path / name / f"{i}.png")
        preprocessing = Architecture().preprocessing
        _, training, validation = decode_photos(read_photos(tmp_path), preprocessing, tmp_path)
        assert training[:, 1, 1].min() == 255
        assert validation.max() < 255

    def test_files_that_are_no_images_are_left_out_and_named(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "a: b", cat=8, dog=8)
        for number in (0, 3, 5):
            (folder / "cat" / f"{number:03}.png").write_bytes(b"no picture %d" % number)
        (folder / "dog" / "notes.txt").write_text("and no picture")
        found = read_photos(folder, 0.5)
        usable, training, validation = decode_photos(found, SMALL, tmp_path)
        bad = dict.fromkeys(("000.png", "003.png", "005.png"), "not an image that Pillow can read")
        assert {path.name: reason for path, reason in usable.skipped} == bad | {"notes.txt": NOT_AN_IMAGE}
        assert len(usable.training) + len(usable.validation) == len(training) + len(validation) == 13
        assert usable.sha256 != found.sha256
        for photo, pixels in zip(usable.validation, validation, strict=True):
            np.testing.assert_array_equal(pixels, SMALL.pixels(photo.path))
        for photo, pixels in zip(usable.training, training, strict=True):
            np.testing.assert_array_equal(pixels, Preprocessing(37, 37, crop=1.0).pixels(photo.path))

    def test_a_class_without_pictures_is_an_error(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "photos", cat=4, dog=4)
        for path in (folder / "dog").iterdir():
            path.write_text(f"no picture, but {path.name}")
        with pytest.raises(InputError, match=r"photos.dog: too few photos that can be decoded"):
            decode_photos(read_photos(folder), SMALL, tmp_path)
