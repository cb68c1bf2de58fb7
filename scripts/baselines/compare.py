"""The hand-written baseline for `edgeq compare`: a plain loop on one thread.

Usage: compare.py REFERENCE CANDIDATE FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

models = []
for model in sys.argv[1:3]:
    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    models.append((interpreter, interpreter.get_input_details()[0], interpreter.get_output_details()[0]))
agreed = images = 0
for path in sorted(Path(sys.argv[3]).rglob("*.jpg")):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    side = min(image.size) * 0.875
    left, top = (image.width - side) / 2, (image.height - side) / 2
    image = image.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    real = np.asarray(image, np.float32)[None] / 127.5 - 1
    answers = []
    for interpreter, source, target in models:
        tensor = real
        if source["dtype"] is np.int8:
            scale, zero_point = source["quantization"]
            tensor = np.clip(np.round(real / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], tensor)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(target["index"]).argmax())
    images += 1
    agreed += answers[0] == answers[1]
print(f"agreement {agreed / images:.3f} on {images} images")
