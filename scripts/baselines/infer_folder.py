"""The hand-written baseline for `edgeq infer` on a folder: a plain loop that decodes JPEGs at reduced scale.

Usage: infer_folder.py MODEL LABELS FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

model, labels_file, folder = sys.argv[1:]
labels = Path(labels_file).read_text().splitlines()
interpreter = Interpreter(model_path=model)
interpreter.allocate_tensors()
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
_, height, width, _ = source["shape"]
for path in sorted(Path(folder).rglob("*.jpg")):
    file = Image.open(path)
    file.draft("RGB", (2 * width, 2 * height))
    image = ImageOps.exif_transpose(file).convert("RGB")
    side = min(image.size) * 0.875
    left, top = (image.width - side) / 2, (image.height - side) / 2
    image = image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    real = np.asarray(image, np.float32) / 127.5 - 1
    scale, zero_point = source["quantization"]
    quantized = np.clip(np.round(real / scale) + zero_point, -128, 127).astype(np.int8)
    interpreter.set_tensor(source["index"], quantized[None])
    interpreter.invoke()
    output = interpreter.get_tensor(target["index"])[0]
    scale, zero_point = target["quantization"]
    probabilities = (output.astype(np.int32) - zero_point) * scale
    print(path)
    for index in np.argsort(-probabilities)[:5]:
        print(f"{probabilities[index]:8.1%}  {labels[index]}")
