"""The .tflite file format: reading, checking, repairing, editing and writing files, and their metadata.

Reading metadata, checking and repairing need the standard library alone, so they also run on a device. `graph` and the
modules that build on it need the classes generated from TFLite's schema, which come with ai-edge-litert.
"""

from __future__ import annotations

__all__: list[str] = []
