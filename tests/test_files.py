"""Files and folders that are replaced whole or not at all, whatever fails or kills, and digests."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT
from kills import count_steps, die_at, forked

from edgeq.errors import InputError
from edgeq.files import replacing, sha256_of_file, sha256_of_folder, temporary_folder, write_text
from edgeq.work_folders import Move, remove_leftovers


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_replacing_puts_all_files_in_place(tmp_path) -> None:
    targets = [tmp_path / "new/folder/a.tflite", tmp_path / "b.json"]
    targets[1].write_text("old")
    with replacing(targets) as parts:
        for part, target in zip(parts, targets, strict=True):
            hidden = part.relative_to(target.parent).parts[0]  # beside the target, so that moving is atomic
            assert hidden.startswith(".")
            assert part.name == target.name
        for number, part in enumerate(parts):
            part.write_text(f"content {number}")
            assert targets[1].read_text() == "old"  # until the block ends
    assert [target.read_text() for target in targets] == ["content 0", "content 1"]
    assert names_in(tmp_path) == ["b.json", "new", "new/folder", "new/folder/a.tflite"]


def replace_all(targets: list[Path], written: int = 2, error: type[BaseException] | None = None) -> None:
    """Write "new" to the first few of the targets, then fail where `error` says so."""
    with replacing(targets) as parts:
        for part in parts[:written]:
            part.write_text("new")
        if error:
            raise error("stop")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, InputError, MemoryError])
@pytest.mark.parametrize("written", [0, 1, 2])
def test_replacing_keeps_the_old_files_when_the_block_raises(tmp_path, written, error) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    for target in targets:
        target.write_text("old")
    with pytest.raises(error, match="stop"):
        replace_all(targets, written, error)
    assert [target.read_text() for target in targets] == ["old", "old"]
    assert names_in(tmp_path) == ["a", "b"]


def test_replacing_replaces_nothing_where_one_file_was_not_written(tmp_path) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    targets[0].write_text("old")
    with pytest.raises(InputError):
        replace_all(targets, written=1)
    assert targets[0].read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_replacing_replaces_nothing_where_one_target_is_a_folder(tmp_path) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    targets[0].write_text("old")
    targets[1].mkdir()
    with pytest.raises(InputError, match=re.escape(str(targets[1]))):
        replace_all(targets)
    assert targets[0].read_text() == "old"
    assert names_in(tmp_path) == ["a", "b"]


def test_replacing_in_an_impossible_folder_is_an_input_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    entered = False
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'file'}")), replacing([tmp_path / "file/a"]):
        entered = True
    assert not entered  # nobody converts for minutes only to learn this
    assert names_in(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_replacing_in_a_folder_that_may_not_be_written_to(tmp_path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"), replacing([folder / "a"]) as (part,):
        part.write_text("new")


# What fails while files are replaced


def make_folder(path: Path, content: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text(content)


def make_new(targets: list[Path], *steps: Callable[..., object]) -> None:
    """Replace targets by what the steps make, each given all the paths of what is to be."""
    with replacing(targets) as parts:
        for step in steps:
            step(*parts)


@pytest.mark.parametrize("before", ["nothing", "empty", "folder", "link"])
def test_a_folder_is_replaced_as_a_whole(tmp_path, before) -> None:
    target = tmp_path / "a.b"
    if before == "empty":
        target.mkdir()
    elif before == "folder":
        make_folder(target, "old")
        (target / "older").touch()
    elif before == "link":
        make_folder(tmp_path / "elsewhere" / "linked", "old")
        target.symlink_to(tmp_path / "elsewhere" / "linked")
    with replacing([target, tmp_path / "file"]) as (folder, file):
        make_folder(folder, "new")
        file.write_text("new")
    assert names_in(target) == ["deep", "deep/file"]
    assert (target / "deep" / "file").read_text() == "new"
    assert target.is_symlink() == (before == "link")
    assert {path.name for path in tmp_path.iterdir()} == {"a.b", "file", *(["elsewhere"] if before == "link" else [])}


@pytest.mark.parametrize("folder_made", [True, False], ids=["folder-over-file", "file-over-folder"])
def test_a_folder_does_not_replace_a_file_nor_the_other_way(tmp_path, folder_made) -> None:
    (tmp_path / "file").write_text("old")
    make_folder(tmp_path / "folder", "old")
    before = names_in(tmp_path)
    target = tmp_path / ("file" if folder_made else "folder")
    with pytest.raises(InputError, match=re.escape(f"{target}: cannot write")):
        make_new([target], Path.mkdir if folder_made else Path.touch)
    assert names_in(tmp_path) == before


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch) -> None:
    """The user's shell would be nowhere."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^\.: is the current folder"), replacing([Path()]):
        pytest.fail("nobody waits for minutes only to learn this")


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "moved"])
@pytest.mark.parametrize("failing", ["file", "folder", "new"])
def test_all_is_put_back_when_moving_fails_half_way(tmp_path, monkeypatch, failing, exchange) -> None:
    """Whichever of the three cannot take its place, whether it was there before or not."""
    (tmp_path / "file").write_text("old")
    make_folder(tmp_path / "folder", "old")
    before = names_in(tmp_path)
    make_move = Move.make

    def fail(move: Move) -> None:
        if move.place.name != failing:
            return make_move(move)
        monkeypatch.setattr(Path, "replace", refuse)
        if exchange:
            monkeypatch.setattr(Path, "rename", refuse)
        try:
            return make_move(move)
        finally:
            monkeypatch.undo()

    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    def make(file: Path, folder: Path, other: Path) -> None:
        file.write_text("new")
        make_folder(folder, "new")
        other.write_text("new")
        monkeypatch.setattr(Move, "make", fail)
        if not exchange:
            monkeypatch.setattr("edgeq.work_folders._exchange", lambda one, other: False)

    targets = [tmp_path / name for name in ("file", "folder", "new")]
    with pytest.raises(InputError) as caught:
        make_new(targets, make)
    assert str(caught.value) == f"{tmp_path / failing}: cannot write (Operation not permitted)"
    assert names_in(tmp_path) == before
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "deep" / "file").read_text() == "old"


