"""The whole way: what a training writes, what it changes of the network, and what is left when it is interrupted."""

from __future__ import annotations

import importlib.util
import json
import logging
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import edgeq
from edgeq.comparison.dataset import find_labels
from edgeq.errors import EdgeqError, InputError
from edgeq.networks import Architecture, build_network, open_network
from edgeq.preprocessing import Preprocessing
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, read_metadata
from edgeq.training import Epoch, History, Trained, TrainingPlan, train
from edgeq.training.transfer import cut_before_blocks

keras = pytest.importorskip("keras")

MODULE = sys.modules[train.__module__]

V2 = Architecture("mobilenet_v2", 32, 32, output_stride=8)
TRANSFER = TrainingPlan(
    V2,
    weights="bundled",
    fine_tune=2,
    epochs=3,
    fine_tune_epochs=2,
    batch=8,
    learning_rate=0.02,
    views=3,
    seed=5,
)
V3 = Architecture("mobilenet_v3_small_minimalistic", 33, 47, 0.35, 8)
FROM_SCRATCH = TrainingPlan(V3, alpha=0.35, weights="none", epochs=2, batch=10, patience=9)
Progress = Callable[[str, int, int], None]


def weights_of(model: Any) -> dict[str, list[Any]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def changed(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> set[str]:
    """Names of the layers whose weights differ."""
    return {
        name
        for name, values in after.items()
        if name not in before
        or any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(before[name], values, strict=True))
    }


@dataclass(frozen=True)
class Run:
    """A training that ended, and copies of OUT.training on the way."""

    trained: Trained
    epochs: list[Epoch]
    remarks: list[str]
    snapshots: Path


def run(photos: Path, folder: Path, plan: TrainingPlan) -> Run:
    """Train, keeping what an interruption would have left after each epoch and amid the frozen layers."""
    out, snapshots = folder / "new" / "colours.keras", folder / "snapshots"
    epochs: list[Epoch] = []
    remarks: list[str] = []
    log, handler = logging.getLogger("edgeq.training"), logging.Handler()
    handler.emit = lambda record: remarks.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)

    def keep(name: str) -> None:
        shutil.copytree(out.with_name("colours.keras.training"), snapshots / name)

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        keep(f"{epoch.cycle} {epoch.number}")

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "Running the frozen layers" and done == 60:  # the second view of 30 photos
            keep("views")

    trained = train(photos, out, plan, progress=progress, on_epoch=on_epoch)
    log.removeHandler(handler)
    return Run(trained, epochs, remarks, snapshots)


