"""scripts/distillation.py and scripts/torch_copy.py: what a teacher begins with, the losses, and PyTorch's copies."""

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
torch = pytest.importorskip("torch", reason="needs PyTorch: .venv/bin/pip install torch")
keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

import distillation  # noqa: E402
import views  # noqa: E402
from torch_copy import TorchCopy  # noqa: E402

from edgeq.networks.architecture import Architecture  # noqa: E402
from edgeq.networks.mobilenet_v2 import mobilenet_v2  # noqa: E402

SIDE = 64


def network_with_statistics(side: int, output_stride: int) -> Any:
    """A network whose batch normalization changes its inputs."""
    network = mobilenet_v2(Architecture("mobilenet_v2", side, side, 0.35, output_stride, classes=10), "linear")
    rng = np.random.default_rng(0)
    for variable in network.variables:
        if "bn" in variable.path.lower():
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return network


@pytest.mark.parametrize(("side", "output_stride"), [(32, 8), (96, 32), (33, 16)])
def test_a_copy_computes_the_same_and_gives_the_weights_back(side: int, output_stride: int) -> None:
    network = network_with_statistics(side, output_stride)
    copy = TorchCopy(network).eval()
    images = np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    wanted = np.asarray(network(images))
    with torch.no_grad():
        assert copy(torch.from_numpy(images)).numpy() == pytest.approx(wanted, abs=1e-4 * np.abs(wanted).max())
        for parameter in copy.parameters():
            parameter.mul_(0.9)
        changed = copy(torch.from_numpy(images)).numpy()
    assert np.abs(changed - wanted).max() > 0.01 * np.abs(wanted).max()
    found = np.asarray(copy.write_back()(images))
    assert found == pytest.approx(changed, abs=1e-4 * np.abs(changed).max())


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


def test_the_distillation_loss_is_half_labels_and_half_softened_divergence() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(10), 5)
    teacher, network = rng.normal(0, 3, (2, 5, 10))
    found = distillation.distillation_loss(*(torch.from_numpy(x) for x in (network, shares, teacher)))

    def softened(scores: np.ndarray, temperature: float) -> np.ndarray:
        powers = np.exp(scores / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softened(teacher, 2), softened(network, 2)
    divergence = 4 * np.sum(p * np.log(p / q), axis=1).mean()
    entropy = -np.sum(shares * np.log(softened(network, 1)), axis=1).mean()
    assert found.item() == pytest.approx((divergence + entropy) / 2)
