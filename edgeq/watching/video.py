"""Frames of video files, V4L2 cameras and RTSP streams, decoded by PyAV (extra ``camera``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import EdgeqError, InputError, one_line
from edgeq.images import Source as Image
from edgeq.watching.source import SourceLostError

__all__ = ["Video"]

_TIMEOUT_S = 10.0
_DEVICE = "/dev/"


class Video:
    """A source that PyAV opens.

    Attributes:
        name: the source's name in messages.
        comes_back: True for cameras and streams, False for files.
        keeps_all: False: frames that come too fast are dropped.
    """

    keeps_all = False

    def __init__(self, name: str, size: tuple[int, int], rate: float) -> None:
        """Check the name; for the arguments, see ``open_source``.

        Raises:
            InputError: there is no such file.
            EdgeqError: PyAV is not installed.
        """
        is_url = "://" in name
        if not is_url and not name.startswith(_DEVICE) and not Path(name).is_file():
            raise InputError(f"{name}: no such source; give picamera, a device, a video file, a URL, a folder or -")
        try:
            import av
        except ImportError:
            raise EdgeqError(
                f"{name}: needs PyAV, which is not installed: pip install 'edgeq[camera]'; for a "
                "board: edgeq device setup HOST --with camera"
            ) from None
        self._av: Any = av
        self.name, self.comes_back = name, is_url or name.startswith(_DEVICE)
        self._options: dict[str, str] = {}
        self._format = None
        if name.startswith(_DEVICE):
            self._format = "v4l2"
            self._options = {"video_size": f"{size[1]}x{size[0]}", "framerate": f"{rate:g}", "input_format": "mjpeg"}
        elif is_url:
            self._options = {"rtsp_transport": "tcp"}
        self._closed = False

    def frames(self) -> Iterator[Image]:
        """Yield the frames as uint8 arrays, (height, width, 3) RGB."""
        try:
            with self._av.open(self.name, format=self._format, options=self._options, timeout=_TIMEOUT_S) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    if self._closed:
                        return
                    yield frame.to_ndarray(format="rgb24")
        except IndexError:
            raise InputError(f"{self.name}: has no video") from None
        except (self._av.FFmpegError, OSError) as error:
            kind = SourceLostError if self.comes_back else InputError
            raise kind(f"{self.name}: {one_line(getattr(error, 'strerror', None) or error)}") from None
        if self.comes_back:
            raise SourceLostError(f"{self.name}: the stream ended")

    def close(self) -> None:
        """Stop after the frame that is being read."""
        self._closed = True
