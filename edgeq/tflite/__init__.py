"""The .tflite file format: read, check, repair, edit and write files and their metadata.

`archive`, `metadata`, `header`, `integrity`, `repair` and `output_kind` need the standard library alone, so they also
run on a device; they read tables through `flatbuffer` and `schema`. `graph` and what builds on it (`editing`,
`extraction`, `packing`, `metadata_writer`) need the classes generated from TFLite's schema, which come with
ai-edge-litert.
"""

from __future__ import annotations

__all__: list[str] = []
