"""The exceptions that edgeq raises on purpose.

    EdgeqError                    base class; its message is one line for the user
    ├── InputError                an option, a file or a folder is invalid
    │   ├── DivergedError         the loss of a training became NaN or infinite
    │   ├── ImageError            an image cannot be decoded
    │   ├── ModelError            a .tflite file cannot be loaded or run, or is not an image classifier
    │   ├── UnknownNormalizationError  a model does not state the normalization of its input
    │   └── WeightsError          the requested weights do not exist, or do not fit the network
    │       └── UnavailableWeightsError  published weights are not cached and cannot be downloaded
    ├── ConversionError           the converter failed, or the converted file failed its verification
    ├── DeviceError               a device cannot run a request, or lacks a package
    │   └── ConnectionLostError   a device cannot be reached, or the connection broke
    ├── RuntimeUnavailableError   the requested TFLite runtime, or every runtime, is missing or unusable
    └── WorkerDiedError           a worker process ended, usually because native code crashed

A message says what happened, to which file, and what to do now. Any other exception is a bug in edgeq and may show a
traceback.
"""

from __future__ import annotations

import signal

__all__ = [
    "EXIT_ERROR",
    "EXIT_GATE_MISSED",
    "ConnectionLostError",
    "ConversionError",
    "DeviceError",
    "DivergedError",
    "EdgeqError",
    "ImageError",
    "InputError",
    "ModelError",
    "RuntimeUnavailableError",
    "UnavailableWeightsError",
    "UnknownNormalizationError",
    "WeightsError",
    "WorkerDiedError",
    "how_it_ended",
    "one_line",
]

EXIT_GATE_MISSED = 1
"""Exit code of a comparison that ran but missed ``--max-drop`` or ``--min-agreement``."""

EXIT_ERROR = 2
"""Exit code of every error: wrong usage (the code that click uses), bad input, a failed conversion."""


class EdgeqError(Exception):
    """Base class of all errors that edgeq raises on purpose."""


class InputError(EdgeqError):
    """An option, a file or a folder is invalid."""


class DivergedError(InputError):
    """The loss of a training became NaN or infinite."""


class ImageError(InputError):
    """An image cannot be decoded; the message starts with the file's name."""


class ModelError(InputError):
    """A .tflite file cannot be loaded or run, or is not an image classifier."""


class UnknownNormalizationError(InputError):
    """A model does not state its normalization, and the quantization of its input does not imply one."""


class WeightsError(InputError):
    """The requested weights do not exist, or do not fit the network."""


class UnavailableWeightsError(WeightsError):
    """Published weights are not cached and cannot be downloaded.

    Attributes:
        reason: why the download failed.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConversionError(EdgeqError):
    """The TFLite converter failed, or the converted file failed its verification."""


class DeviceError(EdgeqError):
    """A device cannot run a request, or lacks a package; the message starts with the device's name."""


class ConnectionLostError(DeviceError):
    """A device cannot be reached, or the connection broke; trying again may help."""


class RuntimeUnavailableError(EdgeqError):
    """The requested TFLite runtime, or every runtime, is missing or cannot be used in this process."""


class WorkerDiedError(EdgeqError):
    """A worker process ended instead of answering.

    Attributes:
        code: the process's exit code; if a signal ended it, the signal's number, negated.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def one_line(error: BaseException | str, limit: int = 200) -> str:
    """Shorten another library's error message to one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def how_it_ended(code: int) -> str:
    """Describe how a process ended, as a verb phrase for a message.

    Args:
        code: the process's exit code; if a signal ended it, the signal's number, negated, as in `subprocess`.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    if -code == signal.SIGKILL:
        return f"was killed (signal {-code}), which most often means that memory ran out"
    try:
        return f"died of signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a signal without a name
        return f"died of signal {-code}"
