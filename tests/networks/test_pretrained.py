"""MobileNetV2's weights: random ones, a file's, ImageNet's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from edgeq.errors import InputError, WeightsError
from edgeq.networks import Network, build_mobilenet_v2

keras = pytest.importorskip("keras")

NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""Environment in which a download fails at once: nothing listens on that port."""


def tiny(weights: str = "none", *, alpha: float = 0.35, classes: int = 4, seed: int = 0) -> Network:
    return build_mobilenet_v2(32, 32, alpha, classes, weights, seed)


def kerass(classes: int = 4, alpha: float = 0.35, top: bool = True) -> Any:
    """Keras's own MobileNetV2, its weights and its statistics random."""
    model = keras.applications.MobileNetV2((32, 32, 3), alpha, top, weights=None, classes=classes)
    rng = np.random.default_rng(11)
    for weight in model.weights:
        if len(weight.shape) > 1:
            fan_in = np.prod(weight.shape[:2] if "depthwise" in weight.path else weight.shape[:-1])
            weight.assign(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
        elif "variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def outputs(network: Network, images: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(network.function(image[np.newaxis])) for image in images])


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)


def in_a_process_of_its_own(code: str, **environment: str) -> str:
    """Keras reads KERAS_HOME when it is imported, so this needs a new process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **NO_NETWORK, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestRandomWeights:
    def test_the_seed_decides_them(self) -> None:
        first, again, other = (tiny(seed=seed).keeps_alive.get_weights() for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1]
        assert len(kernels) == 53  # 52 convolutions and the classifier
        assert not any(np.array_equal(a, b) for a, b in kernels)

    def test_they_keep_the_signal_up_to_the_last_layer(self) -> None:
        network = tiny()
        model = network.keeps_alive
        features = keras.Model(model.input, model.get_layer("out_relu").output)(images())
        assert 1e-2 < float(np.mean(features)) < 6  # neither faded nor stuck at ReLU6's end
        assert np.ptp(outputs(network, images()), axis=0).max() > 1e-3

    def test_what_the_network_says_of_itself(self) -> None:
        network = build_mobilenet_v2(32, 48, 0.35, 4, "none", seed=9)
        assert (network.height, network.width, network.channels, network.classes) == (32, 48, 3, 4)
        assert network.name == "mobilenet_v2_0.35_48x32"
        assert network.parent == {"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "seed": 9}
        assert network.labels == ()
        assert not network.rescales_pixels


class TestWeightsOfAFile:
    def test_kerass_weights_give_kerass_outputs(self, tmp_path: Path) -> None:
        model, path = kerass(), tmp_path / "flowers.weights.h5"
        model.save_weights(path)
        network = tiny(str(path))
        expected = model.predict(images(), verbose=0)
        assert np.ptp(expected, axis=0).max() > 1e-3
        np.testing.assert_allclose(outputs(network, images()), expected, atol=1e-5)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert network.parent == {"architecture": "MobileNetV2", "alpha": 0.35, "weights": path.name, "sha256": sha256}

    def test_what_we_build_can_be_saved_and_filled_in_again(self, tmp_path: Path) -> None:
        before, path = tiny(seed=3), tmp_path / "ours.weights.h5"
        before.keeps_alive.save_weights(path)
        np.testing.assert_array_equal(outputs(tiny(str(path)), images()), outputs(before, images()))

    @pytest.mark.filterwarnings("ignore:Skipping nested container")
    @pytest.mark.parametrize(
        "differs",
        [
            pytest.param({"alpha": 0.5}, id="another-width-multiplier"),
            pytest.param({"classes": 7}, id="another-number-of-classes"),
            pytest.param({"top": False}, id="no-classifier"),
        ],
    )
    def test_weights_of_another_network(self, differs: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "other.weights.h5"
        kerass(**differs).save_weights(path)
        with pytest.raises(WeightsError, match="do not fit this network; check --alpha and --classes") as caught:
            tiny(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["bad.weights.h5", "bad.h5", "bad.txt"])
    def test_a_file_that_is_no_weights(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(WeightsError, match=name):
            tiny(str(tmp_path / name))

    @pytest.mark.parametrize("name", ["nothing.h5", "", "ImageNet", "."])
    def test_no_file(self, name: str) -> None:
        with pytest.raises(WeightsError, match="no such weights file"):
            tiny(name)


class TestImpossible:
    @pytest.mark.parametrize("alpha", [0.0, -0.35, float("nan"), float("inf")])
    def test_width_multipliers(self, alpha: float) -> None:
        with pytest.raises(InputError, match=f"width multiplier {alpha}"):
            tiny(alpha=alpha)

    @pytest.mark.parametrize("size", [(31, 32), (32, 31), (0, 0)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_sizes(self, size: tuple[int, int]) -> None:
        with pytest.raises(InputError, match="smallest possible is 32x32"):
            build_mobilenet_v2(*size, 0.35, 4, "none")

    @pytest.mark.parametrize("classes", [999, 1001, 5])
    def test_imagenet_with_another_number_of_classes(self, classes: int) -> None:
        with pytest.raises(WeightsError, match=f"ImageNet's weights have 1000 classes, not {classes}"):
            build_mobilenet_v2(32, 32, 0.35, classes)

    @pytest.mark.parametrize("alpha", [0.25, 0.36, 2.0])
    def test_imagenet_with_a_width_that_was_never_trained(self, alpha: float) -> None:
        with pytest.raises(WeightsError, match=f"width multiplier {alpha}, only for 0.35, 0.5, 0.75, 1.0, 1.3, 1.4"):
            build_mobilenet_v2(96, 96, alpha)


class TestImagenetWithoutWeights:
    def test_the_message_names_the_file_and_its_place(self, tmp_path: Path) -> None:
        code = """
