"""The hand-written baseline for `edgeq convert model.tflite --int8`: a plain script around ai-edge-quantizer.

Usage: quantize.py FLOAT_MODEL CALIBRATION_FOLDER OUT
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from PIL import Image, ImageOps

model, folder, out = sys.argv[1:]
samples = []
for path in sorted(Path(folder).rglob("*.jpg"))[:100]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    side = min(image.size) * 0.875
    left, top = (image.width - side) / 2, (image.height - side) / 2
    image = image.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    samples.append({"image": np.asarray(image, np.float32)[None] / 127.5 - 1})
tool = quantizer.Quantizer(model, recipe.static_wi8_ai8())
ranges = tool.calibrate({"serving_default": samples})
Path(out).write_bytes(tool.quantize(ranges).quantized_model)
