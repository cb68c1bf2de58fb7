"""What passed a check is remembered, until the file changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgeq.tflite import known
from edgeq.tflite.known import Identity, KnownFiles

LONG_AGO = Identity(1, 2, 3, 4, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "edgeq" / "models"


class TestRemembering:
    @pytest.mark.parametrize("file", [LONG_AGO, "ab" * 32], ids=["identity", "digest"])
    def test_across_processes(self, folder: Path, file: Identity | str) -> None:
        KnownFiles(folder).add("a check", file)
        assert KnownFiles(folder).has("a check", file)
        assert not KnownFiles(folder).has("another check", file)

    @pytest.mark.parametrize("field", Identity._fields)
    def test_a_file_that_differs_in_anything_is_another(self, folder: Path, field: str) -> None:
        KnownFiles(folder).add("a check", LONG_AGO)
        assert not KnownFiles(folder).has("a check", LONG_AGO._replace(**{field: 9}))

    def test_a_file_that_was_just_changed_could_change_again_unseen(self, folder: Path) -> None:
        files, now = KnownFiles(folder), time.time_ns()
        files.add("a check", LONG_AGO._replace(ctime_ns=now))
        assert files.has("a check", LONG_AGO._replace(ctime_ns=now))  # in this process
        assert not KnownFiles(folder).has("a check", LONG_AGO._replace(ctime_ns=now))

    def test_what_is_not_lasting(self, folder: Path) -> None:
        files = KnownFiles(folder)
        files.add("a check", LONG_AGO, lasting=False)
        assert files.has("a check", LONG_AGO)
        assert not KnownFiles(folder).has("a check", LONG_AGO)

    def test_the_folder_stays_small(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(known, "_MOST_ENTRIES", 10)
        files = KnownFiles(folder)
        for number in range(40):
            files.add("a check", LONG_AGO._replace(inode=number))
        assert 5 <= len(list(folder.iterdir())) <= 10
        assert KnownFiles(folder).has("a check", LONG_AGO._replace(inode=39))


class TestUnusableFolders:
    def test_none(self) -> None:
        files = KnownFiles(None)
        files.add("a check", LONG_AGO)
        assert files.has("a check", LONG_AGO)

    def test_a_device(self) -> None:
        KnownFiles(Path(os.devnull) / "edgeq").add("a check", LONG_AGO)
        assert not KnownFiles(Path(os.devnull) / "edgeq").has("a check", LONG_AGO)

    @pytest.mark.parametrize("mode", [0o777, 0o775])
    def test_one_that_others_can_write_to(self, folder: Path, mode: int) -> None:
        """They could say what passes."""
        KnownFiles(folder).add("a check", LONG_AGO)
        folder.chmod(mode)
        assert not KnownFiles(folder).has("a check", LONG_AGO)

    def test_a_link(self, folder: Path, tmp_path: Path) -> None:
        KnownFiles(folder).add("a check", LONG_AGO)
        (tmp_path / "link").symlink_to(folder)
        assert not KnownFiles(tmp_path / "link").has("a check", LONG_AGO)

    @pytest.mark.parametrize("home", ["", "relative/path"])
    def test_the_environment(self, home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        monkeypatch.setenv("HOME", str(tmp_path))
        known.known_files.cache_clear()
        try:
            known.known_files().add("a check", LONG_AGO)
            assert len(list((tmp_path / ".cache" / "edgeq" / "models").iterdir())) == 1
        finally:
            known.known_files.cache_clear()
