"""What a network is before it has weights: output strides, heads, sizes, names."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from edgeq.errors import InputError
from edgeq.networks import (
    FAMILIES,
    OUTPUT_STRIDES,
    Architecture,
    build_keras_model,
    choose_output_stride,
    default_output_stride,
)

SMALL = Architecture("mobilenet_v2", 32, 32, 0.35, classes=5)


class TestOutputStride:
    @pytest.mark.parametrize(
        ("side", "stride"),
        [
            *((4, 4), (12, 4), (20, 4), (24, 4)),
            *((25, 8), (28, 8), (32, 8), (48, 8)),
            *((49, 16), (64, 16), (96, 16)),
            *((97, 32), (128, 32), (224, 32), (512, 32)),
        ],
    )
    def test_auto(self, side: int, stride: int) -> None:
        assert choose_output_stride(side, side) == stride
        # The shorter side decides.
        assert choose_output_stride(side, 600) == choose_output_stride(600, side) == stride

    @pytest.mark.parametrize("width", [13, 28, 64, 100, 300])
    def test_auto_leaves_four_cells_or_more_and_no_finer_stride_than_that_takes(self, width: int) -> None:
        for height in range(13, 300):
            stride = choose_output_stride(height, width)
            cells = min(Architecture(height=height, width=width, output_stride=stride).last_map)
            assert cells >= 4
            assert stride == 32 or min(height, width) / (2 * stride) <= 3  # else twice the stride would do

    @pytest.mark.parametrize("side", range(4, 13))
    def test_auto_is_the_finest_where_nothing_leaves_four_cells(self, side: int) -> None:
        assert choose_output_stride(side, side) == 4
        assert Architecture(height=side, width=side, output_stride=4).last_map == (math.ceil(side / 4),) * 2

    @pytest.mark.parametrize(
        ("size", "stride"),
        [
            ((224, 224), 32),
            ((96, 96), 32),
            ((96, 300), 32),
            ((95, 95), 16),
            ((300, 95), 16),
            ((32, 32), 8),
            ((9, 9), 4),
        ],
        ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value),
    )
    def test_the_papers_is_the_default_for_the_sizes_that_were_published(
        self, size: tuple[int, int], stride: int
    ) -> None:
        assert default_output_stride(*size) == stride

    @pytest.mark.parametrize("side", [13, 32, 50, 97])
    def test_networks_have_the_last_map_that_is_said(self, side: int) -> None:
        keras = pytest.importorskip("keras")
        architecture = replace(SMALL, height=side, width=side + 7, output_stride=choose_output_stride(side, side + 7))
        model = build_keras_model(architecture)
        (pooling,) = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
        assert tuple(pooling.input.shape[1:3]) == architecture.last_map
        assert min(architecture.last_map) >= 4


class TestImpossible:
    @pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_sizes_name_the_smallest_that_is_possible(self, family: str, output_stride: int) -> None:
        Architecture(family, output_stride, output_stride, output_stride=output_stride)
        for height, width in ((output_stride - 1, 300), (300, output_stride - 1), (0, 0)):
            with pytest.raises(InputError, match=f"input size {width}x{height}: too small") as caught:
                Architecture(family, height, width, output_stride=output_stride)
            message = str(caught.value)
            assert f"output stride of {output_stride}; the smallest possible side is {output_stride} pixels" in message
            assert message.endswith("; with --output-stride auto, 4") is (output_stride > 4)
            assert "\n" not in message

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"family": "mobilenet_v4"}, "network 'mobilenet_v4': must be one of mobilenet_v2, mobilenet_v3_large, "),
            ({"output_stride": 2}, "output stride 2: must be 4, 8, 16 or 32"),
            ({"output_stride": 64}, "output stride 64: must be 4, 8, 16 or 32"),
            ({"alpha": 0.0}, "width multiplier 0.0: must be positive"),
            ({"alpha": -0.35}, "width multiplier -0.35: must be positive"),
            ({"alpha": math.nan}, "width multiplier nan: must be positive"),
            ({"alpha": math.inf}, "width multiplier inf: must be positive"),
            ({"classes": 0}, "0 classes: must be 1 or more"),
            ({"head": -1}, "head -1: must be 0 or more units"),
        ],
        ids=lambda value: str(value).strip("{}") if isinstance(value, dict) else "",
    )
    def test_other_arguments(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=f"^{re.escape(message)}"):
            Architecture(**wrong)


class TestWhatItSays:
    @pytest.mark.parametrize(
        ("architecture", "name"),
        [
            (Architecture(), "mobilenet_v2_1.0_224"),
            (Architecture(alpha=1), "mobilenet_v2_1.0_224"),
            (Architecture(height=120, width=160, alpha=0.35), "mobilenet_v2_0.35_160x120"),
            (Architecture(height=32, width=32, output_stride=8), "mobilenet_v2_1.0_32_os8"),
            (Architecture("mobilenet_v3_small", head=0), "mobilenet_v3_small_1.0_224_head0"),
            (
                Architecture("mobilenet_v3_large_minimalistic", 64, 48, output_stride=16, head=128),
                "mobilenet_v3_large_minimalistic_1.0_48x64_os16_head128",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_name(self, architecture: Architecture, name: str) -> None:
        assert architecture.name == name

    def test_plain_data_has_what_differs_from_the_paper(self) -> None:
        assert Architecture(alpha=1).to_json() == {"architecture": "mobilenet_v2", "alpha": 1.0}
        facts = replace(SMALL, family="mobilenet_v3_small", output_stride=8, head=0).to_json()
        assert facts == {"architecture": "mobilenet_v3_small", "alpha": 0.35, "output_stride": 8, "head": 0}
        assert json.loads(json.dumps(facts)) == facts

    @pytest.mark.parametrize("family", FAMILIES)
    def test_preprocessing_is_what_the_family_was_published_with(self, family: str) -> None:
        preprocessing = Architecture(family, 160, 128).preprocessing
        assert preprocessing.real_range == ((-1, 1) if family == "mobilenet_v2" else (0, 255))
        assert (preprocessing.height, preprocessing.width, preprocessing.channels) == (160, 128, "RGB")
        assert preprocessing.crop == 0.875
        assert Architecture(family, 64, 64).preprocessing.crop == 1.0  # small pictures are whole


class TestHead:
    """Layers after the last feature map, as Keras lists them."""

    @staticmethod
    def layers_of(architecture: Architecture) -> list[tuple[str, tuple[int, ...]]]:
        """The names and the output shapes of the layers from the global average pooling on."""
        keras = pytest.importorskip("keras")
        layers = build_keras_model(architecture).layers
        poolings = [n for n, layer in enumerate(layers) if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
        return [(layer.name, tuple(layer.output.shape[1:])) for layer in layers[poolings[-1] :]]

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("family", ["mobilenet_v3_small", "mobilenet_v2", "mobilenet_v3_large_minimalistic"])
    @pytest.mark.parametrize("head", [0, 16])
    def test_of_ones_own(self, family: str, head: int) -> None:
        features = {"mobilenet_v2": 1280, "mobilenet_v3_small": 576, "mobilenet_v3_large_minimalistic": 960}[family]
        architecture = Architecture(family, 33, 40, output_stride=16, classes=5, head=head)
        units = [("head", (16,))] if head else []
        assert self.layers_of(architecture) == [
            ("global_average_pooling2d", (features,)),
            *units,
            ("predictions", (5,)),
        ]

    def test_units_have_a_relu_and_scores_are_probabilities_or_logits(self) -> None:
        pytest.importorskip("keras")
        for activation in ("softmax", "linear"):
            model = build_keras_model(replace(SMALL, head=16), activation)
            assert model.get_layer("head").activation.__name__ == "relu"
            assert model.get_layer("predictions").activation.__name__ == activation

    def test_of_mobilenet_v2(self) -> None:
        assert self.layers_of(SMALL) == [("global_average_pooling2d", (1280,)), ("predictions", (5,))]

    def test_of_mobilenet_v3_is_the_published_one(self) -> None:
        """Table 2 of arXiv 1905.02244: pooling, 1x1 to 1024 without batch normalization, 1x1 to the classes."""
        architecture = Architecture("mobilenet_v3_small", 32, 32, output_stride=8, classes=5)
        shapes = [shape for _, shape in self.layers_of(architecture)]
        assert [*dict.fromkeys(shapes)] == [(1, 1, 576), (1, 1, 1024), (1, 1, 5), (5,)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("family", "height", "width"),
    [
        ("mobilenet_v2", 200, 300),
        ("mobilenet_v2", 300, 300),
        ("mobilenet_v2", 512, 512),
        ("mobilenet_v3_small", 512, 512),
        ("mobilenet_v3_small", 200, 300),
    ],
)
def test_large_and_rectangular_inputs(family: str, height: int, width: int) -> None:
    keras = pytest.importorskip("keras")
    model = build_keras_model(Architecture(family, height, width, classes=5))
    assert model.input_shape == (None, height, width, 3)
    assert model.output_shape == (None, 5)
    poolings = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    assert tuple(poolings[-1].input.shape[1:3]) == (math.ceil(height / 32), math.ceil(width / 32))


def test_importing_networks_leaves_tensorflow_alone() -> None:
    code = "import sys, edgeq.networks; sys.exit(bool({'tensorflow', 'keras', 'h5py'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