@pytest.fixture(scope="module")
def transferred(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(photos, tmp_path_factory.mktemp("transfer"), TRANSFER)


@pytest.fixture(scope="module")
def from_scratch(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(photos, tmp_path_factory.mktemp("scratch"), FROM_SCRATCH)


class TestTransfer:
    def test_only_the_top_learns(self, transferred: Run) -> None:
        before = weights_of(build_network("mobilenet_v2", 32, 32, output_stride=8, weights="bundled").keeps_alive)
        after = weights_of(keras.models.load_model(transferred.trained.network))
        assert list(after) == list(before)
        learnt = {f"block_{number}_{part}" for number in (15, 16) for part in ("expand", "depthwise", "project")} | {
            "Conv_1",
            "predictions",
        }
        assert changed(before, after) == learnt  # so no BatchNormalization, wherever it stands

    def test_the_first_view_is_what_inference_sees(self, transferred: Run) -> None:
        model = keras.models.load_model(transferred.trained.network)
        front = keras.Model(model.input, cut_before_blocks(model, 2))  # frozen, hence as it was
        pixels = np.stack([V2.preprocessing.pixels(photo.path) for photo in transferred.trained.photos.training])
        expected = front.predict(V2.preprocessing.normalize(pixels), verbose=0)
        seen = [np.load(transferred.snapshots / "head 1" / f"view-{number}.npy") for number in range(3)]
        np.testing.assert_allclose(seen[0], expected, rtol=2e-3, atol=2e-3)
        assert all(np.abs(other - expected).max() > 0.1 for other in seen[1:])

    def test_it_tells_the_colours_apart(self, transferred: Run) -> None:
        assert transferred.trained.best.validation_top1 == 1
        assert [(epoch.cycle, epoch.number) for epoch in transferred.epochs] == [
            *(("head", number) for number in (1, 2, 3)),
            *(("fine-tune", number) for number in (1, 2)),
        ]
        assert transferred.trained.best in transferred.epochs

    def test_what_was_measured_is_what_inference_gives(self, transferred: Run) -> None:
        """From the files alone: the network, its preprocessing, and the list of what was held out."""
        trained = transferred.trained
        model, preprocessing = keras.models.load_model(trained.network), read_metadata(trained.network).preprocessing
        assert preprocessing == Preprocessing(32, 32, crop=1.0)
        images, _ = find_labels(trained.held_out, classes=3)
        pixels = np.stack([preprocessing.pixels(image.path) for image in images])
        truth = np.array([image.class_index for image in images])
        scores = model.predict(pixels / 127.5 - 1, verbose=0)
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
        assert np.mean(scores.argmax(axis=1) == truth) == trained.best.validation_top1
        loss = -np.mean(np.log(scores[np.arange(len(truth)), truth]))
        assert loss == pytest.approx(trained.best.validation_loss, rel=0.01, abs=1e-4)

    def test_the_network_needs_no_explanation(self, transferred: Run) -> None:
        trained = transferred.trained
        network = open_network(trained.network)
        assert network.labels == trained.photos.classes == ("blue", "green", "red")
        assert network.preprocessing == V2.preprocessing
        assert network.held_out == {photo.digest[:FINGERPRINT_LENGTH] for photo in trained.photos.validation}
        metadata = read_metadata(trained.network)
        assert metadata.output == "probabilities"
        facts = metadata.provenance
        assert (facts["architecture"], facts["output_stride"]) == ("mobilenet_v2", 8)
        assert facts["trained_on"] == {"photos": 30, "sha256": trained.photos.sha256}
        assert set(facts["begun_with"]) == {"weights", "sha256"}
        assert facts["validation_top1"] == 1
        assert facts["tools"]["edgeq"] == edgeq.__version__

    def test_the_list_of_what_was_held_out(self, transferred: Run) -> None:
        trained = transferred.trained
        images, _ = find_labels(trained.held_out, classes=3)
        assert {(image.path.resolve(), image.class_index) for image in images} == {
            (photo.path.resolve(), photo.class_index) for photo in trained.photos.validation
        }
        assert len(images) == 6

    def test_the_history_is_complete(self, transferred: Run) -> None:
        data = json.loads(transferred.trained.history.read_text())
        settings = data["settings"]
        assert {key: settings[key] for key in ("seed", "epochs", "fine_tune", "views", "weights")} == {
            "seed": 5,
            "epochs": 3,
            "fine_tune": 2,
            "views": 3,
            "weights": "bundled",
        }
        assert settings["architecture"]["classes"] == 3  # those of the photos, not ImageNet's
        assert settings["width_multiplier"] == read_metadata(transferred.trained.network).provenance["alpha"]
        assert len(settings["begun_with"]["sha256"]) == 64
        assert [Epoch(**epoch) for epoch in data["epochs"]] == transferred.epochs
        best = transferred.trained.best
        assert data["result"] == {
            "classes": ["blue", "green", "red"],
            "training_photos": 30,
            "validation_photos": 6,
            "validation_top1": best.validation_top1,
            "best_epoch": {"cycle": best.cycle, "number": best.number},
        }

    def test_four_files_and_nothing_else(self, transferred: Run) -> None:
        trained = transferred.trained
        paths = {trained.network, trained.history, trained.curve, trained.held_out}
        assert set(trained.network.parent.iterdir()) == paths
        assert {path.name.removeprefix("colours.") for path in paths} == {
            *("keras", "history.json", "history.png", "validation.csv"),
        }
        with Image.open(trained.curve) as image:
            assert (image.format, image.size) == ("PNG", (1080, 432))

    def test_remarks_come_before_the_first_epoch(self, transferred: Run) -> None:
        assert list(transferred.trained.remarks) == transferred.remarks
        assert "the last feature map has 4x4 cells" in transferred.remarks[0]

    def test_seconds_are_those_of_all_cycles(self, transferred: Run) -> None:
        head, fine_tune = transferred.epochs[2], transferred.epochs[4]
        assert transferred.trained.seconds == pytest.approx(head.seconds + fine_tune.seconds)


class TestFromScratch:
    def test_all_layers_learn(self, from_scratch: Run) -> None:
        trained = from_scratch.trained
        model = keras.models.load_model(trained.network)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                _gamma, beta, mean, variance = layer.get_weights()
                assert (beta != 0).any()
                assert (mean != 0).any()
                assert (variance != 1).all()
        assert [epoch.cycle for epoch in from_scratch.epochs] == ["from scratch"] * 2
        assert from_scratch.remarks == []
        metadata = read_metadata(trained.network)
        assert metadata.preprocessing == Preprocessing(33, 47, (0.0,), (1.0,), crop=1.0)  # V3 takes pixels 0..255
        assert metadata.provenance["begun_with"] == {"weights": "random"}
        assert model.input_shape == (None, 33, 47, 3)
        assert model.output_shape == (None, 3)

    def test_what_was_measured_is_what_inference_gives(self, from_scratch: Run) -> None:
        trained = from_scratch.trained
        model = keras.models.load_model(trained.network)
        images, _ = find_labels(trained.held_out, classes=3)
        how = read_metadata(trained.network).preprocessing
        assert how is not None
        scores = model.predict(np.stack([how.pixels(image.path) for image in images]).astype(np.float32), verbose=0)
        truth = np.array([image.class_index for image in images])
        loss = -np.mean(np.log(scores[np.arange(len(truth)), truth]))
        assert loss == pytest.approx(trained.best.validation_loss, rel=1e-3)


class TestInterruption:
    @pytest.mark.accept
    def test_transfer_ends_as_if_nothing_had_happened(self, transferred: Run, photos: Path, tmp_path: Path) -> None:
        told: list[Epoch] = []
        out = tmp_path / "other.keras"
        shutil.copytree(transferred.snapshots / "fine-tune 1", tmp_path / "other.keras.training")
        trained = train(photos, out, TRANSFER, resume=True, on_epoch=told.append)
        assert out.read_bytes() == transferred.trained.network.read_bytes()
        assert [without_seconds(epoch) for epoch in told] == [without_seconds(transferred.epochs[-1])]
        assert [without_seconds(epoch) for epoch in trained_epochs(trained)] == [
            without_seconds(epoch) for epoch in transferred.epochs
        ]
        assert not (tmp_path / "other.keras.training").exists()

    @pytest.mark.accept
    def test_from_scratch_ends_as_if_nothing_had_happened(
        self, from_scratch: Run, photos: Path, tmp_path: Path
    ) -> None:
        """Dropout goes on where it was, too."""
        shutil.copytree(from_scratch.snapshots / "from scratch 1", tmp_path / "other.keras.training")
        trained = train(photos, tmp_path / "other.keras", FROM_SCRATCH, resume=True)
        assert trained.network.read_bytes() == from_scratch.trained.network.read_bytes()
        assert trained.best.number == from_scratch.trained.best.number

    @pytest.mark.accept
    def test_a_failure_at_the_end_costs_nothing(
        self, transferred: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Here of a training that was interrupted amid the frozen layers before."""
        work = shutil.copytree(transferred.snapshots / "views", tmp_path / "other.keras.training")
        assert sorted(path.name for path in work.glob("view*")) == ["view-0.npy", "view-1.part"]
        names = [f"other.{end}" for end in ("keras", "history.json", "history.png", "validation.csv")]
        for name in names:
            (tmp_path / name).write_text("old")

        def fail(history: History, path: Path, title: str) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(MODULE, "draw_learning_curve", fail)
        with pytest.raises(InputError, match=r"other.history.png: cannot write \(No space left"):
            train(photos, tmp_path / "other.keras", TRANSFER, resume=True)
        assert {path.name for path in tmp_path.iterdir()} == {*names, "other.keras.training"}
        assert [(tmp_path / name).read_text() for name in names] == ["old"] * 4
        for name in ("head.state.npz", "fine-tune.state.npz"):  # all is there for another --resume, and as it should be
            with np.load(work / name) as now, np.load(transferred.snapshots / "fine-tune 2" / name) as then:
                values = [key for key in then.files if key.startswith("arr_")]
                assert len(values) > 5
                assert now.files == then.files
                for key in values:
                    np.testing.assert_array_equal(now[key], then[key])

    def test_other_weights_are_another_training(
        self, transferred: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As if ImageNet's became available in between."""
        shutil.copytree(transferred.snapshots / "head 1", tmp_path / "other.keras.training")
        original = build_network

        def other(*arguments: Any, **options: Any) -> Any:
            network = original(*arguments, **options)
            return replace(network, parent=network.parent | {"sha256": "0" * 64})

        monkeypatch.setattr(MODULE, "build_network", other)
        with pytest.raises(InputError, match=r"with other photos or options \(begun with\)"):
            train(photos, tmp_path / "other.keras", TRANSFER, resume=True)
        assert (tmp_path / "other.keras.training" / "head.state.npz").exists()

    @pytest.mark.parametrize(
        ("plan", "named"),
        [
            (replace(TRANSFER, seed=6), "seed, photos"),
            (replace(TRANSFER, epochs=4, learning_rate=0.01), "epochs, learning rate"),
            (replace(TRANSFER, architecture=replace(V2, height=40)), "architecture"),
        ],
        ids=["seed", "epochs-and-rate", "size"],
    )
    def test_other_options_are_another_training(
        self, transferred: Run, photos: Path, tmp_path: Path, plan: TrainingPlan, named: str
    ) -> None:
        shutil.copytree(transferred.snapshots / "head 1", tmp_path / "other.keras.training")
        with pytest.raises(InputError, match=re.escape(f"other photos or options ({named})")):
            train(photos, tmp_path / "other.keras", plan, resume=True)

    def test_other_photos_are_another_training(self, transferred: Run, photos: Path, tmp_path: Path) -> None:
        shutil.copytree(transferred.snapshots / "head 1", tmp_path / "other.keras.training")
        fewer = shutil.copytree(photos, tmp_path / "fewer")
        next((fewer / "red").iterdir()).unlink()
        with pytest.raises(InputError, match=r"other photos or options \(photos\)"):
            train(fewer, tmp_path / "other.keras", TRANSFER, resume=True)


def trained_epochs(trained: Trained) -> list[Epoch]:
    return History.from_json(trained.history.read_text()).epochs


def without_seconds(epoch: Epoch) -> Epoch:
    return replace(epoch, seconds=0.0)


class TestProcess:
    @pytest.mark.accept
    def test_the_session_and_the_seeds_stay_as_they_are(self, photos: Path, tmp_path: Path) -> None:
        plan = TrainingPlan(V2, weights="bundled", epochs=1, views=1)
        trained = train(photos, tmp_path / "m.keras", plan)
        first, policy = keras.layers.Dense(1).name, keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        before, numpy_before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].copy()
        try:
            again = train(photos, tmp_path / "n.keras", plan)
            assert random.getstate() == before
            np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_before)
            assert keras.config.dtype_policy().name == "mixed_float16"
            assert keras.layers.Dense(1).name != first  # numbers go on from where they were
        finally:
            keras.config.set_dtype_policy(policy)
        assert again.network.read_bytes() == trained.network.read_bytes()


class TestExtremes:
    @pytest.mark.accept
    def test_a_fine_tuning_that_spoils_is_not_kept(self, photos: Path, tmp_path: Path) -> None:
        plan = replace(TRANSFER, architecture=replace(V2, head=4), fine_tune_rate=3.0, fine_tune=1, views=1)
        trained = train(photos, tmp_path / "m.keras", plan)
        head, spoilt = trained_epochs(trained)[:3], trained_epochs(trained)[3:]
        assert max(epoch.validation_top1 for epoch in spoilt) < max(epoch.validation_top1 for epoch in head)
        assert trained.best in head
        before = weights_of(build_network("mobilenet_v2", 32, 32, output_stride=8, weights="bundled").keeps_alive)
        assert changed(before, weights_of(keras.models.load_model(trained.network))) == {"head", "predictions"}

    @pytest.mark.accept
    def test_little_of_everything(self, photos: Path, tmp_path: Path) -> None:
        """Three photos to train on in a batch of many, for one epoch, on a size that is odd."""
        architecture = replace(V2, height=33, width=47)
        plan = TrainingPlan(architecture, weights="bundled", epochs=1, views=1, validation_share=0.99, batch=500)
        (tmp_path / "deep" / "down").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "deep" / "down")
        trained = train(photos, tmp_path / "link" / "m.keras", plan)
        assert len(find_labels(trained.held_out, classes=3)[0]) == 33  # found from where the file really lies
        assert (len(trained.photos.training), len(trained.photos.validation)) == (3, 33)
        assert len(trained_epochs(trained)) == 1
        assert open_network(trained.network).preprocessing == Preprocessing(33, 47, crop=1.0)

    @pytest.mark.accept
    def test_mobilenet_v3_from_a_file_of_weights(self, photos: Path, tmp_path: Path) -> None:
        """Its own head has two layers, and it takes pixels as they are."""
        source = build_network(V3.family, 33, 47, alpha=0.35, output_stride=8, weights="none", seed=4).keeps_alive
        source.save_weights(tmp_path / "own.weights.h5")
        plan = TrainingPlan(V3, alpha=0.35, weights=str(tmp_path / "own.weights.h5"), epochs=1, views=1)
        before = weights_of(source)
        trained = train(photos, tmp_path / "m.keras", plan)
        assert changed(before, weights_of(keras.models.load_model(trained.network))) == {"conv_2", "logits"}
        metadata = read_metadata(trained.network)
        assert metadata.preprocessing == Preprocessing(33, 47, (0.0,), (1.0,), crop=1.0)
        assert metadata.provenance["begun_with"]["weights"] == "own.weights.h5"


