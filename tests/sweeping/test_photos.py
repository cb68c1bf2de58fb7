"""How photos are split: those to train on, those that choices use, and those that no choice uses."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from conftest import colour_picture

from edgeq.comparison import find_labels
from edgeq.errors import InputError
from edgeq.progress import no_progress
from edgeq.sweeping import SweepPlan
from edgeq.sweeping.photos import find_photos
from edgeq.training import read_photos


def no_names() -> NoReturn:
    raise AssertionError("the names are not needed")


def test_each_class_is_on_three_sides(photos: Path, tmp_path: Path) -> None:
    found = find_photos(photos, SweepPlan(test_share=0.25), no_names, no_progress)
    assert (found.classes, found.training) == (3, 36 - len(found.validation) - len(found.test))
    assert [sorted(index for _, index in side).count(1) for side in (found.validation, found.test)] == [2, 3]
    assert not {path for path, _ in found.validation} & {path for path, _ in found.test}
    lists = found.write_lists(tmp_path)
    for path, side in zip(lists, (found.validation, found.test), strict=True):
        images, _ = find_labels(path, 3)
        assert {(image.path.resolve(), image.class_index) for image in images} == set(side)


def test_a_training_sees_the_same_split(photos: Path) -> None:
    with_test, without = read_photos(photos, 0.2, 7, test_share=0.25), read_photos(photos, 0.2, 7)
    found = find_photos(photos, SweepPlan(test_share=0.25, seed=7), no_names, no_progress)
    assert found.sha256 == with_test.sha256 != without.sha256
    assert {path for path, _ in found.test} == {photo.path for photo in with_test.test}
    assert without.test == ()


def test_a_class_needs_a_photo_on_each_side(tmp_path: Path) -> None:
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        for number in range(2):
            colour_picture(name, 2 * len(name) + number).save(tmp_path / name / f"{number}.png")
    with pytest.raises(InputError, match=r"blue: 2 photos .*each class needs 3"):
        find_photos(tmp_path, SweepPlan(), no_names, no_progress)


def test_photos_of_imagenet_s_classes(tmp_path: Path) -> None:
    plan = SweepPlan(training=None, test_share=0.3)
    for number in range(10):
        (tmp_path / f"{number}").mkdir()
        colour_picture("red", number).save(tmp_path / f"{number}" / "a.png")
    with pytest.raises(InputError, match=r"needs labels\.csv, or sub-folders named after"):
        find_photos(tmp_path, plan, lambda: ["tench"] * 1000, no_progress)
    (tmp_path / "labels.csv").write_text("".join(f"{i}/a.png,{100 * i}\n" for i in range(10)))
    found = find_photos(tmp_path, plan, no_names, no_progress)
    assert (found.classes, found.training, len(found.validation), len(found.test)) == (1000, 0, 7, 3)
    assert sorted([*found.validation, *found.test]) == [(tmp_path / f"{i}" / "a.png", 100 * i) for i in range(10)]
    other = find_photos(tmp_path, SweepPlan(training=None, test_share=0.3, seed=1), no_names, no_progress)
    assert other.test != found.test