def test_what_cannot_be_put_back_is_kept_and_named(tmp_path, monkeypatch) -> None:
    """Another process takes the name while it is free."""
    target = tmp_path / "folder"
    make_folder(target, "old")
    make, rename = Move.make, Path.rename

    def take_the_name(move: Move) -> None:
        monkeypatch.setattr(Path, "rename", rename_and_take)
        make(move)

    def rename_and_take(path: Path, to: Path) -> Path:
        result = rename(path, to)
        make_folder(path, "another's")
        return result

    monkeypatch.setattr("edgeq.work_folders._exchange", lambda one, other: False)  # as on macOS
    with pytest.raises(InputError, match=f"^{re.escape(str(target))}: cannot write") as caught:
        make_new(
            [target],
            lambda part: make_folder(part, "new"),
            lambda _: monkeypatch.setattr(Move, "make", take_the_name),
        )
    monkeypatch.undo()
    kept = Path(str(caught.value).rpartition("what was there is now ")[2])
    assert (kept / "deep" / "file").read_text() == "old"
    assert (target / "deep" / "file").read_text() == "another's"
    remove_leftovers(tmp_path)
    assert (kept / "deep" / "file").read_text() == "old"


def test_other_errors_of_the_block_are_not_about_the_target(tmp_path) -> None:
    missing = tmp_path / "photo.jpg"
    with pytest.raises(FileNotFoundError) as caught:
        make_new([tmp_path / "target"], Path.touch, lambda _: missing.read_bytes())
    assert caught.value.filename == str(missing)
    with pytest.raises(OSError, match="the camera is gone"), replacing([tmp_path / "target"]):
        raise OSError("the camera is gone")
    assert names_in(tmp_path) == []


def test_errors_of_writing_name_the_target(tmp_path) -> None:
    target = tmp_path / "target"
    with pytest.raises(InputError, match=re.escape(f"{target}: cannot write (Is a directory)")):
        make_new([tmp_path / "other", target], lambda _, part: part.mkdir(), lambda _, part: part.write_text("new"))
    with pytest.raises(InputError, match=re.escape(f"{target}: cannot write (No such file")):
        make_new([target], lambda part: (part / "in a folder that was not made").write_text("new"))


def test_a_disk_that_is_full_is_named(tmp_path) -> None:
    """A limit to the size of files stands for it: writing to an open file fails, and the error names no file."""
    code = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with replacing([Path("file")]) as (part,), part.open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(bytes(500))
    """
    done = run(code, tmp_path)
    assert "edgeq.errors.InputError: .: cannot write (File too large)" in done.stderr
    assert names_in(tmp_path) == []


# Processes that are killed

WRITE = """
    with replacing([Path("folder"), Path("file")]) as (folder, file):
        folder.mkdir()
        (folder / "new").touch()
        file.write_text("new")
