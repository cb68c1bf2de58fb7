"""``edgeq calibrate synthesize``: the images it makes, that they can be calibrated on, and what it says otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished, colour_picture
from PIL import Image

from cli import error_of
from edgeq.calibration.image_folder import read_origin
from edgeq.files import sha256_of_file

pytest.importorskip("tensorflow")

Run = Callable[..., Finished]
NORMALIZE = ("--normalize", "-1..1")
FEW = ("--count", 10, "--steps", 3)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, colour_network: Path) -> Path:
    """A folder of networks: trained.keras, which has seen pictures, and some that synthesis can do nothing with."""
    import keras

    layers = keras.layers
    folder = tmp_path_factory.mktemp("networks")
    body = [
        layers.Conv2D(6, 3, strides=2, use_bias=False),
        layers.BatchNormalization(momentum=0),
        layers.ReLU(),
        layers.Conv2D(6, 3, strides=2, use_bias=False),
        layers.BatchNormalization(momentum=0),
    ]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((None, None, 3)), keras.Sequential(body), *head])
    model.save(folder / "untrained.keras")
    pictures = np.stack([np.asarray(colour_picture("green", i, 24), np.float32)[:20] for i in range(8)])
    model(pictures / 127.5 - 1, training=True)
    model.save(folder / "trained.keras")
    model.export(folder / "saved", verbose=False)
    shutil.copy(colour_network, folder / "plain.keras")
    (folder / "some.tflite").write_bytes(b"TFL3")
    (folder / "odd.keras").write_text("no network")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestSuccess:
    def test_the_images_are_calibrated_on(self, networks: Path, tmp_path: Path, edgeq_here: Run) -> None:
        shutil.copy(networks / "trained.keras", tmp_path)
        size = ("--res", "24x20", *NORMALIZE)
        done = edgeq_here("calibrate", "synthesize", "trained.keras", "--out", "made", *FEW, *size, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        first, second = done.out.splitlines()
        assert first == "made: 10 images of 24x20 RGB"
        paths = sorted((tmp_path / "made").iterdir())
        assert [path.name for path in paths] == [f"synthesized-{i:04}.png" for i in range(1, 11)]
        for path in paths:
            with Image.open(path) as image:
                assert (image.format, image.size, image.mode) == ("PNG", (24, 20), "RGB")
            origin = read_origin(path)
            assert origin is not None
            facts = {"file": "trained.keras", "sha256": sha256_of_file(tmp_path / "trained.keras")}
            assert origin["synthesized_from"] == facts
            assert (origin["count"], origin["seed"], origin["steps"]) == (10, 0, 3)
            assert f"by {origin['statistics_distance']:.2f} standard deviations from those stored in trained" in second
            assert set(origin["tools"]) == {"edgeq", "tensorflow", "keras", "numpy"}
        done = edgeq_here("convert", "trained.keras", "--int8", "--calib", "made", *size, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "Calibrated on 10 images from made (seed 0)." in done.out
        assert "Skipped" not in done.out

    @pytest.mark.accept
    def test_the_same_model_and_seed_give_the_same_files(
        self, networks: Path, tmp_path: Path, edgeq: Run, edgeq_here: Run
    ) -> None:
        """In another process, too."""
        options = ("calibrate", "synthesize", networks / "trained.keras", *FEW, "--res", 24, *NORMALIZE, "--out")
        for run, name, *seed in ((edgeq, "a"), (edgeq_here, "b"), (edgeq_here, "c", "--seed", 1)):
            done = run(*options, tmp_path / name, *seed)
            assert (done.code, done.err) == (0, "")
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
        assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())

    def test_an_earlier_set_is_replaced(self, networks: Path, tmp_path: Path, edgeq_here: Run) -> None:
        options = ("calibrate", "synthesize", networks / "trained.keras", "--res", 24, *NORMALIZE, "--out", tmp_path)
        for count in (12, 10):
            done = edgeq_here(*options, "--steps", 1, "--count", count)
            assert (done.code, done.err) == (0, "")
            assert len(contents(tmp_path)) == count


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["missing.keras"], "missing.keras: no such model", id="missing"),
            pytest.param(["odd.keras"], "odd.keras: Keras cannot load this model", id="damaged"),
            pytest.param(["some.tflite"], "some.tflite: is a TFLite model, whose BatchNormalization is", id="tflite"),
            pytest.param(["saved"], "saved: a SavedModel does not show its BatchNormalization; give", id="savedmodel"),
            pytest.param(["plain.keras", *NORMALIZE], "plain.keras: has no BatchNormalization, so", id="none"),
            pytest.param(
                ["untrained.keras", *NORMALIZE, "--res", "24"],
                "untrained.keras: its BatchNormalization was never trained or is folded into other weights (means "
                "0, variances 1), so its statistics carry no information; calibrate on photos (edgeq convert --calib "
                "DIR), or on the set that comes with edgeq (without --calib)",
                id="uninformative",
            ),
            pytest.param(["trained.keras", *NORMALIZE], "trained.keras: leaves its input size open", id="size-open"),
            pytest.param(["plain.keras", *NORMALIZE, "--res", "64"], "is made for 32x32 pixels", id="another-size"),
            pytest.param(["trained.keras", "--res", "24"], "does not say how its input is normal", id="normalization"),
            pytest.param(["trained.keras", "--normalize", "2"], "normalization '2': must be one", id="normalize-odd"),
            pytest.param(["trained.keras", *NORMALIZE, "--res", "2"], "cannot run on images of 2x2", id="too-small"),
            pytest.param(["trained.keras", "--count", "9"], "9 is not in the range x>=10", id="count-9"),
            pytest.param(["trained.keras", "--steps", "0"], "0 is not in the range x>=1", id="steps-0"),
            pytest.param(["trained.keras", "--seed", "-1"], "-1 is not in the range", id="seed-negative"),
            pytest.param([], "Missing argument 'MODEL'", id="no-model"),
        ],
    )
    def test_say_in_one_line_what_is_wrong(
        self, arguments: list[str], message: str, networks: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        done = edgeq_here("calibrate", "synthesize", *arguments, "--out", tmp_path / "made", cwd=networks)
        assert message in error_of(done)
        assert done.out == ""
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_holds_something_else(self, networks: Path, tmp_path: Path, edgeq_here: Run) -> None:
        (tmp_path / "photo.jpg").write_text("mine")
        model = networks / "trained.keras"
        done = edgeq_here("calibrate", "synthesize", model, "--res", 24, *NORMALIZE, "--out", tmp_path)
        assert f"{tmp_path}: holds photo.jpg, which edgeq did not synthesize" in error_of(done)
        assert contents(tmp_path) == {"photo.jpg": b"mine"}

    @pytest.mark.accept
    def test_an_interruption_leaves_an_earlier_set(
        self, networks: Path, tmp_path: Path, edgeq_here: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = ("calibrate", "synthesize", networks / "trained.keras", "--res", 24, *NORMALIZE)
        assert edgeq_here(*options, *FEW, "--out", tmp_path / "made").code == 0
        before = contents(tmp_path / "made")

        def interrupt(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("edgeq.calibration.synthetic_set.write_images", interrupt)
        done = edgeq_here(*options, *FEW, "--seed", 1, "--out", tmp_path / "made")
        assert (done.code, done.out, done.err.strip()) == (130, "", "Interrupted.")
        assert contents(tmp_path / "made") == before
        assert [path.name for path in tmp_path.iterdir()] == ["made"]

    @pytest.mark.accept
    def test_folded_imagenet_weights(self, shared: Path, tmp_path: Path, edgeq_here: Run) -> None:
        """Those that many converters leave behind: means 0, variances 1 - epsilon."""
        import keras

        weights = next((shared / "weights" / "keras_home" / "models").glob("*_1.0_160.h5"))
        keras.applications.MobileNetV2((96, 96, 3), weights=str(weights)).save(tmp_path / "folded.keras")
        model = tmp_path / "folded.keras"
        done = edgeq_here("calibrate", "synthesize", model, *NORMALIZE, "--out", tmp_path / "made")
        assert f"{model}: its BatchNormalization was never trained or is folded" in error_of(done)
