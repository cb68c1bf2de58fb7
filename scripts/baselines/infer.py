"""The hand-written baseline for `edgeq infer`: a plain script for one image.

Usage: infer.py MODEL LABELS IMAGE
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

model, labels_file, image_file = sys.argv[1:]
labels = Path(labels_file).read_text().splitlines()
interpreter = Interpreter(model_path=model)
interpreter.allocate_tensors()
spec = interpreter.get_input_details()[0]
_, height, width, _ = spec["shape"]
image = ImageOps.exif_transpose(Image.open(image_file)).convert("RGB")
scale = min(image.width / width, image.height / height) * 0.875
left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
box = (left, top, left + width * scale, top + height * scale)
image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
real = np.asarray(image, np.float32) / 127.5 - 1
factor, zero_point = spec["quantization"]
quantized = np.clip(np.round(real / factor) + zero_point, -128, 127).astype(np.int8)
interpreter.set_tensor(spec["index"], quantized[None])
interpreter.invoke()
spec = interpreter.get_output_details()[0]
output = interpreter.get_tensor(spec["index"])[0]
factor, zero_point = spec["quantization"]
probabilities = (output.astype(np.int32) - zero_point) * factor
for index in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[index]:8.1%}  {labels[index]}")
