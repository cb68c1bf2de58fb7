"""Keeping photos while watching: which, how they are stored, and within which limits."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Finished, colour_picture
from kills import count_steps, die_at, forked
from PIL import Image, ImageFilter

import edgeq as package
from edgeq.collecting.kept import KeptPhoto, kept_photos
from edgeq.errors import InputError
from edgeq.watching import Interruption, Keeper, Observed
from edgeq.watching.likeness import difference_hash, distance
from watching.kept_frames import START, keeper, record, scene, seen


@pytest.fixture(scope="session")
def model_file(colour_models: Path) -> Path:
    return colour_models / "colours_int8.tflite"


class TestRules:
    def kept(self, folder: Path, frames: list[Observed], **options: object) -> list[int]:
        with keeper(folder, **options) as kept:
            return [frame.frame for frame in frames if kept.offer(frame)]

    def test_unsure(self, tmp_path: Path) -> None:
        frames = [seen(number, probability) for number, probability in enumerate((0.9, 0.59, 0.6, 0.1))]
        assert self.kept(tmp_path, frames, below=0.6) == [2, 4]

    def test_one_unsure_frame_per_second(self, tmp_path: Path) -> None:
        frames = [seen(number, 0.1, time=START + number / 4) for number in range(10)]
        assert self.kept(tmp_path, frames, below=0.6) == [1, 5, 9]

    def test_now_and_then(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, [seen(number) for number in range(7)], every_s=180) == [1, 4, 7]
        assert self.kept(tmp_path, [seen(number) for number in range(7, 12)], every_s=180) == [10], "after a restart"

    def test_a_clock_that_is_set_back(self, tmp_path: Path) -> None:
        frames = [seen(0), seen(1, time=START - 1e6), seen(2, time=START - 1e6 + 60)]
        assert self.kept(tmp_path, frames, every_s=180) == [1, 2]

    def test_new_labels(self, tmp_path: Path) -> None:
        frames = [seen(number, changed=number in (0, 3)) for number in range(5)]
        assert self.kept(tmp_path, frames, changed=True) == [1, 4]

    def test_no_rule_and_interruptions(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, [seen(0, 0.1)]) == []
        with keeper(tmp_path, every_s=1) as kept:
            assert kept.offer(Interruption(START, "unplugged", 1.0)) is None

    def test_the_same_scene_is_kept_once_even_after_a_restart(self, tmp_path: Path) -> None:
        frames = [seen(number, 0.1, scene(5, quality)) for number, quality in enumerate((90, 60, 40))]
        assert self.kept(tmp_path, frames, below=0.6) == [1]
        assert self.kept(tmp_path, [seen(9, 0.1, scene(5, 75)), seen(10, 0.1)], below=0.6) == [11]

    def test_a_photo_that_was_moved_away(self, tmp_path: Path) -> None:
        with keeper(tmp_path / "kept", below=0.6) as kept:
            assert kept.offer(seen(0, 0.1, tmp_path / "gone.jpg")) is None
            assert kept.paused is None

    @pytest.mark.parametrize("options", [{"below": 1.5}, {"every_s": 0.0}])
    def test_values_out_of_range(self, options: dict[str, float], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be"):
            keeper(tmp_path, **options)


def test_the_hash_of_a_scene_survives_what_a_camera_changes(shared: Path) -> None:
    photos = sorted((shared / "data" / "imagenet_samples").glob("*.jpg"))[:30]
    hashes = [difference_hash(photo) for photo in photos]
    for photo, expected in zip(photos, hashes, strict=True):
        with Image.open(photo) as image:
            changed = image.convert("RGB").filter(ImageFilter.GaussianBlur(1)).point(lambda v: round(0.9 * v + 10))
        out = io.BytesIO()
        changed.save(out, "JPEG", quality=60)
        assert distance(difference_hash(out.getvalue()), expected) <= 5
    assert min(distance(*pair) for pair in itertools.combinations(hashes, 2)) > 5


def test_the_hash_by_hand() -> None:
    ramp = np.repeat(np.arange(90, 0, -10, dtype=np.uint8)[None, :], 8, axis=0)  # each pixel brighter than the next
    assert difference_hash(Image.fromarray(ramp)) == 2**64 - 1
    assert difference_hash(Image.fromarray(ramp[:, ::-1])) == 0
    assert distance(0b1011, 0b0001) == 2


class TestStorage:
    def test_photo_and_record(self, tmp_path: Path, model_file: Path) -> None:
        source = "http://user:secret@camera.local/stream"
        with Keeper(tmp_path / "new" / "kept", model_file, source=source, below=0.6, free_bytes=0) as kept:
            photo = kept.offer(seen(3, 0.25))
        assert photo is not None
        assert photo.name == "20260921T141620.250Z-000001.jpg"
        assert photo.read_bytes() == scene(3)
        found = json.loads(photo.with_suffix(".json").read_text())
        assert found["utc"] == "2026-09-21T14:16:20.250+00:00"
        assert found["sha256"] == hashlib.sha256(scene(3)).hexdigest()
        assert found["model"] == {
            "name": model_file.name,
            "sha256": hashlib.sha256(model_file.read_bytes()).hexdigest(),
        }
        assert found["source"] == "http://camera.local/stream"
        assert found["predictions"] == [{"index": 2, "label": "red", "probability": 0.25}]
        assert (found["reasons"], found["label"], found["confirmed_by"]) == (["below"], None, None)
        assert KeptPhoto.from_bytes(json.dumps(found).encode()) == record(photo)

    def test_by_hand(self, tmp_path: Path) -> None:
        with keeper(tmp_path, below=0.6) as kept:
            first = kept.offer(seen(0, 0.1))
            assert first is not None
            assert kept.keep(seen(0, 0.1), "green", by="the page") == first, "the frame is kept already"
            again = kept.keep(seen(1, image=scene(0)))
            assert again != first, "a person's choice counts even if it resembles another"
            kept.confirm(again.name, "red")
        assert (record(first).label, record(first).confirmed_by, record(first).reasons) == (
            "green", "the page", ("below",),
        )  # fmt: skip
        assert (record(again).label, record(again).reasons) == ("red", ("by hand",))

    @pytest.mark.parametrize("label", ["", "  ", "a\nb", " red", "x" * 201])
    def test_labels_that_are_none(self, label: str, tmp_path: Path) -> None:
        with keeper(tmp_path) as kept, pytest.raises(InputError, match="must be one line"):
            kept.keep(seen(), label)
        assert list(kept_photos(tmp_path)) == []

    def test_confirming_what_is_not_there(self, tmp_path: Path) -> None:
        with keeper(tmp_path) as kept, pytest.raises(InputError, match="no such photo"):
            kept.confirm("../../etc/passwd", "red")

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with keeper(tmp_path), pytest.raises(InputError, match="another process keeps photos there"):
            keeper(tmp_path)
        keeper(tmp_path).close()

    def test_frames_of_the_same_millisecond(self, tmp_path: Path) -> None:
        for _ in range(2):
            with keeper(tmp_path) as kept:
                kept.keep(seen(0, frame=1))
                kept.keep(seen(0, frame=2))
        assert len(list(kept_photos(tmp_path))) == 4

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b'{"time": 1}',
            b'{"time": -1}',
            b'{"time": "1"}',
            b'{"time":1,"sha256":"' + b"0" * 64 + b'","label":3}',
        ],
    )
    def test_damaged_records(self, content: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            KeptPhoto.from_bytes(content)


class TestLimits:
    def test_the_oldest_unlabelled_ones_go_first(self, tmp_path: Path) -> None:
        limit = 4 * 5500
        with keeper(tmp_path, every_s=1, limit_bytes=limit) as kept:
            for number in range(20):
                photo = kept.keep(seen(number), "red") if number == 2 else kept.offer(seen(number))
                assert photo is not None
                on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
                assert on_disk == kept.size_bytes <= limit
        times = [(record(tmp_path / f"{name}.jpg").time - START) / 60 for name, _ in kept_photos(tmp_path)]
        assert times[0] == 2
        assert times[1:] == list(range(20 - len(times) + 1, 20))
        with keeper(tmp_path, every_s=1, limit_bytes=limit) as again:
            assert again.size_bytes == on_disk
            assert again.offer(seen(20))
            assert again.size_bytes <= limit

    def test_labelled_ones_stay_and_keeping_pauses(self, tmp_path: Path) -> None:
        with keeper(tmp_path, every_s=1, limit_bytes=3 * 5500) as kept:
            with contextlib.suppress(InputError):
                for number in itertools.count():
                    kept.keep(seen(number), "red")
            labelled = {path: path.read_bytes() for path in tmp_path.iterdir()}
            assert kept.offer(seen(20)) is None
            assert "all photos in it are labelled" in str(kept.paused)
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == labelled
            for path in tmp_path.glob("2026*"):  # as edgeq collect --remove does
                path.unlink()
            assert kept.offer(seen(20, time=START + 20 * 60 + 5)) is None, "10 s have not passed"
            assert kept.offer(seen(21)) is not None
            assert kept.paused is None

    def test_a_photo_larger_than_the_limit_removes_nothing(self, tmp_path: Path) -> None:
        with keeper(tmp_path, every_s=1, limit_bytes=8000) as kept:
            assert kept.offer(seen(0))
            assert kept.offer(seen(1, image=scene(1) + bytes(9000))) is None
            assert "larger than the limit of 0.008 MB" in str(kept.paused)
        assert len(list(kept_photos(tmp_path))) == 1


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes root to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class TestDisk:
    def test_room_stays_free_and_keeping_continues_when_there_is_some(self, tmp_path: Path) -> None:
        with (
            small_disk(tmp_path / "disk", "400k") as disk,
            Keeper(disk / "kept", ROOT / "README.md", every_s=1, free_bytes=200_000) as kept,
        ):
            results = [kept.offer(seen(number)) for number in range(60)]
            assert shutil.disk_usage(disk).free >= 200_000 - 4096
            assert kept.paused == f"{kept.folder}: less than 0.2 MB of the disk would stay free"
            assert results[0] is not None
            assert results[-1] is None
            for path in kept.folder.glob("2026*"):
                if path.stem != results[0].stem:
                    path.unlink()
            assert kept.offer(seen(99)) is not None
            assert kept.paused is None

    def test_a_full_disk_never_ends_it(self, tmp_path: Path) -> None:
        """Without any margin, until the system itself says that there is no space left."""
        with small_disk(tmp_path / "disk", "200k") as disk:
            with keeper(disk / "kept", every_s=1) as kept:
                results = [kept.offer(seen(number)) for number in range(60)]
                assert results[-1] is None
                assert "disk" in str(kept.paused) or "No space left" in str(kept.paused)
                with pytest.raises(InputError, match=r"No space left|of the disk"):
                    kept.keep(seen(61), "red")
            for path in (disk / "kept").glob("2026*.jpg"):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == record(path).sha256
            assert not list((disk / "kept").glob(".edgeq-*"))

    def test_the_command_goes_on(self, tmp_path: Path, model_file: Path) -> None:
        """One line says that the disk is full, and all frames are classified."""
        frames = b"".join(scene(number) for number in range(40))
        with small_disk(tmp_path / "disk", "100k") as disk:
            options = ["--keep", str(disk), "--keep-below", "1", "--keep-free", "99k", "--json"]
            done = watch_command(model_file, frames, *options)
        assert done.returncode == 0
        (warning,) = done.stderr.decode().splitlines()
        assert warning.startswith(
            f"Warning: {disk}: less than 0.099 MB of the disk would stay free. No photos are kept"
        )
        assert json.loads(done.stdout.splitlines()[-2])["frame"] == 40


def watch_command(model: Path, frames: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgeq", "watch", "-", "--model", str(model), *options]
    return subprocess.run(command, cwd=ROOT, input=frames, capture_output=True, timeout=60, check=False)


def test_the_command(tmp_path: Path, model_file: Path) -> None:
    frames = b"".join(scene(number) for number in range(3))
    options = ["--keep", str(tmp_path / "kept"), "--keep-changed", "--keep-every", "1h", "--keep-free", "0"]
    done = watch_command(model_file, frames, *options, "--json", "--events")
    assert (done.returncode, done.stderr) == (0, b"")
    kept = [json.loads(line)["kept"] for line in done.stdout.splitlines() if b"kept" in line]
    assert kept == sorted(map(str, (tmp_path / "kept").glob("*.jpg")))
    assert record(Path(kept[0])).source == "-"
    assert watch_command(model_file, b"", "--keep-every", "1h").returncode == 2


def test_the_watched_folder_is_not_for_keeping(
    tmp_path: Path, model_file: Path, edgeq: Callable[..., Finished]
) -> None:
    done = edgeq("watch", tmp_path, "--model", model_file, "--keep", f"{tmp_path}/.")
    assert done.code == 2
    assert "is the watched folder; keep photos in another one" in done.err


def test_with_the_generator(tmp_path: Path, model_file: Path) -> None:
    class Frames:
        name, comes_back, keeps_all = "frames", False, True

        def frames(self) -> Iterator[bytes]:
            yield from (scene(number) for number in range(3))

        def close(self) -> None: ...

    model = package.Model(model_file)
    with package.Keeper(tmp_path, model, below=1.0, free_bytes=0) as kept:
        photos = [kept.offer(item) for item in package.watch(Frames(), model)]
    assert photos[0] is not None
    assert photos[0].read_bytes() == scene(0)


@pytest.mark.slow
class TestKilled:
    """Killed (SIGKILL) before every step that changes the folder; then it starts again."""

    @pytest.mark.accept
    def test_no_half_photo_and_no_litter(self, tmp_path: Path) -> None:
        def work(folder: Path) -> None:
            with keeper(folder, every_s=1, limit_bytes=5500) as kept:
                for number in range(2):  # the second one removes the first
                    assert kept.offer(seen(number))
                kept.keep(seen(1), "red")

        steps = count_steps(lambda: work(tmp_path / "count"), [tmp_path / "count"])
        assert steps > 30
        for step in range(1, steps + 1):
            folder = tmp_path / str(step)

            def killed(step: int = step, folder: Path = folder) -> None:
                die_at(step, [folder])
                work(folder)

            assert forked(killed) == -9
            keeper(folder).close()
            names = {path.name for path in folder.iterdir()} - {".keeping"}
            photos = [path for path in folder.iterdir() if path.suffix == ".jpg"]
            assert names == {path.with_suffix(suffix).name for path in photos for suffix in (".jpg", ".json")}, step
            for photo in photos:
                assert hashlib.sha256(photo.read_bytes()).hexdigest() == record(photo).sha256


def test_a_colour_picture_is_no_scene() -> None:
    """Noise alone differs from noise: what the tests of other modules keep is not taken for one scene."""
    one, other = (difference_hash(colour_picture("red", seed)) for seed in (1, 2))
    assert distance(one, other) > 5
