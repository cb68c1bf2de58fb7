"""The hand-written baseline for `edgeq watch -`: a plain loop over the JPEGs on standard input.

Usage: watch.py MODEL LABELS < frames.mjpeg
"""

import os
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, labels_file = sys.argv[1:]
labels = Path(labels_file).read_text().splitlines()
interpreter = Interpreter(model_path=model)
interpreter.allocate_tensors()
spec = interpreter.get_input_details()[0]
out = interpreter.get_output_details()[0]
_, height, width, _ = spec["shape"]
factor, zero_point = spec["quantization"]
received = b""
while part := os.read(0, 1 << 16):
    received += part
    start, end = received.find(b"\xff\xd8"), received.find(b"\xff\xd9")
    if start < 0 or end < 0:
        continue
    image = Image.open(BytesIO(received[start : end + 2]))
    received = received[end + 2 :]
    image.draft("RGB", (2 * width, 2 * height))
    scale = min(image.width / width, image.height / height) * 0.875
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, box=box)
    real = np.asarray(resized, np.float32) / 127.5 - 1
    quantized = np.clip(np.round(real / factor) + zero_point, -128, 127).astype(np.int8)
    interpreter.set_tensor(spec["index"], quantized[None])
    interpreter.invoke()
    output = interpreter.get_tensor(out["index"])[0]
    best = int(np.argmax(output))
    print(labels[best], (int(output[best]) - out["quantization"][1]) * out["quantization"][0], flush=True)
