"""`edgeq.summarize`: of files, networks and architectures alike."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.errors import InputError, ModelError
from edgeq.networks import Architecture, build_network, open_network, summarize

keras = pytest.importorskip("keras")


def test_an_architecture_and_the_network_built_from_it_are_one() -> None:
    architecture = Architecture("mobilenet_v2", 32, 48, alpha=0.35, output_stride=8, classes=10)
    summary = summarize(architecture)
    assert (summary.name, summary.input_shape) == (architecture.name, (32, 48, 3))
    network = build_network("mobilenet_v2", 32, 48, alpha=0.35, output_stride=8, classes=10, weights="none")
    assert summarize(network) == summary


def test_a_file_and_the_network_opened_from_it_are_one(colour_network: Path) -> None:
    summary = summarize(colour_network)
    assert (summary.name, summary.input_shape, summary.parameters) == ("colours", (32, 32, 3), 27 + 12 + 12)
    assert replace(summary, blocks=()) == replace(summarize(open_network(colour_network)), blocks=())
    assert summarize(str(colour_network), size=(32, 32)) == summary


def test_an_open_size(tmp_path: Path) -> None:
    layers = keras.layers
    keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()]).save(
        tmp_path / "open.keras"
    )
    assert summarize(tmp_path / "open.keras", size=(10, 12)).multiply_adds == 8 * 10 * 4 * 27
    with pytest.raises(InputError, match="leaves its input size open"):
        summarize(tmp_path / "open.keras")


def test_a_saved_model_has_no_layers(colour_network: Path, tmp_path: Path) -> None:
    keras.models.load_model(colour_network).export(tmp_path / "saved", verbose=False)
    for source in (tmp_path / "saved", open_network(tmp_path / "saved")):
        with pytest.raises(ModelError, match="saved: a SavedModel has no layers to list"):
            summarize(source)


def test_nothing_is_printed(colour_network: Path, capfd: pytest.CaptureFixture[str]) -> None:
    summarize(colour_network)
    os.write(1, b"heard\n")
    assert capfd.readouterr() == ("heard\n", "")
