"""The networks that come with edgeq: whether their cards say what they are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import WeightsError
from edgeq.files import shipped
from edgeq.networks import OUTPUT_STRIDES, build_keras_model, build_network, bundled
from edgeq.networks.architecture import Architecture
from edgeq.networks.bundled import Bundled, bundled_for, bundled_networks

NETWORKS = bundled_networks()
PHOTOS = 200


@pytest.fixture(params=NETWORKS, ids=lambda network: network.name)
def network(request: pytest.FixtureRequest) -> Bundled:
    return request.param


def test_there_is_one() -> None:
    assert NETWORKS


def test_the_card_is_complete(network: Bundled) -> None:
    assert network.weights.is_file()
    assert network.weights.parent == shipped("models")
    assert network.weights.stat().st_size < 3_000_000  # a device downloads it
    assert len(network.labels) == len(set(network.labels)) == 10
    assert network.sizes == tuple(sorted(set(network.sizes)))
    assert network.sizes
    assert set(network.fp32_top1) == set(network.sizes)
    assert all(0.5 < top1 < 1 for top1 in network.fp32_top1.values())
    assert network.data
    for size in network.sizes:
        Architecture(network.family, size, size, network.alpha, network.output_stride)


def test_it_is_the_one_that_is_chosen(network: Bundled) -> None:
    """For its own output stride, or no option would reach it."""
    assert bundled_for(network.output_stride) == network


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_the_nearest_output_stride_is_chosen(output_stride: int) -> None:
    distances = {known.name: abs(known.output_stride - output_stride) for known in NETWORKS}
    assert distances[bundled_for(output_stride).name] == min(distances.values())


def test_the_weights_fit_and_are_numbers(network: Bundled) -> None:
    pytest.importorskip("keras")
    side = network.sizes[0]
    model = build_keras_model(
        Architecture(network.family, side, side, network.alpha, network.output_stride, classes=len(network.labels))
    )
    before = model.get_weights()
    model.load_weights(network.weights)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new)


@pytest.mark.accept
def test_real_pictures_are_named_as_often_as_the_card_says(network: Bundled, shared: Path) -> None:
    """On some of CIFAR-10's test pictures, read as any photo is."""
    pytest.importorskip("keras")
    with np.load(shared / "data" / "cifar10" / "test.npz") as data:
        jpeg, offsets = data["jpeg"], data["offsets"]
        chosen = np.linspace(0, len(data["labels"]) - 1, PHOTOS).astype(int)  # they are sorted by class
        truth = data["labels"][chosen]
        assert tuple(map(str, data["classes"])) == network.labels
    side = network.sizes[0]
    built = build_network(network.family, side, side, output_stride=network.output_stride, weights="bundled")
    assert built.preprocessing is not None
    photos = [jpeg[offsets[i] : offsets[i + 1]].tobytes() for i in chosen]
    pixels = np.stack([built.preprocessing.pixels(photo) for photo in photos])
    scores = built.keeps_alive.predict(built.preprocessing.normalize(pixels), verbose=0)
    expected = network.fp32_top1[side]
    # A sample of all test pictures: four standard deviations.
    tolerance = 4 * math.sqrt(expected * (1 - expected) / PHOTOS)
    assert float(np.mean(scores.argmax(1) == truth)) == pytest.approx(expected, abs=tolerance)


def test_an_installation_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "shipped", lambda folder: tmp_path / folder)
    assert bundled_networks() == []
    with pytest.raises(WeightsError, match="the networks that come with edgeq are missing here; install edgeq again"):
        bundled_for(32)


def test_of_several_the_nearest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stride in (("coarse", 32), ("fine", 8)):
        facts = {"architecture": "mobilenet_v2", "alpha": 0.5, "output_stride": stride, "classes": ["a", "b"]}
        card = {"network": facts | {"sizes": [4 * stride]}, "data": "made up", "top1": {str(4 * stride): {"fp32": 0.7}}}
        (tmp_path / f"{name}.card.json").write_text(json.dumps(card))
    monkeypatch.setattr(bundled, "shipped", lambda folder: tmp_path)
    assert {stride: bundled_for(stride).name for stride in OUTPUT_STRIDES} == {
        4: "fine",
        8: "fine",
        16: "fine",
        32: "coarse",
    }
    assert bundled_for(8) == Bundled(
        name="fine",
        weights=tmp_path / "fine.weights.h5",
        family="mobilenet_v2",
        alpha=0.5,
        output_stride=8,
        labels=("a", "b"),
        sizes=(32,),
        fp32_top1={32: 0.7},
        data="made up",
    )
