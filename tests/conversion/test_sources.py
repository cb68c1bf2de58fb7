"""What `edgeq.convert` takes: networks and images in any form; and what of the process it leaves as it was."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import COLOURS, ROOT

from edgeq.calibration import choose_images
from edgeq.conversion import Conversion, convert
from edgeq.errors import EdgeqError, InputError
from edgeq.networks import Network, open_network
from edgeq.preprocessing import Preprocessing
from edgeq.runtime import Model
from edgeq.tflite.metadata import read_metadata

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

COLOURS_INPUT = Preprocessing(32, 32, crop=1.0)


@pytest.fixture(scope="module")
def network(colour_network: Path) -> Network:
    return replace(open_network(colour_network), preprocessing=COLOURS_INPUT)


def digests(conversion: Conversion) -> dict[str, str]:
    return {form: hashlib.sha256(model.path.read_bytes()).hexdigest() for form, model in conversion.models.items()}


class TestSource:
    def test_a_file_a_network_and_a_function_give_the_same_files(
        self, colour_network: Path, network: Network, photos: Path, colour_models: Path, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"calibration": photos, "count": 30, "labels": photos}
        told: dict[str, Any] = {"normalize": "-1..1", "crop": 1.0}
        made = [
            convert(str(colour_network), "int8", tmp_path / "a", **options, **told),
            convert(network, ["int8"], str(tmp_path / "b"), **options),
            convert(lambda: network, ("int8",), tmp_path / "c", **options),
        ]
        expected = {
            f: hashlib.sha256((colour_models / f"colours_{f}.tflite").read_bytes()).hexdigest()
            for f in ("fp32", "int8")
        }
        assert [digests(conversion) for conversion in made] == [expected] * 3
        first = made[0]
        assert list(first.models) == ["fp32", "int8"]
        assert first.models["int8"].path == tmp_path / "a" / "colours_int8.tflite"
        assert (first.preprocessing, first.classes, first.labels) == (COLOURS_INPUT, 3, tuple(COLOURS))
        assert first.calibration is not None
        assert len(first.calibration.files) == 30
        assert not first.has_obstacles

    def test_a_function_is_called_only_when_all_else_is_in_order(self, photos: Path, tmp_path: Path) -> None:
        """It may take minutes, as loading TensorFlow does."""

        def build() -> NoReturn:
            raise AssertionError("must not be called")

        wrong: list[tuple[dict[str, Any], str]] = [
            ({"formats": ["int4"]}, "format 'int4': must be one of fp32, int8"),
            ({"io": "int16"}, "io 'int16': must be one of int8"),
            ({"targets": ["toaster"]}, "target 'toaster': must be one of"),
            ({"normalize": "2"}, "normalization '2': must be one of"),
            ({"calibration": tmp_path / "none"}, "none: no such folder"),
            ({"calibration": [photos / "red" / "00.jpg", "none.jpg"]}, "none.jpg: no such image"),
            ({"calibration": [photos]}, "photos.*: is not an image file"),
            ({"labels": tmp_path / "none.txt"}, "none.txt: cannot read labels"),
        ]
        for arguments, message in wrong:
            with pytest.raises(InputError, match=message):
                convert(build, **({"out": tmp_path / "out"} | arguments))
        assert not (tmp_path / "out").exists()


class TestCalibration:
    def test_a_list_of_files(self, network: Network, photos: Path, tmp_path: Path) -> None:
        files = sorted(photos.rglob("*.jpg"))[::2]
        made = convert(network, "int8", tmp_path, calibration=[*map(str, files)])
        assert made.calibration is not None
        assert sorted(made.calibration.files) == files
        assert made.calibration.folder is None
        recorded = read_metadata(made.models["int8"].path).calibrated_on
        assert recorded == {hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}

    def test_a_set_is_taken_as_it_is(self, network: Network, photos: Path, tmp_path: Path) -> None:
        chosen = choose_images(photos, COLOURS_INPUT, count=12, seed=4)
        made = convert(network, "int8", tmp_path / "a", calibration=chosen, count=99, seed=7)
        assert made.calibration is chosen
        assert digests(made) == digests(convert(network, "int8", tmp_path / "b", calibration=photos, count=12, seed=4))

    def test_nothing_gives_the_images_that_come_with_edgeq(self, network: Network, tmp_path: Path) -> None:
        made = convert(network, "int8", tmp_path, count=10)
        assert made.calibration is not None
        assert {file.parent.name for file in made.calibration.files} == {"calibration"}

    def test_a_set_for_another_input(self, network: Network, photos: Path, tmp_path: Path) -> None:
        grey = choose_images(photos, replace(COLOURS_INPUT, channels="L"), count=10)
        for other in (grey, replace(grey, pixels=())):
            with pytest.raises(InputError, match=r"the calibration set has .*, but the network takes \(32, 32, 3\)"):
                convert(network, "int8", tmp_path, calibration=other)
        assert list(tmp_path.iterdir()) == []

    def test_no_images_are_looked_at_where_no_format_needs_them(self, network: Network, tmp_path: Path) -> None:
        made = convert(network, ["fp16"], tmp_path, calibration=tmp_path / "none")
        assert (list(made.models), made.calibration) == (["fp32", "fp16"], None)


class TestLabels:
    def test_one_score_is_two_classes(self, tmp_path: Path) -> None:
        """A sigmoid's is the probability of the second."""
        weights = tf.constant([[1.0], [-1.0], [0.5]])

        def function(image: Any) -> Any:
            return tf.sigmoid(tf.reduce_mean(image, axis=[1, 2]) @ weights)

        two_classes = Network("pair", 32, 32, 3, 1, function, weights, preprocessing=COLOURS_INPUT)
        made = convert(two_classes, [], tmp_path, labels=["cat", "dog"])
        assert (made.classes, made.labels) == (2, ("cat", "dog"))
        model = Model(made.models["fp32"].path)
        assert (model.classes, model.labels) == (2, ("cat", "dog"))
        with pytest.raises(InputError, match="1 labels, but pair has 2 classes"):
            convert(two_classes, [], tmp_path, labels=["cat"])

    def test_a_file_is_named_where_it_does_not_fit(self, network: Network, tmp_path: Path) -> None:
        (tmp_path / "two.txt").write_text("a\nb\n")
        with pytest.raises(InputError, match=r"two.txt: has 2 labels, but colours has 3 classes"):
            convert(network, [], tmp_path / "out", labels=tmp_path / "two.txt")