from edgeq.errors import WeightsError
from edgeq.networks import build_mobilenet_v2
for arguments in ((96, 96, 0.35), (96, 128, 0.5)):
    try:
        build_mobilenet_v2(*arguments)
    except WeightsError as error:
        print(error)
"""
        lines = in_a_process_of_its_own(code, KERAS_HOME=str(tmp_path)).splitlines()
        messages = [line for line in lines if line.startswith("ImageNet")]  # Keras announces its downloads
        # At its own size where there are weights for it; other sizes and shapes take those for 224.
        for message, file in zip(messages, ("0.35_96", "0.5_224"), strict=True):
            name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{file}.h5"
            assert f"Keras found no {name} and could not download it." in message
            assert f"Put it into {tmp_path / 'models'} (or set KERAS_HOME)" in message
            assert "--weights none" in message

    def test_a_file_in_the_cache_is_used_even_where_names_cannot_be_had(self, tmp_path: Path) -> None:
        model = kerass(classes=1000)
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"
        (tmp_path / "models").mkdir()
        model.save(tmp_path / "models" / name)
        code = (
            "from edgeq.networks import build_mobilenet_v2; n = build_mobilenet_v2(96, 96, 0.35); "
            "print(n.classes, len(n.labels), n.parent['weights'], n.parent['sha256'], "
            "float(n.keeps_alive.get_layer('Conv1').get_weights()[0].sum()))"
        )
        found = in_a_process_of_its_own(code, KERAS_HOME=str(tmp_path)).splitlines()[-1].split()
        sha256 = hashlib.sha256((tmp_path / "models" / name).read_bytes()).hexdigest()
        assert found[:4] == ["1000", "0", "imagenet", sha256]
        assert float(found[4]) == pytest.approx(float(model.get_layer("Conv1").get_weights()[0].sum()), rel=1e-5)


def test_real_imagenet_weights(shared: Path) -> None:
    code = """
import numpy as np
from edgeq.networks import build_mobilenet_v2
from edgeq.preprocessing import Preprocessing
for size in (224, 160):
    network = build_mobilenet_v2(size, size)
    preprocessing = Preprocessing(size, size)
    image = preprocessing.normalize(preprocessing.pixels("models/coral/parrot.jpg"))[None]
    best = int(np.argmax(network.function(image)))
    print(network.name, network.classes, len(network.labels), network.labels[0], network.labels[-1], best, sep="|")
    print(network.parent)
"""
    code = f"import os; os.chdir({str(shared)!r})\n{code}"
    lines = in_a_process_of_its_own(code, KERAS_HOME=str(shared / "weights" / "keras_home")).splitlines()
    for size, found, parent in zip((224, 160), lines[::2], lines[1::2], strict=True):
        assert found == f"mobilenet_v2_1.0_{size}|1000|1000|tench|toilet tissue|88"  # 88: macaw
        assert "'weights': 'imagenet'" in parent
