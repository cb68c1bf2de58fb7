"""The .tflite file format: read, check, repair, edit and write files and their metadata.

Device side: `archive`, `metadata`, `header`, `integrity`, `repair` and `output_kind`. They read the file's tables
through `flatbuffer` and `schema`, without the ``flatbuffers`` package.

Host side: `graph` and the modules that build on it (`editing`, `extraction`, `packing`, `metadata_writer`). They need
the classes generated from TFLite's schema, which come with ai-edge-litert.
"""

from __future__ import annotations

__all__: list[str] = []