class TestTargets:
    def test_what_would_not_run_there_is_in_the_result(self, network: Network, photos: Path, tmp_path: Path) -> None:
        made = convert(
            network, ["int8", "int16x8"], tmp_path, calibration=photos, targets=["edgetpu", "ai-edge-litert"]
        )
        reports = {form: [(r.target, bool(r.obstacles)) for r in model.targets] for form, model in made.models.items()}
        assert reports == {
            "fp32": [],  # the reference is not what is deployed
            "int8": [("edgetpu", False), ("ai-edge-litert", False)],
            "int16x8": [("edgetpu", True), ("ai-edge-litert", False)],
        }
        assert made.has_obstacles
        assert convert(network, [], tmp_path, targets=["edgetpu"]).has_obstacles  # the only file there is


class TestProcess:
    """A library leaves the process as it was."""

    def test_nothing_is_printed_but_what_the_caller_prints(
        self, network: Network, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        convert(network, "int8", tmp_path, calibration=photos, count=10)
        assert capfd.readouterr() == ("", "")
        convert(network, "int8", tmp_path, calibration=photos, count=10, progress=print)
        out, err = capfd.readouterr()
        assert "Calibrating 3 10\n" in out  # though the converter is silenced then
        assert err == ""

    def test_descriptors_environment_and_threads_are_restored(
        self, network: Network, photos: Path, tmp_path: Path
    ) -> None:
        def state() -> tuple[Any, ...]:
            return os.fstat(1).st_ino, os.fstat(2).st_ino, dict(os.environ), Path.cwd()

        before = state()
        convert(network, "int8", tmp_path, calibration=photos, count=10)
        assert state() == before

        def fail(stage: str, done: int, total: int) -> None:
            if stage == "Calibrating" and done == 5:
                raise KeyboardInterrupt

        with pytest.raises((KeyboardInterrupt, EdgeqError)):
            convert(network, "int8", tmp_path / "new", calibration=photos, count=10, progress=fail)
        assert state() == before
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.accept
    def test_a_fresh_process_hears_nothing_of_tensorflow(
        self, colour_network: Path, tmp_path: Path, photos: Path
    ) -> None:
        code = (
            "import os, sys, edgeq\n"
            "edgeq.convert(sys.argv[1], calibration=sys.argv[2], normalize='-1..1', count=10)\n"
            "print('TF_CPP_MIN_LOG_LEVEL' in os.environ)\n"
        )
        environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, str(colour_network), str(photos)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