"""
DIE = "os.kill(os.getpid(), 9)"


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(code), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def command(code: str) -> list[str]:
    head = "import os, time\nfrom pathlib import Path\nfrom edgeq.files import replacing\n"
    return [sys.executable, "-c", head + textwrap.dedent(code)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_what_a_killed_process_leaves_is_removed_by_the_next_one(tmp_path) -> None:
    (tmp_path / ".edgeq-mine.part").mkdir()  # killed before it had a lock
    (tmp_path / ".download.part").write_text("of another program")
    assert run(f"{WRITE}        {DIE}", tmp_path).returncode == -signal.SIGKILL
    assert "file" not in names_in(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # it has removed what another left
    write_text(tmp_path / "another.txt", "")
    assert names_in(tmp_path) == [".download.part", "another.txt"]


@pytest.mark.accept
@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "moved"])
@pytest.mark.parametrize("kind", ["files", "folder"])
def test_a_process_may_be_killed_at_every_step(tmp_path, monkeypatch, kind, exchange) -> None:
    """After the next run, all of its targets are new or all are old, and nothing else is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not exchange:
        monkeypatch.setattr("edgeq.work_folders._exchange", lambda one, other: False)
    folder = tmp_path / "folder"
    names = {"files": ["a", "b", "c"], "folder": ["bundle"]}[kind]
    targets = [folder / name for name in names]

    def write(content: str) -> None:
        with replacing(targets) as parts, temporary_folder() as scratch:
            (scratch / "scratch").touch()
            for part in parts:
                (make_folder if kind == "folder" else Path.write_text)(part, content)

    def contents() -> list[str]:
        return [(target / "deep" / "file" if kind == "folder" else target).read_text() for target in targets]

    def die_and_write(step: int) -> None:
        die_at(step, [tmp_path])
        write("new")

    write("old")
    steps = count_steps(lambda: write("old"), [tmp_path])
    assert steps > 20
    outcomes = set()
    for step in range(1, steps + 1):
        assert forked(partial(die_and_write, step)) == -signal.SIGKILL
        if exchange:
            assert set(contents()) <= {"old", "new"}  # at once
        write_text(folder / "another.txt", "")
        with temporary_folder():
            pass
        outcomes.add(tuple(contents()))
        assert {path.name for path in folder.iterdir()} == {*names, "another.txt"}
        assert {path.name for path in tmp_path.iterdir()} == {"folder"}
        write("old")
    assert outcomes == {("old",) * len(names), ("new",) * len(names)}


def test_what_somebody_wrote_after_the_kill_stays(tmp_path, monkeypatch) -> None:
    """The next run finishes the replacement, but not over a newer file."""
    targets = [tmp_path / name for name in "ab"]
    for target in targets:
        target.write_text("old")
    die = "Path.replace = lambda *_: " + DIE
    code = "with replacing([Path('a'), Path('b')]) as parts:\n    for part in parts:\n        part.write_text('new')\n"
    assert run(f"{die}\n{code}", tmp_path).returncode == -signal.SIGKILL
    targets[1].write_text("mine")
    write_text(tmp_path / "another.txt", "")
    assert [target.read_text() for target in targets] == ["new", "mine"]
    assert names_in(tmp_path) == ["a", "another.txt", "b"]


def test_a_temporary_folder_that_cannot_be_made_is_an_input_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="set TMPDIR"), temporary_folder():
        pass


def test_what_a_living_process_makes_stays(tmp_path) -> None:
    """Also that of this process itself, and of one that has no rights here but to look."""
    code = f"{WRITE}        print('ready', flush=True)\n        input()"
    with subprocess.Popen(
        command(code), cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with replacing([tmp_path / "mine"]) as (part,):
            part.write_text("mine")
            write_text(tmp_path / "another.txt", "")
            remove_leftovers(tmp_path)
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert names_in(tmp_path) == ["another.txt", "file", "folder", "folder/new", "mine"]


def test_write_text_is_utf_8_and_whole(tmp_path) -> None:
    path = tmp_path / "report.html"
    write_text(path, "Größe: 3 MiB\n")
    write_text(path, "Größe: 4 MiB\n")
    assert path.read_bytes() == "Größe: 4 MiB\n".encode()
    assert names_in(tmp_path) == ["report.html"]
    with pytest.raises(InputError, match="cannot write"):
        write_text(path / "below a file.txt", "")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_sha256_of_file(tmp_path, size) -> None:
    content = bytes(i % 251 for i in range(1 << 12)) * (size // (1 << 12) + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert sha256_of_file(path) == sha256_of_file(str(path)) == hashlib.sha256(content[:size]).hexdigest()


def test_sha256_of_folder_is_that_of_names_and_contents(tmp_path) -> None:
    def folder(name: str, files: dict[str, str]) -> Path:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return tmp_path / name

    same = sha256_of_folder(folder("one", {"a": "1", "b/c": "2"}))
    assert sha256_of_folder(folder("two", {"b/c": "2", "a": "1"})) == same
    others = [
        folder("content", {"a": "1", "b/c": "3"}),
        folder("name", {"a": "1", "b/d": "2"}),
        folder("place", {"a": "1", "c": "2"}),
        folder("swapped", {"a": "2", "b/c": "1"}),
        folder("more", {"a": "1", "b/c": "2", "d": ""}),
        folder("fewer", {"a": "1"}),
    ]
    assert len({same, *map(sha256_of_folder, others)}) == 7
