"""The hand-written baseline for `edgeq convert --int8`: a plain TFLiteConverter script.

Usage: convert.py WEIGHTS CALIBRATION_FOLDER OUT
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

weights, folder, out = sys.argv[1:]
model = tf.keras.applications.MobileNetV2(weights=None)
model.load_weights(weights)


def representative_dataset():
    """Yield 100 preprocessed photos."""
    for path in sorted(Path(folder).rglob("*.jpg"))[:100]:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        side = min(image.size) * 0.875
        left, top = (image.width - side) / 2, (image.height - side) / 2
        image = image.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        yield [np.asarray(image, np.float32)[None] / 127.5 - 1]


Path(out).mkdir(parents=True, exist_ok=True)
converter = tf.lite.TFLiteConverter.from_keras_model(model)
Path(out, "fp32.tflite").write_bytes(converter.convert())
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = representative_dataset
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
Path(out, "int8.tflite").write_bytes(converter.convert())
