"""``edgeq compare``: what it prints and writes, its use as a gate, and what it says when something is wrong."""

from __future__ import annotations

import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Finished, colour_picture

from cli import error_of

Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def pair(colour_models: Path) -> tuple[Path, Path]:
    return colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite"


@pytest.fixture(scope="module")
def mobilenets(mobilenet_models: Path) -> tuple[Path, Path]:
    """A network of random weights, whose integer file flips some images."""
    return tuple(mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    for i, name in enumerate(("red", "green", "blue")):
        colour_picture(name, seed=60 + i).save(folder / f"{i}.png")
    return folder


class TestReport:
    def test_a_labelled_folder(self, pair: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        done = edgeq("compare", *pair, "--data", photos)
        assert (done.code, done.err) == (0, "")
        lines = {line.split("  ")[0]: line for line in done.out.splitlines()}
        assert lines["file"].split() == ["file", "colours_fp32.tflite", "colours_int8.tflite"]
        assert lines["top-1"].split() == ["top-1", "100.0", "%", "100.0", "%"]
        assert "on 36 images" in lines["drift"]
        assert "100.0 %" in lines["top-1 agreement"]
        assert "90.4 to 100.0 %" in lines["top-1 agreement"]
        assert "0.0 points" in lines["top-1 drop"]

    def test_images_without_labels(self, pair: tuple[Path, Path], unlabelled: Path, edgeq: Run) -> None:
        done = edgeq("compare", *pair, "--data", unlabelled)
        assert (done.code, done.err) == (0, "")
        assert "Note: no true classes are known, so accuracy is not measured." in " ".join(done.out.split())

    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_fits_the_terminal(self, columns: int, mobilenets: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        done = edgeq("compare", *mobilenets, "--data", photos, env={"COLUMNS": str(columns)})
        assert done.code == 0
        assert "flips" in done.out
        assert max(map(len, done.out.splitlines())) <= columns

    def test_a_terminal_without_unicode(self, mobilenets: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        env = {"COLUMNS": "40", "PYTHONIOENCODING": "latin-1:strict"}
        done = edgeq("compare", *mobilenets, "--data", photos, env=env)
        assert (done.code, done.err) == (0, "")
        assert "flips" in done.out


class TestNewestPair:
    def test_is_taken_without_paths(self, pair: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run) -> None:
        models = tmp_path / "models"
        models.mkdir()
        for age_s, name in ((300, "old"), (100, "new"), (200, "middle")):
            for source, form in zip(pair, ("fp32", "int8"), strict=True):
                path = models / f"{name}_{form}.tflite"
                shutil.copy(source, path)
                os.utime(path, (1_700_000_000 - age_s,) * 2)
        shutil.copy(pair[1], models / "alone_int8.tflite")  # the newest, but without its reference
        done = edgeq("compare", "--data", photos, "--json", "-", cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        document = json.loads(done.out)
        assert document["reference"]["path"] == "models/new_fp32.tflite"
        assert document["candidate"]["path"] == "models/new_int8.tflite"

    @pytest.mark.parametrize("folder", [None, "empty", "half"])
    def test_there_has_to_be_one(
        self, folder: str | None, pair: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        if folder:
            (tmp_path / "models").mkdir()
        if folder == "half":
            shutil.copy(pair[1], tmp_path / "models" / "colours_int8.tflite")
        done = edgeq("compare", "--data", photos, cwd=tmp_path)
        assert error_of(done).startswith("models: contains no pair NAME_fp32.tflite and NAME_int8.tflite")


class TestJson:
    def test_on_standard_output_it_stands_alone(self, pair: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        done = edgeq("compare", *pair, "--data", photos, "--json", "-")
        assert (done.code, done.err) == (0, "")
        document = json.loads(done.out)
        assert {
            *("images", "reference", "candidate", "agreement", "agreement_ci95", "top1_drop"),
            *("kl_mean", "l1_mean", "sqnr_db", "flips"),
        } <= set(document)
        for side, path in zip(("reference", "candidate"), pair, strict=True):
            assert {"path", "top1", "top5", "latency_ms", "size_bytes"} <= set(document[side])
            assert (document[side]["path"], document[side]["size_bytes"]) == (str(path), path.stat().st_size)
        assert (document["images"], document["agreement"]) == (36, 1.0)

    def test_in_a_file_it_comes_beside_the_report(
        self, mobilenets: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        path = tmp_path / "new" / "drift.json"
        done = edgeq("compare", *mobilenets, "--data", photos, "--json", path)
        assert (done.code, done.err) == (0, "")
        document = json.loads(path.read_text(encoding="utf-8"))
        assert f"{100 * document['agreement']:.1f} %" in done.out
        assert f"{len(document['flips'])} flips" in done.out
        assert [p.name for p in path.parent.iterdir()] == ["drift.json"]
        flip = document["flips"][0]
        assert set(flip) == {
            *("file", "label", "reference", "candidate", "reference_probability", "candidate_probability"),
            *("reference_margin", "candidate_margin"),
        }
        assert Path(flip["file"]).is_file()
        assert flip["reference"] != flip["candidate"]

    def test_no_difference_is_null_not_infinity(self, pair: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        done = edgeq("compare", pair[0], pair[0], "--data", photos, "--json", "-")
        assert json.loads(done.out, parse_constant=pytest.fail)["sqnr_db"] is None

    @pytest.mark.parametrize("where", ["a-folder", "below-a-file"])
    def test_a_place_that_cannot_be_written(
        self, where: str, pair: tuple[Path, Path], unlabelled: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        (tmp_path / "file").write_text("mine")
        path = tmp_path if where == "a-folder" else tmp_path / "file" / "drift.json"
        done = edgeq("compare", *pair, "--data", unlabelled, "--json", path)
        assert "cannot write" in error_of(done)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_text() == "mine"

    def test_in_a_file_it_is_written_though_nobody_reads_the_report(
        self, mobilenets: tuple[Path, Path], photos: Path, tmp_path: Path
    ) -> None:
        """As in ``edgeq compare ... | true``; the exit code is that of the limit."""
        reader, writer = os.pipe()
        os.close(reader)
        arguments = [*mobilenets, "--data", photos, "--json", tmp_path / "drift.json", "--min-agreement", "1"]
        command = [sys.executable, "-m", "edgeq", "compare", *map(str, arguments)]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
        assert done.returncode == 1
        assert done.stderr.decode().splitlines()[-1].startswith("Missed: ")
        assert json.loads((tmp_path / "drift.json").read_text())["images"] == 36


class TestPage:
    def test_holds_what_the_json_holds_and_the_command(
        self, mobilenets: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        options = ("--json", tmp_path / "drift.json", "--report", tmp_path / "new" / "a drift.html")
        done = edgeq("compare", *mobilenets, "--data", photos, *options)
        assert (done.code, done.err) == (0, "")
        document = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
        page = (tmp_path / "new" / "a drift.html").read_text(encoding="utf-8")
        assert f'data-key="agreement" data-value="{document["agreement"]!r}"' in page
        assert page.count('<img src="data:image/jpeg;base64,') == len(document["flips"]) > 0
        command = f"edgeq compare {shlex.join(map(str, (*mobilenets, '--data', photos, *options)))}"
        assert f"<code>{html.escape(command, quote=True).replace('&#x27;', '&#39;')}</code>" in page
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a drift.html"]

    def test_comes_beside_json_on_stdout_and_though_a_gate_is_missed(
        self, mobilenets: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        options = ("--json", "-", "--report", tmp_path / "drift.html", "--min-agreement", 1)
        done = edgeq("compare", *mobilenets, "--data", photos, *options)
        assert done.code == 1
        assert json.loads(done.out)["agreement"] < 1
        assert (tmp_path / "drift.html").is_file()

    def test_a_place_that_cannot_be_written(
        self, pair: tuple[Path, Path], unlabelled: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        done = edgeq("compare", *pair, "--data", unlabelled, "--report", tmp_path)
        assert "cannot write" in error_of(done)
        assert list(tmp_path.iterdir()) == []

    def test_without_its_packages_it_says_so_before_it_measures(
        self, pair: tuple[Path, Path], unlabelled: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        """As on a board, where the host's packages are not installed."""
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['jinja2'] = None\n")
        path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        done = edgeq("compare", *pair, "--data", unlabelled, "--report", tmp_path / "drift.html", env=path)
        assert error_of(done).startswith("a report needs jinja2, which is not installed: pip install 'edgeq[convert]'")
        assert done.out == ""
        assert edgeq("compare", *pair, "--data", unlabelled, env=path).code == 0


class TestGate:
    @pytest.mark.parametrize(
        ("options", "code", "reasons"),
        [
            pytest.param(["--min-agreement", "0"], 0, [], id="agreement-met"),
            pytest.param(["--min-agreement", "1"], 1, ["agreement is "], id="agreement-missed"),
            pytest.param(["--max-drop", "0.99"], 0, [], id="drop-met"),
            pytest.param(["--max-drop", "-1"], 1, ["top-1 drops by "], id="drop-missed"),
            pytest.param(["--max-drop", "0.99", "--min-agreement", "0"], 0, [], id="both-met"),
            pytest.param(["--max-drop", "0.99", "--min-agreement", "1"], 1, ["agreement is "], id="one-missed"),
            pytest.param(
                ["--max-drop", "-1", "--min-agreement", "1"], 1, ["top-1 drops by ", "agreement is "], id="both-missed"
            ),
        ],
    )
    def test_sets_the_exit_code(
        self,
        options: list[str],
        code: int,
        reasons: list[str],
        mobilenets: tuple[Path, Path],
        photos: Path,
        tmp_path: Path,
        edgeq: Run,
    ) -> None:
        (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in ("blue", "green", "red", *"0123456")))
        options = [*options, "--labels", str(tmp_path / "labels.txt")]
        done = edgeq("compare", *mobilenets, "--data", photos, *options)
        assert done.code == code
        assert [line.partition(": ")[0] for line in done.err.splitlines()] == ["Missed"] * len(reasons)
        assert all(reason in line for reason, line in zip(reasons, done.err.splitlines(), strict=True))
        assert "top-1 agreement" in done.out  # the report comes either way

    def test_is_exact(self, mobilenets: tuple[Path, Path], photos: Path, edgeq: Run) -> None:
        agreement = json.loads(edgeq("compare", *mobilenets, "--data", photos, "--json", "-").out)["agreement"]
        assert 0 < agreement < 1
        for limit, code in ((agreement, 0), (agreement + 1e-6, 1)):
            done = edgeq("compare", *mobilenets, "--data", photos, "--min-agreement", repr(limit))
            assert done.code == code

    def test_the_json_is_written_even_when_it_is_missed(
        self, mobilenets: tuple[Path, Path], photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        options = ("--min-agreement", 1, "--json", tmp_path / "drift.json")
        done = edgeq("compare", *mobilenets, "--data", photos, *options)
        assert done.code == 1
        assert json.loads((tmp_path / "drift.json").read_text())["agreement"] < 1

    def test_a_drop_needs_true_classes(self, pair: tuple[Path, Path], unlabelled: Path, edgeq: Run) -> None:
        done = edgeq("compare", *pair, "--data", unlabelled, "--max-drop", 0.01)
        assert "a limit on the top-1 drop needs images with known classes" in error_of(done)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["FP32", "INT8"], "Missing option '--data'", id="no-data"),
            pytest.param(
                ["FP32", "INT8", "INT8", "--data", "PHOTOS"], "give both REFERENCE and CANDIDATE", id="three-models"
            ),
            pytest.param(["FP32", "INT8", "INT8", "--data", "PHOTOS"], "give both", id="three-models"),
            pytest.param(["missing.tflite", "INT8", "--data", "PHOTOS"], "missing.tflite: no such", id="no-reference"),
            pytest.param(["FP32", "missing.tflite", "--data", "PHOTOS"], "missing.tflite: no such", id="no-candidate"),
            pytest.param(["FP32", "junk.tflite", "--data", "PHOTOS"], "junk.tflite: not a TFLite", id="no-model"),
            pytest.param(["FP32", "INT8", "--data", "missing"], "missing: no such folder", id="data-missing"),
            pytest.param(["FP32", "INT8", "--data", "empty"], "empty: holds no images", id="data-empty"),
            pytest.param(["FP32", "INT8", "--data", "junk"], "none of its 1 images can be read", id="data-no-images"),
            pytest.param(["FP32", "INT8", "--data", "labelled"], "labels.csv, line 2: class 7", id="class-too-high"),
            pytest.param(["FP32", "INT8", "--data", "latin"], "labels.csv", id="labels-file-in-latin-1"),
            pytest.param(["FP32", "MOBILENET", "--data", "PHOTOS"], "cannot be compared", id="other-classes"),
            pytest.param(
                ["FP32", "INT8", "--data", "PHOTOS", "--min-agreement", "95"], "95", id="agreement-in-percent"
            ),
            pytest.param(["FP32", "INT8", "--data", "PHOTOS", "--workers", "0"], "0 is not in", id="workers-0"),
            pytest.param(["FP32", "INT8", "--data", "PHOTOS", "--max-drop", "x"], "'x' is not", id="max-drop-word"),
            pytest.param(
                ["FP32", "INT8", "--data", "PHOTOS", "--max-drop", "nan"], "not a finite number", id="max-drop-nan"
            ),
            pytest.param(["FP32", "INT8", "--data", "PHOTOS", "--max-drop", "1"], "not in the range", id="in-points"),
            pytest.param(
                ["FP32", "INT8", "--data", "PHOTOS", "--min-agreement", "nan"],
                "not a finite number",
                id="min-agreement-nan",
            ),
            pytest.param(
                ["FP32", "INT8", "--data", "PHOTOS", "--labels", "no.txt"], "no.txt: cannot read", id="labels"
            ),
            pytest.param(["FP32", "INT8", "--data", "PHOTOS", "--normalize", "x"], "'x'", id="normalization"),
        ],
    )
    def test_say_in_one_line_what_is_wrong(
        self,
        arguments: list[str],
        message: str,
        pair: tuple[Path, Path],
        mobilenets: tuple[Path, Path],
        photos: Path,
        tmp_path: Path,
        edgeq: Run,
    ) -> None:
        for name in ("empty", "junk", "labelled", "latin"):
            (tmp_path / name).mkdir()
        (tmp_path / "junk" / "a.jpg").write_text("no image")
        (tmp_path / "junk.tflite").write_text("no model")
        for name in ("labelled", "latin"):
            colour_picture("red", seed=1).save(tmp_path / name / "a.png")
        (tmp_path / "labelled" / "labels.csv").write_text("file,class_index\na.png,7\n")
        (tmp_path / "latin" / "labels.csv").write_bytes(b"a.png,2\ncaf\xe9.png,1\n")
        (tmp_path / "drift.json").write_text("old")
        places = {"FP32": pair[0], "INT8": pair[1], "MOBILENET": mobilenets[1], "PHOTOS": photos}
        given = [places.get(argument, argument) for argument in arguments]
        done = edgeq("compare", *given, "--json", "drift.json", cwd=tmp_path)
        assert message in error_of(done)
        assert done.out == ""
        assert (tmp_path / "drift.json").read_text() == "old"
