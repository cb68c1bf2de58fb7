""".keras files that bring their labels, their preprocessing and where they come from."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import InputError
from edgeq.networks import open_network
from edgeq.networks.saving import save_network
from edgeq.preprocessing import Preprocessing
from edgeq.tflite.metadata import LABELS_MEMBER, METADATA_MEMBER, ModelMetadata, read_metadata
from networks import images_for

keras = pytest.importorskip("keras")

METADATA = ModelMetadata(
    labels=("blue", "light green", "röd"),
    preprocessing=Preprocessing(16, 12, (0.0,), (255.0,), crop=0.9),
    output="probabilities",
    provenance={"architecture": "mobilenet_v2", "begun_with": "random"},
    held_out=("0123456789abcdef", "fedcba9876543210"),
)


def build() -> Any:
    """The same small network, with the same weights, whenever it is called."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((16, 12, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(image)))
    return keras.Model(image, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)), name="small")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.keras"
    save_network(build(), path, METADATA)
    return path


def test_the_same_network_gives_the_same_bytes(saved: Path) -> None:
    """Whether it is the same object or built again, where its layers have other addresses."""
    again = saved.with_name("again.keras")
    models = [build(), build()]
    for model in (*models, models[0]):
        save_network(model, again, METADATA)
        assert again.read_bytes() == saved.read_bytes()
    save_network(models[0], again, replace(METADATA, labels=("a", "b", "c")))
    assert again.read_bytes() != saved.read_bytes()


def test_objects_that_layers_share_stay_shared(tmp_path: Path) -> None:
    layers = keras.layers
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    parts = [layers.Flatten(dtype=policy), layers.Dense(3, dtype=policy), layers.Dense(2)]
    save_network(keras.Sequential([keras.Input((4, 4, 3)), *parts]), tmp_path / "net.keras", METADATA)
    loaded = keras.models.load_model(tmp_path / "net.keras").layers
    assert [layer.compute_dtype for layer in loaded] == ["float16", "float16", "float32"]
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        ids = re.findall(rb'"shared_object_id": (\d+)', archive.read("config.json"))
    assert max(map(int, ids), default=0) < 100  # no address


def test_no_time_is_in_it(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"
        assert archive.testzip() is None


def test_keras_loads_it(saved: Path, tmp_path: Path) -> None:
    model = build()
    model.save(tmp_path / "plain.keras")
    inputs = images_for("mobilenet_v2", 16, 12)
    loaded, plain = (keras.models.load_model(path) for path in (saved, tmp_path / "plain.keras"))
    assert loaded.get_config() == plain.get_config()
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0))
    with zipfile.ZipFile(saved) as ours, zipfile.ZipFile(tmp_path / "plain.keras") as theirs:
        assert set(ours.namelist()) == {*theirs.namelist(), METADATA_MEMBER, LABELS_MEMBER}


def test_it_says_of_itself_what_it_was_given(saved: Path) -> None:
    assert read_metadata(saved) == METADATA


def test_opening_it_gives_all_of_that_back(saved: Path) -> None:
    network = open_network(saved)
    assert network.labels == METADATA.labels
    assert network.preprocessing == METADATA.preprocessing
    assert network.held_out == {"0123456789abcdef", "fedcba9876543210"}
    assert network.parent["file"] == "small.keras"
    assert len(network.parent["sha256"]) == 64
    assert network.parent["begun_with"] == "random"


def test_what_keras_saves_again_says_nothing_more(saved: Path, tmp_path: Path) -> None:
    keras.models.load_model(saved).save(tmp_path / "again.keras")
    network = open_network(tmp_path / "again.keras")
    assert (network.labels, network.preprocessing, network.held_out) == ((), None, frozenset())


def test_one_that_exists_is_replaced_whole(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(AttributeError):
        save_network(object(), saved, METADATA)
    assert saved.read_bytes() == before
    save_network(build(), saved, ModelMetadata())
    assert read_metadata(saved) == ModelMetadata()
    assert [path.name for path in saved.parent.iterdir()] == ["small.keras"]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        save_network(build(), tmp_path / "file" / "small.keras", METADATA)
