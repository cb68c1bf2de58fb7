"""What watching a source yields: the result of a frame, or an interruption of the source."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeq.classification import Prediction
from edgeq.images import Source as Image

__all__ = ["COUNTS", "Interruption", "Observed", "from_json"]

COUNTS = ("frame", "dropped", "damaged", "interruptions")
"""Attributes of `Observed` that count since the start."""

_INTERRUPTION = "interruption"


@dataclass(frozen=True)
class Observed:
    """The result of one frame.

    Attributes:
        time: when the frame was captured, in seconds since 1970.
        frame: the frame's number in the source, from 1, counting dropped frames. It goes on when the source is opened
            again.
        file: the photo's path, for a folder; None for other sources.
        label: the smoothed label; None if no class is probable enough.
        probability: mean probability of `label` over the window, or of the most probable class if there is none.
        changed: whether `label` differs from that of the result before.
        predictions: the most probable classes of this frame alone, best first.
        times_ms: the time of each step in milliseconds: ``decode``, ``preprocess``, ``invoke``, and ``latency``, the
            time from the frame's capture to this result.
        frames_per_second: results per second, averaged over the last few seconds.
        dropped: number of frames dropped so far, because newer ones had come.
        damaged: number of frames so far that could not be decoded.
        interruptions: how often the source failed so far.
        temperature_c: the processor's temperature in degrees Celsius, or None.
        image: the frame as the source gave it: bytes of a JPEG, a photo's path, or a uint8 array, (height, width, 3)
            RGB. See `edgeq.watching.picture.jpeg_bytes`. Not part of the JSON. Empty bytes if a board did not send it.
    """

    time: float
    frame: int
    file: str | None
    label: str | None
    probability: float
    changed: bool
    predictions: tuple[Prediction, ...]
    times_ms: dict[str, float]
    frames_per_second: float
    dropped: int
    damaged: int
    interruptions: int
    temperature_c: float | None
    image: Image = field(default=b"", repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes, except the image, as plain JSON data."""
        content = asdict(replace(self, image=b""))  # `asdict` would copy the image
        del content["image"]
        return {"event": "label" if self.changed else "frame"} | content

    @classmethod
    def from_json(cls, data: dict[str, Any], image: Image = b"") -> Observed:
        """Make an object from the data that `to_json` returns, and its image."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name != "image"}
        predictions = tuple(Prediction(**prediction) for prediction in data["predictions"])
        return cls(**known | {"predictions": predictions, "image": image})


@dataclass(frozen=True)
class Interruption:
    """The source failed, and will be opened again.

    Attributes:
        time: when it failed, in seconds since 1970.
        reason: why, as a sentence without a full stop.
        wait_s: time until it is opened again, in seconds.
    """

    time: float
    reason: str
    wait_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return {"event": _INTERRUPTION} | asdict(self)


def from_json(data: dict[str, Any], image: Image = b"") -> Observed | Interruption:
    """Make an object from the data that its ``to_json`` returns.

    Args:
        data: the data; further keys are left out.
        image: the image, if it is the result of a frame.
    """
    if data["event"] == _INTERRUPTION:
        return Interruption(data["time"], data["reason"], data["wait_s"])
    return Observed.from_json(data, image)
