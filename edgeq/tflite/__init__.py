"""The .tflite file format: read, check, repair, edit and write files and their metadata.

Device side: `archive`, `metadata`, `repair` and `output_kind`, which read the file's tables through `flatbuffer` and
`schema`, without the ``flatbuffers`` package; and `checking`, which comes before every other reader. It stands on
`layout` (everything is within the file), `structure` (tensors, with `sparsity`), `operations` (operators, with the
tables in `operators`, and `flexbuffer`) and `known` (files that passed before).

Host side: `graph` and the modules that build on it (`editing`, `extraction`, `packing`, `metadata_writer`). They need
the classes generated from TFLite's schema, which come with ai-edge-litert.
"""

from __future__ import annotations

__all__: list[str] = []
