"""Collecting kept photos: sorted by what a person said, split by time, fetched once, and never half."""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, Finished, colour_picture
from kills import count_steps, die_at, forked
from PIL import Image
from watching.kept_frames import START, keeper, scene, seen

import edgeq as package
from edgeq.calibration import choose_images
from edgeq.collecting import collect
from edgeq.collecting.kept import name_of
from edgeq.collecting.photo_sources import _REMOTE
from edgeq.collecting.splitting import BLOCK_S, GAP_S, side_of
from edgeq.comparison.dataset import find_labels
from edgeq.errors import InputError
from edgeq.photo_folders import class_folder
from edgeq.preprocessing import Preprocessing
from edgeq.report.collecting import collection_lines
from edgeq.training.photos import read_photos

Run = Callable[..., Finished]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Six photos of one block of training and two of evaluation; every second one is labelled red."""
    folder = tmp_path / "kept"
    training, evaluation = (next_block(START, side) for side in ("training", "evaluation"))
    with keeper(folder) as keep:
        for number in range(8):
            time = (training if number < 6 else evaluation) + 60 * number
            keep.keep(seen(number, time=time), "red" if number % 2 else None)
    return folder


def next_block(time: float, side: str) -> float:
    """The middle of the next block for that side."""
    middles = (BLOCK_S * (time // BLOCK_S + number + 0.5) for number in itertools.count(1))
    return next(middle for middle in middles if side_of(middle, 0.2) == side)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def places(folder: Path) -> dict[str, int]:
    """The number of photos in each visible folder."""
    parents = [path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    return {parent: parents.count(parent) for parent in sorted(set(parents))}


class TestSorting:
    def test_labelled_ones_by_class_and_side_and_the_others_apart(self, kept: Path, tmp_path: Path) -> None:
        before = files(kept)
        found = collect(kept, tmp_path / "photos")
        assert places(tmp_path / "photos") == {"evaluation/red": 1, "training/red": 3, "unlabelled": 4}
        assert (found.fetched, found.evaluation, found.training, found.unlabelled) == (8, {"red": 1}, {"red": 3}, 4)
        assert (found.removed, found.moved, found.left_out, found.problems) == (0, 0, 0, ())
        assert files(kept) == before
        digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "photos").rglob("*.jpg")}
        assert digests == {hashlib.sha256(scene(number)).hexdigest() for number in range(8)}

    def test_only_what_is_new_is_fetched(self, kept: Path, tmp_path: Path) -> None:
        out = tmp_path / "photos"
        collect(kept, out)
        first = files(out)
        assert collect(kept, out).fetched == 0
        assert files(out) == first
        moved, deleted = sorted((out / "unlabelled").iterdir())[:2]
        (out / "training" / "green").mkdir()
        moved.rename(out / "training" / "green" / moved.name)  # a person sorts by hand
        deleted.unlink()
        with keeper(kept) as keep:
            keep.confirm(moved.name, "blue")
            keep.keep(seen(20, time=next_block(START, "training")), "red")
        found = collect(kept, out)
        assert (found.fetched, found.moved) == (1, 0)
        assert places(out) == {"evaluation/red": 1, "training/green": 1, "training/red": 4, "unlabelled": 2}

    def test_a_label_that_comes_later_moves_the_photo(self, kept: Path, tmp_path: Path) -> None:
        out = tmp_path / "photos"
        collect(kept, out)
        first = sorted((out / "unlabelled").iterdir())[0]
        with keeper(kept) as keep:
            keep.confirm(first.name, "Grün")
        found = collect(kept, out)
        assert (found.fetched, found.moved, found.training) == (0, 1, {"Grün": 1, "red": 3})
        assert (out / "training" / "Grün" / first.name).is_file()
        assert collect(kept, out).moved == 0

    def test_remove_takes_only_what_is_safe(self, kept: Path, tmp_path: Path) -> None:
        damaged = sorted(kept.glob("*.jpg"))[2]
        damaged.write_bytes(b"other bytes")
        found = collect(kept, tmp_path / "photos", remove=True)
        assert found.problems == (f"{damaged.name}: is damaged",)
        assert (found.fetched, found.removed) == (7, 7)
        assert {path.name for path in kept.glob("2026*")} == {damaged.name, damaged.with_suffix(".json").name}

    def test_two_boards_with_a_photo_of_one_name(self, tmp_path: Path) -> None:
        for board in range(2):
            with keeper(tmp_path / f"{board}") as keep:
                keep.keep(seen(board, time=START))
        collect(tmp_path / "0", tmp_path / "photos")
        found = collect(tmp_path / "1", tmp_path / "photos", remove=True)
        assert found.problems == (f"{name_of(START, 1)}.jpg: another photo of this name was collected before",)
        assert found.removed == 0

    def test_its_report_names_commands_that_a_shell_takes(self, kept: Path, tmp_path: Path) -> None:
        out = tmp_path / "my photos"
        lines = collection_lines(collect(kept, out), 80)
        commands = [shlex.split(line) for line in lines[lines.index("Next:") + 1 :]]
        assert [command[-1] for command in commands] == [str(out / "unlabelled"), str(out / "evaluation")]
        assert "without a label, for calibration and agreement, not for accuracy: 4" in lines

    def test_damaged_records(self, kept: Path, tmp_path: Path) -> None:
        broken = sorted(kept.glob("*.json"))[0]
        broken.write_text("{}")
        found = collect(kept, tmp_path / "photos")
        assert (found.fetched, found.problems) == (7, (f"{broken.name}: is damaged (has no time)",))

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("[" * 100_000, "nested too deeply"),
            (json.dumps({"time": 1, "sha256": "0" * 64, "reasons": 5}), "has reasons or predictions that are no list"),
        ],
    )
    def test_records_of_a_hostile_board(self, kept: Path, tmp_path: Path, content: str, problem: str) -> None:
        broken = sorted(kept.glob("*.json"))[0]
        broken.write_text(content)
        found = collect(kept, tmp_path / "photos")
        assert (found.fetched, found.problems) == (7, (f"{broken.name}: is damaged ({problem})",))
        with keeper(kept) as keep:  # starts with the folder as it is
            assert keep.size_bytes

    def test_damaged_records_of_an_earlier_run(self, kept: Path, tmp_path: Path) -> None:
        collect(kept, tmp_path / "photos")
        records = tmp_path / "photos" / ".collected"
        broken = sorted(records.glob("2026*.json"))[0]
        broken.write_text("")
        (problem,) = collect(kept, tmp_path / "photos").problems
        assert problem.startswith(f"{broken}: is damaged (")
        broken.unlink()
        found = collect(kept, tmp_path / "photos")
        assert (found.fetched, found.problems) == (1, ())
        (records / "settings.json").write_text("")
        with pytest.raises(InputError, match=r"settings\.json: is damaged; write"):
            collect(kept, tmp_path / "photos")

    def test_folders_that_are_not_for_it(self, kept: Path, tmp_path: Path) -> None:
        (tmp_path / "mine" / "cats").mkdir(parents=True)
        with pytest.raises(InputError, match="holds files that edgeq did not collect"):
            collect(kept, tmp_path / "mine")
        with pytest.raises(InputError, match="no such folder"):
            collect(tmp_path / "none", tmp_path / "photos")
        assert not (tmp_path / "photos").exists()
        collect(kept, tmp_path / "photos", evaluation=0.5)
        collect(kept, tmp_path / "photos")
        with pytest.raises(InputError, match=r"split with evaluation 0\.5; give the same"):
            collect(kept, tmp_path / "photos", evaluation=0.2)
        with pytest.raises(InputError, match=r"must be in 0\.\.1"):
            collect(kept, tmp_path / "other", evaluation=2)

    @pytest.mark.accept
    def test_killed_and_repeated(self, kept: Path, tmp_path: Path) -> None:
        """Killed (SIGKILL) before steps of its work on the files; the next run leaves what one run leaves."""
        collect(kept, tmp_path / "whole")
        expected = files(tmp_path / "whole")
        for name in [path.stem for path in sorted(kept.glob("*.jpg"))[3:]]:  # few photos are enough
            for suffix in (".jpg", ".json"):
                (kept / f"{name}{suffix}").unlink()
        expected = {
            name: content for name, content in expected.items() if Path(name).stem in {p.stem for p in kept.iterdir()}
        } | {".collected/settings.json": expected[".collected/settings.json"]}
        steps = count_steps(lambda: collect(kept, tmp_path / "count"), [tmp_path / "count"])
        assert steps > 20
        for step in range(1, steps + 1, 3):
            out = tmp_path / str(step)

            def killed(step: int = step, out: Path = out) -> None:
                die_at(step, [out])
                collect(kept, out)

            assert forked(killed) == -9
            collect(kept, out)
            assert files(out) == expected, step
            shutil.rmtree(out)


def test_no_command_takes_the_whole_for_classes(kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    collect(kept, out)
    readers: dict[str, Callable[[], object]] = {
        "evaluation": lambda: find_labels(out, 4),  # the folder has as many sub-folders as there are classes
        "training": lambda: read_photos(out),
        "unlabelled": lambda: choose_images(out, Preprocessing(32, 32)),
    }
    for part, read in readers.items():
        with pytest.raises(InputError, match=rf"photos for several purposes; give .*{part}"):
            read()
    images, (note, *_) = find_labels(out / "unlabelled", 3, list(COLOURS))
    assert {image.class_index for image in images} == {None}
    assert "accuracy is not measured" in note


class TestSplit:
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.25, 0.5, 0.8, 1.0])
    def test_sides_are_apart_and_their_shares_as_asked(self, share: float) -> None:
        times = np.arange(START, START + 200 * BLOCK_S, 30.0)
        sides = np.array([side_of(time, share) for time in times])
        training, evaluation = times[sides == "training"], times[sides == "evaluation"]
        assert abs((len(times) - len(training)) / len(times) - share) < 0.01
        assert np.mean(sides == "left-out") <= share * 2 * (GAP_S + 30) / BLOCK_S
        if len(training) and len(evaluation):
            assert np.abs(training[:, None] - evaluation[None, :]).min() >= GAP_S

    def test_a_burst_never_stands_on_both_sides(self) -> None:
        for start in np.arange(START, START + 12 * BLOCK_S, 7.0):
            burst = {side_of(start + step, 0.2) for step in range(0, GAP_S, 5)}
            assert not {"training", "evaluation"} <= burst


class TestClassFolders:
    @pytest.mark.parametrize("label", ["red", "tabby cat", "Grün", "日本", "a.b", "x-y_z", "n02123045", "0"])
    def test_plain_names_stay(self, label: str) -> None:
        assert class_folder(label) == label

    @pytest.mark.parametrize(
        "label",
        [
            "a/b",
            "a:b",
            "..",
            ".",
            "",
            ".hidden",
            "CON",
            "nul.txt",
            "x" * 300,
            "語" * 99,
            "dot.",
            "a\\b",
            "a\0b",
            "\ud800",
        ],
    )
    def test_others_become_safe_and_stay_apart(self, label: str, tmp_path: Path) -> None:
        name = class_folder(label)
        assert class_folder(name) == name
        (tmp_path / name).mkdir()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert not name.startswith(".")
        assert len({class_folder(other) for other in ("a/b", "a:b", "a_b")}) == 3

    def test_composed_and_decomposed_letters_are_one_class(self) -> None:
        assert class_folder("Gru\u0308n") == class_folder("Grün")

    def test_comparison_finds_the_class_of_a_label_that_is_no_folder_name(self, tmp_path: Path) -> None:
        labels = ["and/or", "xor"]
        for label in labels:
            (tmp_path / class_folder(label)).mkdir()
            colour_picture("red", 1).save(tmp_path / class_folder(label) / "a.jpg")
        images, (note, *_) = find_labels(tmp_path, 2, labels)
        assert [image.class_index for image in images] == [0, 1]
        assert note == "true classes from the sub-folders, by the models' labels"


class TestSources:
    @pytest.mark.parametrize(
        ("text", "host", "folder"),
        [
            ("pi@raspberrypi:kept", "pi@raspberrypi", "kept"),
            ("kitchen:/data/a:b", "kitchen", "/data/a:b"),
            ("pi@10.0.0.7:2222:kept", "pi@10.0.0.7:2222", "kept"),
            ("pi@[::1]:22:~/kept", "pi@[::1]:22", "~/kept"),
            ("pi@host:2222", "pi@host", "2222"),
        ],
    )
    def test_addresses(self, text: str, host: str, folder: str) -> None:
        found = _REMOTE.fullmatch(text)
        assert found
        assert (found["host"], found["folder"]) == (host, folder)

    @pytest.mark.parametrize("text", ["kept", "./a:b", "/data/kept", "../pi@host:kept", "host:"])
    def test_folders(self, text: str) -> None:
        assert _REMOTE.fullmatch(text) is None


@pytest.mark.slow
def test_the_whole_loop(colour_models: Path, colour_network: Path, tmp_path: Path, edgeq: Run) -> None:
    """Watch and keep; confirm some labels; collect; calibrate on the unlabelled ones and evaluate on the others."""
    kept, photos = tmp_path / "kept", tmp_path / "photos"
    model = colour_models / "colours_int8.tflite"
    watch_and_label(kept, package.Model(model))
    done = edgeq("collect", kept, photos)
    assert (done.code, done.err) == (0, "")
    assert "48 fetched" in done.out
    assert f"  edgeq compare --data {photos / 'evaluation'}" in done.out
    assert set(places(photos)) == {*(f"{s}/{c}" for s in ("evaluation", "training") for c in COLOURS), "unlabelled"}
    done = edgeq(
        *("convert", colour_network, "--int8", "--calib", photos / "unlabelled", "--labels", photos / "training"),
        *("--normalize", "-1..1", "--out", tmp_path / "models"),
    )
    assert done.code == 0, done.err
    made = sorted((tmp_path / "models").glob("*.tflite"))
    assert len(made) == 2
    done = edgeq("compare", *made, "--data", photos / "evaluation", "--json", "-")
    found = json.loads(done.out)
    assert done.code == 0, done.err
    assert found["candidate"]["top1"] == 1.0
    done = edgeq("compare", *made, "--data", photos / "unlabelled", "--json", "-")
    assert json.loads(done.out)["candidate"]["top1"] is None


def watch_and_label(folder: Path, model: package.Model) -> None:
    """Keep 48 frames, in blocks of training and of evaluation; a person confirms every second one."""
    colours = [list(COLOURS)[number // 2 % 3] for number in range(48)]

    class Frames:
        name, comes_back, keeps_all = "frames", False, True

        def frames(self) -> Iterator[Image.Image]:
            yield from (colour_picture(colour, number) for number, colour in enumerate(colours))

        def close(self) -> None: ...

    starts = [next_block(START, side) for side in ("training", "evaluation")]
    with package.Keeper(folder, model, every_s=1, free_bytes=0) as keep:
        for number, item in enumerate(package.watch(Frames(), model)):
            assert isinstance(item, package.Observed)
            photo = keep.offer(replace(item, time=starts[number // 24] + 20 * (number % 24)))
            assert photo is not None
            if number % 2:
                keep.confirm(photo, colours[number])
