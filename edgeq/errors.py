"""Everything that edgeq raises on purpose.

    EdgeqError                    base class; its message is one line for the user
    ├── InputError                an option, a file or a folder is not what it should be
    │   ├── ImageError            an image that cannot be decoded
    │   ├── ModelError            a .tflite that cannot be loaded, or is no image classifier
    │   ├── UnknownNormalizationError  a model does not say what its input is normalized to
    │   └── WeightsError          weights that do not exist or do not fit
    │       └── UnavailableWeightsError  weights that exist, but cannot be had here
    ├── ConversionError           the converter refused, or its result is not what was asked for
    ├── DeviceError               a device cannot do what was asked of it, or lacks something
    │   └── ConnectionLostError   it cannot be reached, or no longer
    ├── RuntimeUnavailableError   no TFLite runtime, or not the one that was asked for
    └── WorkerDiedError           a worker process ended, most often because native code crashed

A message says what was wrong, in which file, and what to do about it. Anything else that escapes from
edgeq is a bug in edgeq and may show a traceback.
"""

from __future__ import annotations

__all__ = [
    "EXIT_ERROR",
    "EXIT_GATE_MISSED",
    "ConnectionLostError",
    "ConversionError",
    "DeviceError",
    "EdgeqError",
    "ImageError",
    "InputError",
    "ModelError",
    "RuntimeUnavailableError",
    "UnavailableWeightsError",
    "UnknownNormalizationError",
    "WeightsError",
    "WorkerDiedError",
    "one_line",
]

EXIT_GATE_MISSED = 1
"""Exit code of a comparison that ran but missed ``--max-drop`` or ``--min-agreement``."""

EXIT_ERROR = 2
"""Exit code of everything that went wrong: wrong usage (as click has it), bad input, a failed conversion."""


class EdgeqError(Exception):
    """Base class of all errors that edgeq raises on purpose."""


class InputError(EdgeqError):
    """An option, a file or a folder is not what it should be."""


class ImageError(InputError):
    """An image cannot be decoded; the message starts with the file's name."""


class ModelError(InputError):
    """A .tflite file cannot be loaded or invoked, or is not an image classifier."""


class UnknownNormalizationError(InputError):
    """A model neither says how its input is normalized, nor can it be told from its quantization."""


class WeightsError(InputError):
    """Weights that were asked for do not exist, or do not fit the network."""


class UnavailableWeightsError(WeightsError):
    """Published weights are neither in a cache nor to be downloaded from here.

    Attributes:
        reason: why the download failed.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConversionError(EdgeqError):
    """The TFLite converter refused the network, or its result failed verification."""


class DeviceError(EdgeqError):
    """A device cannot do what was asked of it, or lacks something; the message starts with its name."""


class ConnectionLostError(DeviceError):
    """A device cannot be reached, or no longer; trying again may help."""


class RuntimeUnavailableError(EdgeqError):
    """No TFLite runtime is installed, or not the one that was asked for."""


class WorkerDiedError(EdgeqError):
    """A worker process ended instead of answering.

    Attributes:
        code: exit code; negative is the number of a signal.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def one_line(error: BaseException | str, limit: int = 200) -> str:
    """What another library's error says, as one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
