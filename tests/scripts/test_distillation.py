"""scripts/distillation.py: what a teacher begins with, and the losses."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

import distillation  # noqa: E402
import views  # noqa: E402

from edgeq.networks.architecture import Architecture  # noqa: E402
from edgeq.networks.mobilenet_v2 import mobilenet_v2  # noqa: E402

SIDE = 64


@pytest.mark.accept
def test_the_teacher_computes_what_imagenets_weights_do(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the statistics of a batch, which batch normalization folded into convolutions would not survive."""
    original = keras.applications.MobileNetV2
    (file,) = (shared / "weights" / "keras_home" / "models").glob("*mobilenet_v2*1.0_224.h5")
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda weights: original(weights=file))
    with np.load(shared / "data" / "cifar10" / "test.npz") as data:
        jpeg, offsets = data["jpeg"], data["offsets"]
    files = [jpeg[offsets[i] : offsets[i + 1]].tobytes() for i in range(0, 4800, 100)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in files])
    seen = views.whole_pictures(pixels, SIDE)
    network = mobilenet_v2(Architecture("mobilenet_v2", SIDE, SIDE, classes=10), "linear")
    distillation.imagenet_teacher(network, seen)

    published = mobilenet_v2(Architecture("mobilenet_v2", SIDE, SIDE, classes=1000), "linear")
    published.set_weights(keras.applications.MobileNetV2(weights="imagenet").get_weights())
    x = views.render(seen)

    def features(model: Any, training: bool) -> np.ndarray:
        return np.asarray(keras.Model(model.input, model.get_layer("out_relu").output)(x, training=training))

    wanted = features(published, training=False)
    assert features(network, training=False) == pytest.approx(wanted, abs=1e-2)
    assert np.abs(features(network, training=True) - wanted).mean() < 0.05 * wanted.mean()


def test_the_distillation_loss_is_the_divergence_of_softened_probabilities() -> None:
    rng = np.random.default_rng(0)
    shares, teacher, network = rng.normal(0, 3, (3, 5, 10)).astype(np.float32)
    found = np.asarray(distillation.distillation_loss(np.stack([shares, teacher], axis=1), network))

    def softened(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores.astype(np.float64) / 2)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softened(teacher), softened(network)
    assert found == pytest.approx(4 * np.sum(p * np.log(p / q), axis=1), rel=1e-4)


def test_top1_compares_with_the_largest_share() -> None:
    shares = np.array([[0.7, 0.3], [0.3, 0.7]], np.float32)
    scores = np.array([[1, 0], [1, 0]], np.float32)
    assert np.asarray(distillation.top1(np.stack([shares, shares], axis=1), scores)).tolist() == [1, 0]
