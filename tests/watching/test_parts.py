"""The parts of watching: handing over the newest item, smoothing labels, and frames as JPEGs."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import ImageError, InputError
from edgeq.watching.newest import Newest
from edgeq.watching.picture import jpeg_bytes
from edgeq.watching.smoothing import Smoother
from edgeq.watching.tally import Seen, Tally
from watching.web import observed


class TestNewest:
    def test_older_items_are_dropped_and_counted(self) -> None:
        newest: Newest[int] = Newest()
        for item in range(5):
            newest.put(item)
        assert (newest.take(), newest.dropped) == (4, 4)

    def test_waiting_loses_nothing(self) -> None:
        newest: Newest[int] = Newest()

        def put_all() -> None:
            for item in range(50):
                newest.put(item, wait=True)
            newest.end()

        thread = Thread(target=put_all)
        thread.start()
        found = list(iter(newest.take, None))
        thread.join()
        assert (found, newest.dropped) == (list(range(50)), 0)

    def test_the_last_item_is_there_before_the_end_and_the_error(self) -> None:
        newest: Newest[int] = Newest()
        newest.put(1)
        newest.end(ValueError("broken"))
        assert newest.take() == 1
        with pytest.raises(ValueError, match="broken"):
            newest.take()

    def test_the_end_wakes_who_waits(self) -> None:
        newest: Newest[int] = Newest()
        newest.put(0)
        thread = Thread(target=lambda: newest.put(1, wait=True))
        thread.start()
        newest.end()
        thread.join(5)
        assert not thread.is_alive()


class TestSmoother:
    def feed(self, smoother: Smoother, *frames: tuple[float, float, float]) -> list[int | None]:
        found = []
        for frame in frames:
            smoother.add(np.array(frame))
            found.append(smoother.present)
        return found

    def test_one_odd_frame_changes_nothing(self) -> None:
        good, odd = (0.9, 0.1, 0.0), (0.0, 1.0, 0.0)
        assert self.feed(Smoother(window=5), *[good] * 5, odd, good) == [0] * 7

    def test_a_new_class_takes_over_once_it_leads(self) -> None:
        assert self.feed(Smoother(window=2), (0.9, 0.1, 0), (0.1, 0.9, 0), (0.1, 0.9, 0)) == [0, 0, 1]

    def test_hysteresis(self) -> None:
        """Two classes of equal probability do not flicker."""
        frames = [(0.55, 0.45, 0), (0.46, 0.54, 0), (0.45, 0.55, 0)]
        assert self.feed(Smoother(window=1, threshold=0.4, hysteresis=0.15), *frames) == [0, 0, 0]
        assert self.feed(Smoother(window=1, threshold=0.4, hysteresis=0), *frames) == [0, 1, 1]

    def test_nothing_probable_enough(self) -> None:
        frames = [(0.4, 0.3, 0.3), (0.8, 0.1, 0.1), (0.45, 0.3, 0.25), (0.3, 0.4, 0.3)]
        assert self.feed(Smoother(window=1), *frames) == [None, 0, 0, None]

    def test_the_mean_is_that_of_the_window(self) -> None:
        smoother = Smoother(window=2)
        smoother.add(np.array([1.0, 0.0]))
        smoother.add(np.array([0.5, 0.5]))
        np.testing.assert_allclose(smoother.add(np.array([0.0, 1.0])), [0.25, 0.75])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"window": 0}, "window 0: must be 1 or more"),
            ({"threshold": 1.5}, r"threshold 1.5: must be in 0..1"),
            ({"hysteresis": -0.1}, r"hysteresis -0.1: must be in 0..1"),
        ],
    )
    def test_values_out_of_range(self, options: dict[str, float], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Smoother(**options)  # type: ignore[arg-type]


class TestPicture:
    def test_jpegs_stay_as_they_are_and_others_are_encoded(self, tmp_path: Path) -> None:
        pixels = np.full((40, 60, 3), (200, 30, 30), np.uint8)
        jpeg = jpeg_bytes(pixels)
        with Image.open(BytesIO(jpeg)) as image:
            assert (image.format, image.size) == ("JPEG", (60, 40))
            assert np.abs(np.asarray(image, np.int16) - pixels).max() < 5
        assert jpeg_bytes(jpeg) is jpeg
        (tmp_path / "a.jpg").write_bytes(jpeg)
        assert jpeg_bytes(tmp_path / "a.jpg") == jpeg
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert jpeg_bytes(tmp_path / "a.png") == jpeg

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="gone"):
            jpeg_bytes(tmp_path / "gone.jpg")
        with pytest.raises(ImageError):
            jpeg_bytes(b"nothing")


def test_counts_of_what_was_seen() -> None:
    tally = Tally()
    assert tally.to_json() == {"event": "summary", "frames": 0, "labels": []}
    for frame, label in enumerate(("red", None, "red", "blue", "blue", "blue"), start=1):
        tally.add(observed(frame, label))
    assert tally.seen == [Seen("blue", 3, 0.85), Seen("red", 2, 0.82), Seen(None, 1, 0.82)]
    assert len(tally.to_json(2)["labels"]) == 2
