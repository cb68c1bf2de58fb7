"""Four small networks that are no image classifiers, trained for a few steps, and samples for them."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from conftest import making

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class FloatModel:
    """A float32 .tflite file and samples for it.

    Attributes:
        path: NAME_float32.tflite.
        keras: NAME.keras, from which that file was made.
        saved_model: the same as a SavedModel folder.
        calibration: a folder of one .npz file per sample, for calibration.
        data: one .npz file of other samples, for comparisons.
        expected: one .npz file with what Keras computes for these.
    """

    path: Path
    keras: Path
    saved_model: Path
    calibration: Path
    data: Path
    expected: Path


def sine_windows(count: int, size: int, seed: int) -> np.ndarray:
    """Windows of noisy sums of two sines, (count, size) float32: data with a structure to learn."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, size)
    a, b = (rng.uniform(1, 9, (count, 1)) for _ in range(2))
    return (np.sin(2 * np.pi * a * t) + 0.5 * np.cos(2 * np.pi * b * t) + rng.normal(0, 0.05, (count, size))).astype(
        "f4"
    )


def autoencoder() -> tuple[Any, Callable[[int, int], Batch], Callable[[Batch], Any]]:
    """Dense layers from 640 values through 8 to 640, as in MLPerf Tiny's anomaly detection."""
    import keras

    x = source = keras.Input((640,), name="features")
    for units in (64, 8, 64):
        x = keras.layers.Dense(units, activation="relu")(x)
    model = keras.Model(source, {"reconstruction": keras.layers.Dense(640, name="reconstruction")(x)})
    return model, lambda n, seed: {"features": sine_windows(n, 640, seed)}, lambda b: {"reconstruction": b["features"]}


def keyword_spotter() -> tuple[Any, Callable[[int, int], Batch], Callable[[Batch], Any]]:
    """A depthwise separable network on 49x10x1 features with 12 outputs, as in MLPerf Tiny's keyword spotting."""
    import keras

    layers = keras.layers
    source = keras.Input((49, 10, 1), name="spectrogram")
    x = layers.Conv2D(16, (10, 4), strides=2, padding="same", activation="relu")(source)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(source, {"scores": layers.Dense(12, activation="softmax", name="scores")(x)})

    def samples(count: int, seed: int) -> Batch:
        return {"spectrogram": 20 * sine_windows(count, 490, seed).reshape(-1, 49, 10, 1)}

    def targets(batch: Batch) -> Batch:
        energy = batch["spectrogram"].reshape(len(batch["spectrogram"]), -1).std(axis=1)
        return {"scores": np.eye(12, dtype="f4")[(energy * 7).astype(int) % 12]}

    return model, samples, targets


def two_by_two() -> tuple[Any, Callable[[int, int], Batch], Callable[[Batch], Any]]:
    """A picture and a vector in; a mask of the picture's size and two angles out."""
    import keras

    layers = keras.layers
    picture, state = keras.Input((16, 16, 3), name="picture"), keras.Input((6,), name="state")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(picture)
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    joined = layers.Concatenate()([pooled, layers.Dense(8, activation="relu")(state)])
    angles = layers.Dense(2, name="angles")(layers.Dense(16, activation="relu")(joined))
    model = keras.Model({"picture": picture, "state": state}, {"mask": mask, "angles": angles})

    def samples(count: int, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        return {"picture": rng.random((count, 16, 16, 3), "f4"), "state": rng.normal(0, 2, (count, 6)).astype("f4")}

    def targets(batch: Batch) -> Batch:
        bright = (batch["picture"].mean(axis=-1, keepdims=True) > 0.5).astype("f4")
        return {"mask": bright, "angles": batch["state"][:, :2] + batch["picture"].mean(axis=(1, 2))[:, :2]}

    return model, samples, targets


def detector() -> tuple[Any, Callable[[int, int], Batch], Callable[[Batch], Any]]:
    """A picture in; 64 boxes (64x4) and their scores (64x3) out, as a single-shot detector gives them."""
    import keras

    layers = keras.layers
    source = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu6")(source)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6")(x)
    boxes = layers.Reshape((64, 4), name="boxes")(layers.Conv2D(4, 1)(x))
    scores = layers.Activation("sigmoid", name="scores")(layers.Reshape((64, 3))(layers.Conv2D(3, 1)(x)))
    model = keras.Model(source, {"boxes": boxes, "scores": scores})

    def samples(count: int, seed: int) -> Batch:
        return {"image": np.random.default_rng(seed).uniform(-1, 1, (count, 32, 32, 3)).astype("f4")}

    def targets(batch: Batch) -> Batch:
        cells = batch["image"].reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(-1, 64, 3)
        return {"boxes": np.concatenate([cells, -cells[..., :1]], axis=-1), "scores": (cells > 0).astype("f4")}

    return model, samples, targets


BUILDERS = {f.__name__: f for f in (autoencoder, keyword_spotter, two_by_two, detector)}


def small_networks() -> dict[str, FloatModel]:
    """Return the networks by name, trained for a few steps and converted by TensorFlow's converter.

    They are made once and kept between runs.
    """
    version = metadata.version("tensorflow") if importlib.util.find_spec("tensorflow") else ""
    digest = hashlib.sha256(Path(__file__).read_bytes() + version.encode()).hexdigest()[:12]
    with making(f"tensors-{digest}") as folder:
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in BUILDERS:
                _make(name, folder / name)
            (folder / "done").touch()
    return {
        name: FloatModel(
            f / f"{name}_float32.tflite",
            f / f"{name}.keras",
            f / "saved_model",
            f / "calibration",
            f / "data.npz",
            f / "expected.npz",
        )
        for name, f in ((name, folder / name) for name in BUILDERS)
    }


def _make(name: str, folder: Path) -> None:
    """Build and train one network, and write its files."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    model, samples, targets = BUILDERS[name]()
    model.compile(keras.optimizers.Adam(3e-3), loss=dict.fromkeys(model.output, "mse"))
    batch, data = samples(256, 0), samples(20, 1)
    inputs, others = (b if len(b) > 1 else next(iter(b.values())) for b in (batch, data))
    model.fit(inputs, targets(batch), epochs=3, batch_size=32, verbose=0)
    (folder / "calibration").mkdir(parents=True)
    for number in range(40):
        np.savez(folder / "calibration" / f"{number:03}.npz", **{key: v[number] for key, v in batch.items()})
    np.savez(folder / "data.npz", **data)
    np.savez(folder / "expected.npz", **model.predict(others, verbose=0))
    model.save(folder / f"{name}.keras")
    (folder / f"{name}_float32.tflite").write_bytes(_converted(tf, model, folder / "saved_model"))


def _converted(tf: Any, model: Any, folder: Path) -> bytes:
    """Convert a Keras model by TensorFlow's converter, with a signature of the inputs' and outputs' names."""
    specs = {tensor.name: tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, tensor.name) for tensor in model.inputs}

    @tf.function(input_signature=list(specs.values()))
    def run(*tensors: Any) -> Any:
        return model(dict(zip(specs, tensors, strict=True)) if len(specs) > 1 else tensors[0])

    module = tf.Module()
    module.run, module.kept = run, [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder), {"serving_default": run.get_concrete_function()})
    content: bytes = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    return content
