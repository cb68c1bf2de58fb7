"""Large arrays in files: their room is reserved, and a full disk is an error that says so."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgeq.arrays import mapped_array, temporary_array
from edgeq.errors import InputError


class TestMapped:
    def test_an_array_in_a_file(self, tmp_path: Path) -> None:
        array = mapped_array(tmp_path / "a.npy", np.float16, (3, 4))
        assert not array.any()
        array[1] = 7
        del array
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[0] * 4, [7] * 4, [0] * 4])

    def test_its_room_is_reserved(self, tmp_path: Path) -> None:
        mapped_array(tmp_path / "a.npy", np.uint8, (1 << 20,))
        used = (tmp_path / "a.npy").stat()
        if not hasattr(os, "posix_fallocate"):
            pytest.skip("this system cannot reserve room")
        assert 512 * used.st_blocks >= 1 << 20  # else writing to it could end in SIGBUS

    @pytest.mark.parametrize("error", [None, errno.ENOSPC, errno.EDQUOT], ids=["too-large", "full", "quota"])
    def test_no_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
        rows = 10
        if error is None:
            rows = 2 * shutil.disk_usage(tmp_path).free >> 20
        elif hasattr(os, "posix_fallocate"):

            def fail(*arguments: object) -> None:
                raise OSError(error, os.strerror(error))

            monkeypatch.setattr(os, "posix_fallocate", fail)
        else:
            pytest.skip("this system cannot reserve room")
        with pytest.raises(InputError, match=r"cannot reserve \d+\.\d [GM]B"):
            mapped_array(tmp_path / "a.npy", np.uint8, (rows, 1 << 20))
        assert list(tmp_path.iterdir()) == []


class TestTemporary:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path

    def test_an_array_without_a_file_to_clean_up(self, folder: Path) -> None:
        array = temporary_array(np.int8, (2, 1 << 20))
        assert list(folder.iterdir()) == []
        assert (array.shape, array.dtype, array.any()) == ((2, 1 << 20), np.int8, False)
        array[1] = 7
        assert array.sum(dtype=np.int64) == 7 << 20

    def test_no_room(self, folder: Path) -> None:
        with pytest.raises(InputError, match=rf"^{folder}: cannot reserve .*B \(No space left .*TMPDIR"):
            temporary_array(np.int8, (2 * shutil.disk_usage(folder).free,))
        assert list(folder.iterdir()) == []

    def test_nothing_is_left_whatever_happens(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "posix_fallocate", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            temporary_array(np.int8, (10,))
        assert list(folder.iterdir()) == []
