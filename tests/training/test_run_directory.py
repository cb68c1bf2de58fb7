"""What stays of a training that was interrupted, and what becomes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import InputError
from edgeq.training import Epoch, History, can_resume
from edgeq.training.phases import PhaseSettings
from edgeq.training.run_directory import RunDirectory

SETTINGS: dict[str, Any] = {"seed": 1, "sizes": (3, 4), "photos_sha256": "ab"}


class FakePhase:
    """Does what a phase does, to a counter instead of a network."""

    def __init__(self, name: str = "head", epochs: int = 3, diverges_in: int = 0) -> None:
        self.name, self.epochs_done, self.took_best = name, 0, False
        self.settings = PhaseSettings(epochs, 0.5, 0.0, 1)
        self.diverges_in = diverges_in

    @property
    def finished(self) -> bool:
        return self.epochs_done >= self.settings.epochs

    def train_epoch(self, examples: object, validate: object, progress: Callable[[int, int], None]) -> Epoch:
        self.epochs_done += 1
        progress(1, 1)
        if self.epochs_done == self.diverges_in:
            raise FloatingPointError("the loss is no number")
        return Epoch(self.name, self.epochs_done, 1.0, 0.5, 1.0, 0.5, 1.0)

    def take_best(self) -> None:
        self.took_best = True

    def save(self, path: Path) -> None:
        path.write_text(str(self.epochs_done))

    def resume(self, path: Path) -> None:
        self.epochs_done = int(path.read_text())


class Stop(BaseException):
    """An interruption."""


def run(run_directory: RunDirectory, phase: Any, stop: int = 0) -> list[tuple[str, int]]:
    """Run a phase until an epoch is announced, or to its end."""
    told: list[tuple[str, int]] = []

    def on_epoch(epoch: Epoch) -> None:
        told.append((epoch.cycle, epoch.number))
        if epoch.number == stop:
            raise Stop

    run_directory.run(phase, lambda *_: None, lambda: (1.0, 0.5), lambda *_: None, on_epoch)
    return told


def stop_at_once(*_: object) -> None:
    raise Stop


def attempt(target: Path, *work: Callable[[RunDirectory], object]) -> None:
    """A new training that does this and that."""
    with RunDirectory.enter(target, SETTINGS, resume=False) as run_directory:
        for step in work:
            step(run_directory)


def interrupted(target: Path, epochs: int = 2) -> Path:
    """Leave a training of so many epochs behind; its folder."""
    with pytest.raises(Stop):
        attempt(
            target, stop_at_once if not epochs else lambda run_directory: run(run_directory, FakePhase(), stop=epochs)
        )
    return target.with_name("m.keras.training")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "m.keras"


class TestFolder:
    def test_a_training_that_ends_leaves_nothing(self, target: Path) -> None:
        with RunDirectory.enter(target, SETTINGS, resume=False) as run_directory:
            assert run_directory.folder == target.parent / "m.keras.training"
            assert can_resume(target)
            assert run(run_directory, FakePhase()) == [("head", 1), ("head", 2), ("head", 3)]
            (run_directory.folder / "training.npy").touch()
        assert list(target.parent.iterdir()) == []
        assert not can_resume(target)

    def test_an_interruption_keeps_what_was_done(self, target: Path) -> None:
        folder = interrupted(target)
        assert can_resume(target)
        assert sorted(path.name for path in folder.iterdir()) == ["head.state.npz", "history.json", "lock"]
        kept = json.loads((folder / "history.json").read_text())
        assert [epoch["number"] for epoch in kept["epochs"]] == [1, 2]
        assert kept["settings"] == {"seed": 1, "sizes": [3, 4], "photos_sha256": "ab"}

    @pytest.mark.parametrize("error", [InputError, MemoryError, ZeroDivisionError])
    def test_a_failure_leaves_nothing_where_nothing_was_done(self, target: Path, error: type[Exception]) -> None:
        def fail(run_directory: RunDirectory) -> None:
            (run_directory.folder / "training.npy").touch()
            (run_directory.folder / "view-0.part").touch()
            raise error

        with pytest.raises(error):
            attempt(target, fail)
        assert list(target.parent.iterdir()) == []

    @pytest.mark.parametrize("done", ["epoch", "view"])
    def test_a_failure_keeps_what_was_done(self, target: Path, done: str) -> None:
        def fail(run_directory: RunDirectory) -> None:
            if done == "view":
                (run_directory.folder / "view-0.npy").touch()
            else:
                run(run_directory, FakePhase(epochs=1))
            raise InputError("the disk is full")

        with pytest.raises(InputError, match="full"):
            attempt(target, fail)
        assert can_resume(target)

    @pytest.mark.parametrize("files", [["notes.txt"], ["training.npy", "sub/x.npy"]], ids=["file", "folder"])
    @pytest.mark.parametrize("resume", [False, True])
    def test_a_folder_of_others_is_left_alone(self, target: Path, files: list[str], resume: bool) -> None:
        folder = target.parent / "m.keras.training"
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        with pytest.raises(InputError, match=re.escape(str(folder))):
            RunDirectory.enter(target, SETTINGS, resume)
        assert all((folder / name).exists() for name in files)

    def test_where_none_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot write"):
            RunDirectory.enter(tmp_path / "file" / "m.keras", SETTINGS, resume=False)
        (tmp_path / "m.keras.training").touch()
        with pytest.raises(InputError, match="cannot write"):
            RunDirectory.enter(tmp_path / "m.keras", SETTINGS, resume=False)


class TestResume:
    def test_it_goes_on_after_the_last_epoch(self, target: Path) -> None:
        interrupted(target)
        with RunDirectory.enter(target, SETTINGS, resume=True) as run_directory:
            phase = FakePhase()
            assert run(run_directory, phase) == [("head", 3)]
            assert phase.took_best
            assert [epoch.number for epoch in run_directory.history.epochs] == [1, 2, 3]

    def test_an_epoch_whose_state_was_not_saved_is_done_again(self, target: Path) -> None:
        folder = interrupted(target, epochs=2)
        (folder / "head.state.npz").write_text("1")
        with RunDirectory.enter(target, SETTINGS, resume=True) as run_directory:
            assert run(run_directory, FakePhase()) == [("head", 2), ("head", 3)]
            assert [epoch.number for epoch in run_directory.history.epochs] == [1, 2, 3]

    def test_cycles_stay_in_order(self, target: Path) -> None:
        with pytest.raises(Stop):
            attempt(
                target,
                lambda run_directory: run(run_directory, FakePhase("head", 2)),
                lambda run_directory: run(run_directory, FakePhase("fine-tune"), stop=1),
            )
        with RunDirectory.enter(target, SETTINGS, resume=True) as run_directory:
            assert run(run_directory, FakePhase("head", 2)) == []
            assert run(run_directory, FakePhase("fine-tune", 2)) == [("fine-tune", 2)]
            order = [(epoch.cycle, epoch.number) for epoch in run_directory.history.epochs]
        assert order == [("head", 1), ("head", 2), ("fine-tune", 1), ("fine-tune", 2)]

    def test_it_must_be_asked_for(self, target: Path) -> None:
        folder = interrupted(target)
        before = (folder / "history.json").read_bytes()
        with pytest.raises(InputError, match="interrupted training; continue with --resume, or delete"):
            RunDirectory.enter(target, SETTINGS, resume=False)
        assert (folder / "history.json").read_bytes() == before

    def test_where_nothing_was_done_it_may_as_well_start_over(self, target: Path) -> None:
        folder = interrupted(target, epochs=0)
        (folder / "training.npy").touch()
        assert can_resume(target)
        with RunDirectory.enter(target, SETTINGS | {"seed": 2}, resume=False) as run_directory:
            assert sorted(path.name for path in folder.iterdir()) == ["history.json", "lock"]
            assert run_directory.history == History({"seed": 2, "sizes": [3, 4], "photos_sha256": "ab"})

    @pytest.mark.parametrize("left", ["nothing", "folder"])
    def test_there_must_be_something(self, target: Path, left: str) -> None:
        if left == "folder":
            (target.parent / "m.keras.training").mkdir(parents=True)
        with pytest.raises(InputError, match="no interrupted training to resume; omit --resume"):
            RunDirectory.enter(target, SETTINGS, resume=True)

    @pytest.mark.parametrize(
        ("change", "named"),
        [({"seed": 2}, "seed"), ({"sizes": (3, 5)}, "sizes"), ({"photos_sha256": "ac", "seed": 3}, "seed, photos")],
        ids=["seed", "sizes", "photos-and-seed"],
    )
    def test_it_must_be_the_same_training(self, target: Path, change: dict[str, Any], named: str) -> None:
        interrupted(target)
        with pytest.raises(InputError, match=re.escape(f"started with other photos or options ({named})")):
            RunDirectory.enter(target, SETTINGS | change, resume=True)
        assert can_resume(target)

    def test_it_must_begin_with_the_same_weights(self, target: Path) -> None:
        with pytest.raises(Stop):
            attempt(
                target,
                lambda run_directory: run_directory.settle({"begun_with": {"sha256": "cd"}}),
                lambda run_directory: run(run_directory, FakePhase(), stop=1),
            )
        with RunDirectory.enter(target, SETTINGS, resume=True) as run_directory:
            run_directory.settle({"begun_with": {"sha256": "cd"}})
            with pytest.raises(InputError, match=r"other photos or options \(begun with\)"):
                run_directory.settle({"begun_with": {"sha256": "ce"}})
            assert run_directory.history.settings["begun_with"] == {"sha256": "cd"}


@pytest.mark.parametrize("resume", [False, True])
def test_two_trainings_of_one_file_do_not_disturb_each_other(target: Path, resume: bool) -> None:
    folder = interrupted(target) if resume else target.parent / "m.keras.training"
    with RunDirectory.enter(target, SETTINGS, resume) as first:
        (first.folder / "view-0.part").touch()  # nothing is finished yet
        for again in (False, True):
            with pytest.raises(InputError, match="another training is running there"):
                RunDirectory.enter(target, SETTINGS, again)
        assert (folder / "view-0.part").exists()
    assert not folder.exists()


def test_a_training_that_diverged_is_of_no_use(target: Path) -> None:
    with pytest.raises(InputError, match=r"^the loss is no number; try a lower learning rate than 0\.5$"):
        attempt(target, lambda run_directory: run(run_directory, FakePhase(diverges_in=2)))
    assert list(target.parent.iterdir()) == []