class TestErrors:
    def test_too_many_blocks_are_found_before_photos_are_decoded(self, photos: Path, tmp_path: Path) -> None:
        stages = set()
        with pytest.raises(InputError, match="--fine-tune 17: at most 16"):
            train(
                *(photos, tmp_path / "m.keras", replace(TRANSFER, fine_tune=17)),
                progress=lambda stage, done, total: stages.add(stage),
            )
        assert "Decoding photos" not in stages
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["m", "m.h5", "m.keras.tflite", "m.KERAS", ".keras"])
    def test_a_name_that_is_no_keras_file_s(self, photos: Path, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match=r"must end in \.keras"):
            train(photos, tmp_path / name, TRANSFER)

    @pytest.mark.parametrize("name", ["m.keras", "m.history.json", "m.history.png", "m.validation.csv"])
    def test_a_folder_where_a_file_should_go(self, photos: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / name}: is a folder")):
            train(photos, tmp_path / "m.keras", TRANSFER)

    @pytest.mark.parametrize("below", ["m.keras", "red/m.keras", "new/m.keras"])
    def test_among_the_photos(self, photos: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(photos.parent)
        before = sorted(photos.rglob("*"))
        with pytest.raises(InputError, match="lies among the photos"):
            train(photos, Path(photos.name) / below, TRANSFER)
        assert sorted(photos.rglob("*")) == before

    def test_without_matplotlib(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
        with pytest.raises(EdgeqError, match="learning curves need matplotlib, which is not installed"):
            train(photos, tmp_path / "m.keras", TRANSFER)


def test_importing_does_not_load_tensorflow() -> None:
    code = "import sys, edgeq.training; print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
