"""Reading samples, and what is said of files that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import InputError
from edgeq.quantization import Quantization
from edgeq.runtime import TensorSpec
from edgeq.samples import SampleReader, find_samples, holds_arrays

SPECS = (TensorSpec(0, (1, 3, 2), Quantization("float32"), "a"), TensorSpec(1, (1, 4), Quantization("float32"), "b"))
BOTH = SampleReader("m.tflite", SPECS)
ONE = SampleReader("m.tflite", SPECS[1:])
A, B = np.arange(6.0).reshape(3, 2), np.arange(4.0)


def save(folder: Path, name: str = "s.npz", **arrays: np.ndarray) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def test_a_sample_with_and_without_the_leading_dimension(tmp_path: Path) -> None:
    for number, arrays in enumerate(({"a": A, "b": B}, {"a": A[None], "b": B[None]}, {"a": A, "b": B, "label": B})):
        sample = BOTH.read(save(tmp_path, f"{number}.npz", **arrays))
        assert list(sample) == ["a", "b"]
        assert sample["a"].dtype == np.float32
        np.testing.assert_array_equal(sample["a"], A[None])
        np.testing.assert_array_equal(sample["b"], B[None])


def test_a_file_of_several_samples(tmp_path: Path) -> None:
    path = save(tmp_path, a=np.stack([A, A + 1]), b=np.stack([B, B + 1]))
    found = find_samples(path, BOTH)
    assert [Path(name).name for name in found.names] == ["s.npz[0]", "s.npz[1]"]
    np.testing.assert_array_equal(found.read(1)["b"], B[None] + 1)
    assert found.digest(0) != found.digest(1)


def test_a_folder_of_samples(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    save(tmp_path / "deep", b=B)
    np.save(tmp_path / "t.npy", B + 1)
    (tmp_path / "notes.txt").write_text("x")
    found = find_samples(tmp_path, ONE)
    assert [Path(name).name for name in found.names] == ["s.npz", "t.npy"]
    assert [(path.name, reason) for path, reason in found.skipped] == [("notes.txt", "neither .npz nor .npy")]
    np.testing.assert_array_equal(found.read(1)["b"], B[None] + 1)


def test_the_only_array_may_have_any_name(tmp_path: Path) -> None:
    np.testing.assert_array_equal(ONE.read(save(tmp_path, whatever=B))["b"], B[None])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": A}, r"has no array b \(the model's inputs: a, b; found: a\)"),
        ({"a": A, "b": np.zeros(5)}, r"b has shape \(5,\), but the model takes \(1, 4\)"),
        ({"a": A[None], "b": np.zeros((2, 4))}, "different numbers of samples: 1 of a, 2 of b"),
        ({"a": A, "b": np.array(["x"] * 4)}, "b has the type <U1"),
        ({"a": A, "b": np.full(4, np.nan)}, "b contains NaN or infinity"),
        ({"a": np.zeros((0, 3, 2)), "b": np.zeros((0, 4))}, "holds no samples"),
        ({"a": np.stack([A, A]), "b": np.stack([B, B])}, "holds 2 samples"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = save(tmp_path, "s.npz", **arrays)
    with pytest.raises(InputError, match=message) as error:
        BOTH.read(path)
    assert str(error.value).startswith(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "bad.npy").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name in ("bad.npz", "bad.npy", "objects.npy", "missing.npz", "missing", "photo.jpg", "empty"):
        with pytest.raises(InputError, match=name) as error:
            find_samples(tmp_path / name, ONE).read(0)
        assert "\n" not in str(error.value)


def test_what_holds_arrays(tmp_path: Path, photos: Path) -> None:
    save(tmp_path, b=B)
    assert holds_arrays(tmp_path)
    assert holds_arrays("x.npz")
    assert holds_arrays(["x.npy"])
    assert not holds_arrays(photos)
    assert not holds_arrays(None)
    assert not holds_arrays("photos.zip")
