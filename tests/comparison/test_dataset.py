"""Which images are compared, and where their true classes come from."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from pictures import mutated

from edgeq.comparison import find_labels, read_images
from edgeq.errors import InputError


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Make empty files below a folder (nothing here opens them) and give the folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def classes(folder: Path, count: int, names: tuple[str, ...] = ()) -> dict[str, int | None]:
    """Class by file name."""
    images, _ = find_labels(folder, count, names)
    return {image.path.relative_to(folder).as_posix(): image.class_index for image in images}


class TestImages:
    def test_are_all_files_below_sorted(self, touch: Callable[..., Path]) -> None:
        folder = touch("b/2.jpg", "b/1.png", "a.webp", "c/d/e.jpg")
        assert read_images(folder)[0] == [folder / name for name in ("a.webp", "b/1.png", "b/2.jpg", "c/d/e.jpg")]

    def test_hidden_files_and_the_labels_file_are_none(self, touch: Callable[..., Path]) -> None:
        folder = touch(".DS_Store", ".cache/x.jpg", "labels.csv", "1.jpg", "sub/labels.csv")
        assert read_images(folder) == ([folder / "1.jpg"], [folder / "sub/labels.csv"])  # the latter is sub's own

    @pytest.mark.parametrize("files", [(), ("labels.csv",), (".hidden",)], ids=["none", "labels-only", "hidden"])
    def test_there_have_to_be_some(self, files: tuple[str, ...], touch: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match="holds no images"):
            read_images(touch(*files))

    @pytest.mark.parametrize("labelled", [True, False])
    def test_other_files_are_counted_and_name_no_class(self, labelled: bool, touch: Callable[..., Path]) -> None:
        folder = touch("a/1.JPG", "b/2.png", "notes.txt", "docs/thesis.pdf", "b/Thumbs.db")
        if labelled:
            (folder / "labels.csv").write_text("a/1.JPG,0\nb/2.png,1\n")
        images, notes = find_labels(folder, 2)
        assert [image.class_index for image in images] == [0, 1]
        assert notes[1:] == ["skipped 3 files that are not images"]

    def test_a_labels_file_may_name_any_file(self, touch: Callable[..., Path]) -> None:
        folder = touch("a.jpg", "b.image")
        (folder / "labels.csv").write_text("b.image,1\n")
        images, _ = find_labels(folder, 2)
        assert [image.path.name for image in images] == ["b.image"]

    def test_the_folder_has_to_be_one(self, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg")
        for wrong, message in ((folder / "nowhere", "no such folder"), (folder / "1.jpg", "is a file, not a folder")):
            with pytest.raises(InputError, match=message):
                read_images(wrong)


class TestLabelsFile:
    def test_says_the_classes(self, touch: Callable[..., Path]) -> None:
        folder = touch("b.jpg", "a.jpg", "c/d.jpg")
        (folder / "labels.csv").write_text("file,class_index\nb.jpg,2\na.jpg,0\nc/d.jpg,1\n")
        images, (source, *_) = find_labels(folder, 3)
        assert [(image.path, image.class_index) for image in images] == [
            (folder / "a.jpg", 0),
            (folder / "b.jpg", 2),
            (folder / "c" / "d.jpg", 1),
        ]
        assert source == "true classes from labels.csv"

    def test_wins_over_folder_names(self, touch: Callable[..., Path]) -> None:
        folder = touch("cat/1.jpg", "dog/2.jpg")
        (folder / "labels.csv").write_text("cat/1.jpg,1\ndog/2.jpg,0\n")
        assert classes(folder, 2, ("cat", "dog")) == {"cat/1.jpg": 1, "dog/2.jpg": 0}

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("1.jpg,1\n", id="without-heading"),
            pytest.param("file,class_index\r\n1.jpg,1\r\n", id="windows-line-ends"),
            pytest.param("\ufefffile,class_index\n1.jpg,1\n", id="byte-order-mark"),
            pytest.param("file,class_index,name\n1.jpg,1,dog\n", id="more-columns"),
            pytest.param('file,class_index\n"1.jpg"," 1 "\n\n', id="quotes-spaces-and-an-empty-line"),
            pytest.param("1.jpg,1", id="no-line-end"),
        ],
    )
    def test_as_spreadsheets_write_it(self, text: str, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg")
        (folder / "labels.csv").write_bytes(text.encode())
        assert classes(folder, 2) == {"1.jpg": 1}

    def test_a_comma_in_a_name(self, touch: Callable[..., Path]) -> None:
        folder = touch("cats, dogs.jpg")
        (folder / "labels.csv").write_text('"cats, dogs.jpg",1\n')
        assert classes(folder, 2) == {"cats, dogs.jpg": 1}

    def test_only_the_files_it_names_and_that_are_there_count(self, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg", "2.jpg")
        (folder / "labels.csv").write_text("1.jpg,0\nelsewhere.jpg,1\n")
        assert classes(folder, 2) == {"1.jpg": 0}
        assert find_labels(folder, 2)[1][1] == "left out 1 file that labels.csv does not name"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("1.jpg,0\n1.jpg\n", "line 2: must be a file name and a class index", id="one-column"),
            pytest.param("1.jpg,cat\n", "line 1: must be a file name and a class index", id="name-instead-of-index"),
            pytest.param("1.jpg,-1\n", "line 1: must be a file name and a class index", id="negative"),
            pytest.param("1.jpg,1.0\n", "line 1: must be a file name and a class index", id="fraction"),
            pytest.param("1.jpg,²\n", "line 1: must be a file name and a class index", id="superscript"),
            pytest.param("file,class_index\n1.jpg,3\n", "line 2: class 3, but the models have 3", id="too-high"),
            pytest.param("other.jpg,0\n", "none of the files that it names exists", id="none-there"),
            pytest.param("", "none of the files that it names exists", id="empty"),
            pytest.param("1.jpg,0\n1.jpg,0\n", "line 2: names 1.jpg a second time", id="twice"),
        ],
    )
    def test_that_makes_no_sense(self, text: str, message: str, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg")
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message) as caught:
            find_labels(folder, 3)
        assert str(caught.value).startswith(f"{folder / 'labels.csv'}")

    @pytest.mark.parametrize(
        "content", ["café.jpg,1\n".encode("latin-1"), "1.jpg,1\n".encode("utf-16")], ids=["latin-1", "utf-16"]
    )
    def test_that_is_no_utf8(self, content: bytes, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg")
        (folder / "labels.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"labels\.csv, line 1: must be"):
            find_labels(folder, 3)

    def test_that_is_utf8_only_in_parts(self, touch: Callable[..., Path]) -> None:
        """Rather than to leave out the photo that cannot be found."""
        folder = touch("1.jpg", "café.jpg")
        (folder / "labels.csv").write_bytes("1.jpg,0\ncafé.jpg,1\n".encode("latin-1"))
        with pytest.raises(InputError, match=r"labels\.csv, line 2: must be UTF-8 text"):
            find_labels(folder, 3)

    def test_that_cannot_be_read(self, touch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder = touch("1.jpg", "labels.csv")

        def refuse(*arguments: object, **keywords: object) -> NoReturn:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_text", refuse)
        with pytest.raises(InputError, match=r"labels\.csv: cannot read labels \(.*Permission denied\)"):
            find_labels(folder, 3)


class TestAFileOfItsOwn:
    """``--data`` may be such a file, as `edgeq train` writes it for the photos that it held out."""

    def test_names_the_images(self, touch: Callable[..., Path]) -> None:
        folder = touch("b.jpg", "a.jpg", "c/d.jpg", "not-named.jpg")
        (folder / "flowers.validation.csv").write_text("file,class_index\nb.jpg,2\nc/d.jpg,1\n")
        images, notes = find_labels(folder / "flowers.validation.csv", 3, ("x", "y", "z"))
        assert [(image.path, image.class_index) for image in images] == [
            (folder / "b.jpg", 2),
            (folder / "c" / "d.jpg", 1),
        ]
        assert notes == ["true classes from flowers.validation.csv"]

    def test_is_read_where_it_lies_whatever_the_current_folder(
        self, touch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = touch("photos/1.jpg", "photos/2.jpg", "networks/held_out.CSV")
        absolute = folder / "photos" / "2.jpg"
        (folder / "networks" / "held_out.CSV").write_text(f"../photos/1.jpg,0\n{absolute},1\n")
        monkeypatch.chdir(folder / "photos")
        images, _ = find_labels("../networks/held_out.CSV", 2)
        assert [image.path.resolve() for image in images] == [folder / "photos" / "1.jpg", absolute]

    def test_goes_before_a_labels_file_beside_it(self, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg", "2.jpg")
        (folder / "labels.csv").write_text("1.jpg,0\n2.jpg,0\n")
        (folder / "other.csv").write_text("2.jpg,1\n")
        images, _ = find_labels(folder / "other.csv", 2)
        assert [(image.path.name, image.class_index) for image in images] == [("2.jpg", 1)]

    def test_names_need_not_be_utf8(self, touch: Callable[..., Path]) -> None:
        """As files on Linux have them; `edgeq train` writes such names byte by byte."""
        name = os.fsdecode("café.jpg".encode("latin-1"))
        try:
            folder = touch(name)
        except OSError:
            pytest.skip("this file system takes UTF-8 only")
        (folder / "held_out.csv").write_bytes("café.jpg,1\n".encode("latin-1"))
        images, _ = find_labels(folder / "held_out.csv", 2)
        assert [image.path.name for image in images] == [name]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("1.jpg,9\n", "line 1: class 9, but the models have 3", id="too-high"),
            pytest.param(
                "other.jpg,0\n", "none of the files that it names exists; names are relative", id="none-there"
            ),
            pytest.param(f"{'x' * 300},0\n", "none of the files that it names exists", id="too-long-a-name"),
            pytest.param(f"{'x' * 200_000},0\n", "cannot read labels", id="no-table-at-all"),
            pytest.param("1.jpg\0,0\n", "mine.csv: ", id="nul"),
            pytest.param("name,age\nAnn,43\n", "line 1: must be a file name and a class index", id="another-table"),
        ],
    )
    def test_that_makes_no_sense(self, text: str, message: str, touch: Callable[..., Path]) -> None:
        folder = touch("1.jpg")
        (folder / "mine.csv").write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            find_labels(folder / "mine.csv", 3)
        assert str(caught.value).startswith(f"{folder / 'mine.csv'}")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.csv", r"missing\.csv: cannot read labels \(No such file"),
            ("1.jpg", r"1\.jpg: is a file, not a folder"),
        ],
    )
    def test_that_is_none(self, name: str, message: str, touch: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match=message):
            find_labels(touch("1.jpg") / name, 3)

    def test_a_folder_may_be_called_so(self, touch: Callable[..., Path]) -> None:
        folder = touch("all.csv/1.jpg") / "all.csv"
        assert [image.path for image in find_labels(folder, 3)[0]] == [folder / "1.jpg"]


class TestFolderNames:
    @pytest.mark.parametrize(
        ("folder_name", "label"),
        [("red", "red"), ("Red", "red"), ("great_white_shark", "great white shark"), ("tabby cat", "Tabby-Cat")],
    )
    def test_are_matched_with_the_models_labels(self, folder_name: str, label: str, touch: Callable[..., Path]) -> None:
        folder = touch(f"{folder_name}/1.jpg")
        images, (source, *_) = find_labels(folder, 4, ("a", "b", label, "c"))
        assert [image.class_index for image in images] == [2]
        assert source == "true classes from the sub-folders, by the models' labels"

    def test_the_models_order_counts_not_the_alphabet(self, touch: Callable[..., Path]) -> None:
        folder = touch("cat/1.jpg", "dog/2.jpg")
        assert classes(folder, 2, ("dog", "cat")) == {"cat/1.jpg": 1, "dog/2.jpg": 0}

    def test_some_of_the_classes_suffice(self, touch: Callable[..., Path]) -> None:
        folder = touch("d/1.jpg", "b/deeper/2.jpg")
        assert classes(folder, 4, ("a", "b", "c", "d")) == {"b/deeper/2.jpg": 1, "d/1.jpg": 3}

    def test_images_beside_the_folders_have_no_class(self, touch: Callable[..., Path]) -> None:
        folder = touch("a/1.jpg", "b/2.jpg", "loose.jpg")
        assert classes(folder, 2, ("a", "b")) == {"a/1.jpg": 0, "b/2.jpg": 1, "loose.jpg": None}

    @pytest.mark.parametrize(
        ("folders", "names"),
        [(("car", "ship"), ("automobile", "ship")), (("crane", "ship"), ("crane", "ship", "crane"))],
        ids=["one-is-no-label", "one-is-two-classes"],
    )
    def test_a_name_that_is_not_one_class_is_never_guessed(
        self, folders: tuple[str, ...], names: tuple[str, ...], touch: Callable[..., Path]
    ) -> None:
        images, (said, *_) = find_labels(touch(*(f"{f}/1.jpg" for f in folders)), len(names), names)
        assert [image.class_index for image in images] == [None, None]
        assert folders[0] in said

    def test_without_labels_the_alphabet_decides_as_in_keras(self, touch: Callable[..., Path]) -> None:
        folder = touch("rose/1.jpg", "daisy/2.jpg", "tulip/3.jpg")
        images, (source, *_) = find_labels(folder, 3)
        assert [image.class_index for image in images] == [0, 1, 2]
        assert [image.path.parent.name for image in images] == ["daisy", "rose", "tulip"]
        assert source == "true classes from the sub-folders, in alphabetical order"

    @pytest.mark.parametrize(
        ("files", "count", "names"),
        [
            pytest.param(("a/1.jpg", "b/1.jpg"), 3, (), id="fewer-folders-than-classes"),
            pytest.param(("a/1.jpg", "b/1.jpg", "c/1.jpg"), 2, (), id="more-folders-than-classes"),
            pytest.param(("a/1.jpg", "x/1.jpg"), 3, ("a", "b", "c"), id="a-folder-that-is-no-label"),
            pytest.param(("1.jpg", "2.jpg"), 2, ("a", "b"), id="no-folders"),
        ],
    )
    def test_unknown(
        self, files: tuple[str, ...], count: int, names: tuple[str, ...], touch: Callable[..., Path]
    ) -> None:
        images, (source, *_) = find_labels(touch(*files), count, names)
        assert len(images) == len(files)
        assert {image.class_index for image in images} == {None}
        assert source.endswith("so accuracy is not measured")


def test_damaged_labels_are_read_or_refused(photos: Path, tmp_path: Path) -> None:
    """Three hundred mutations of a labels.csv: never another exception than an `InputError` of one line."""
    folder, rng = tmp_path / "photos", random.Random(0)
    shutil.copytree(photos, folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    good = ("file,class_index\n" + "".join(f"{name},{i % 3}\n" for i, name in enumerate(names))).encode()
    found = []
    for _ in range(300):
        (folder / "labels.csv").write_bytes(mutated(good, rng, [good]))
        found.append(reading(folder))
    assert 10 < found.count("read") < 290
    assert not any("\n" in said for said in found)


def reading(folder: Path) -> str:
    """``read``, or why the labels were refused."""
    try:
        find_labels(folder, 3, ("blue", "green", "red"))
    except InputError as error:
        return str(error)
    return "read"
