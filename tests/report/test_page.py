"""A comparison as a page, looked at in a real browser that has no window."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import colour_picture

import edgeq
from edgeq.comparison import ClassDrift, Comparison, Flip, Histogram, LayerDrift, ModelResult, compare
from edgeq.errors import EdgeqError, InputError
from edgeq.report.page import confusions, write_report
from edgeq.report.wording import verdict
from report import Open, column, leaves, numbers_on

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    '"><svg onload=alert(1)>.jpg',
    "{{ 7 * 7 }} & 'co'.jpg",
]
"""Names of photos, and of classes."""
COMMAND = "edgeq compare '<b>.tflite' b.tflite --data 'my photos' --report drift.html"


def model(name: str, **changes: Any) -> ModelResult:
    result = ModelResult(
        f"/somewhere/{name}", "0123456789abcdef" * 4, "ai-edge-litert 2.3.0", 0.912, 0.987, 3.3104, 14_012_345
    )
    return dataclasses.replace(result, **changes)


def layer(place: int, **changes: Any) -> LayerDrift:
    """Operator 3 is the worst alone, operator 0 adds no noise."""
    index = (3, 1, 2, 4, 5, 0)[place]
    result = LayerDrift(
        index=index,
        operator="ADD" if index == 2 else "CONV_2D",
        name=f"block_{index}/<i>relu</i>;block_{index}/convolution",
        shape=(1, 8, 8, 16),
        sqnr_db=None if index == 0 else 30.25 - place / 3,
        alone_sqnr_db=None if index == 0 else 9.5 + 7 * place,
        cosine=0.99,
        gain=1 - 0.7 * (index == 3),
        mean_shift=0.125,
        saturation=0.01,
        range_use=0.8,
        weight_sqnr_db=None if index == 2 else 41.5,
        histogram=Histogram(-1, 7, (5, 900, 40, 3), (0, 950, 41, 0), 6 / 255, 0.0, 6.0) if place < 2 else None,
    )
    return dataclasses.replace(result, **changes)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Of everything something: photos with hostile names, one on its side, one that is gone."""
    folder = tmp_path_factory.mktemp("photos")
    flips = []
    for number, name in enumerate([*HOSTILE, "lying.jpg", "gone.jpg"]):
        path = folder / name.replace("/", "\\") if number else folder / "<script>alert(1)<" / "script>.jpg"
        path.parent.mkdir(exist_ok=True)
        picture = colour_picture("red", number)
        if name == "lying.jpg":
            exif = picture.getexif()
            exif[0x0112] = 6
            picture.resize((400, 200)).save(path, exif=exif)
        elif name != "gone.jpg":
            picture.save(path)
        reference, candidate = HOSTILE[number % 2], f"class {number // 2}"
        flips.append(
            Flip(str(path), (reference, candidate, None)[number % 3], reference, candidate, 0.9, 0.5, 1 / 3, 0.1)
        )
    return Comparison(
        images=120,
        labelled=110,
        skipped=(("/photos/<b>broken<\\b>.jpg", "truncated <i>file</i>"),),
        reference=model("<b>a_fp32.tflite"),
        candidate=model("b_int8.tflite", top1=0.894, top5=None, latency_ms=1.6, size_bytes=3_950_000),
        agreement=0.95,
        agreement_ci95=(0.8954, 0.9769),
        top1_drop=0.018,
        top1_drop_ci95=(-0.0021, 0.0338),
        mcnemar_p=0.0352,
        calibration_overlap=3,
        ties=17,
        kl_mean=0.0213,
        l1_mean=0.1712,
        sqnr_db=17.46,
        flips=tuple(flips),
        classes=tuple(
            ClassDrift(label, images, None if images == 2 else images / 12, 0.5, 1 / images)
            for label, images in zip([*HOSTILE, "zebra", "ant"], (10, 9, 2, 11, 1, 3), strict=True)
        ),
        notes=("took <u>something</u> from there",),
        layers=tuple(layer(place) for place in range(6)),
        faults=("operator 3 of <b>a</b> is broken",),
        advice=("calibrate on more photos",),
    )


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "drift.html"
    write_report(comparison, path, COMMAND)
    return path


class TestWhatItShows:
    def test_the_verdict_and_every_part(self, comparison: Comparison, page: Path, look: Open) -> None:
        view = look(page)
        assert view.locator(".verdict").inner_text().replace("\N{NO-BREAK SPACE}", " ") == verdict(comparison)
        parts = [
            "Both models",
            "What to try next",
            "6 flips",
            "Class by class",
            "Layer by layer",
            "Provenance",
        ]
        assert view.locator("h2").all_inner_texts() == parts
        assert view.locator("ol.findings li").all_inner_texts() == [
            "Operator 3 of <b>a</b> is broken.",
            "Calibrate on more photos.",
        ]
        assert view.locator("svg.chart:visible").count() == 1 + 2
        notes = view.locator("p.note").all_inner_texts()
        assert "Note: took <u>something</u> from there." in notes
        assert "Note: skipped 1 files that are not readable images (<b>broken<\\b>.jpg)." in notes
        assert all(
            box["height"] > 100 for box in (svg.bounding_box() for svg in view.locator("svg.chart:visible").all())
        )

    def test_the_worst_layer_is_named(self, page: Path, look: Open) -> None:
        said = look(page).locator("#layers + p").inner_text()
        assert said.endswith("3, CONV_2D block_3/<i>relu</i>, at 9.5 dB.")

    def test_its_numbers_are_the_json_s(self, comparison: Comparison, page: Path, look: Open) -> None:
        shown, exact = numbers_on(look(page)), leaves(json.loads(json.dumps(comparison.to_json())))
        assert {key: exact[key] for key in shown} == shown
        left_out = {re.sub(r"\d+", "N", key) for key in set(exact) - set(shown)}
        assert left_out <= {
            *("flips.N.label", "more_flips", "layers.N.shape.N", "layers.N.histogram"),
            *(f"layers.N.histogram.{name}" for name in ("low", "high", "scale", "grid_low", "grid_high")),
            *("layers.N.histogram.reference.N", "layers.N.histogram.candidate.N"),
        }

    def test_and_are_shown_rounded(self, page: Path, look: Open) -> None:
        view = look(page)
        for key, text in {
            "agreement": "95.0 %",
            "agreement_ci95.0": "89.5 %",
            "top1_drop": "1.8",
            "reference.latency_ms": "3.31 ms",
            "candidate.top5": "-",
            "candidate.size_bytes": "3.95 MB",
            "flips.0.reference_margin": "33.3",
            "layers.0.gain": "0.300",
            "layers.5.alone_sqnr_db": "no noise",
        }.items():
            assert view.locator(f'[data-key="{key}"]').inner_text() == text

    def test_photos_are_upright_and_small_and_a_gone_one_has_its_place(self, page: Path, look: Open) -> None:
        view = look(page)
        sizes = view.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
        assert sizes == [[True, 48, 48]] * 4 + [[True, 128, 256]]
        assert view.locator(".flips li").last.locator(".gone").inner_text() == "photo not found"

    def test_photos_in_tars_and_at_urls(self, comparison: Comparison, tmp_path: Path, look: Open) -> None:
        photo = tmp_path / "a.jpg"
        colour_picture("red", 1).save(photo)
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(photo, "red/a.jpg")
        names = (f"{tmp_path}/a.tar/red/a.jpg", "https://host.example/a.jpg")
        flips = tuple(dataclasses.replace(comparison.flips[0], file=name) for name in names)
        write_report(dataclasses.replace(comparison, flips=flips), tmp_path / "a.html", COMMAND)
        items = look(tmp_path / "a.html").locator(".flips li")
        assert items.nth(0).locator("img").count() == 1
        assert items.nth(1).locator(".gone").inner_text() == "photo at a URL"

    def test_what_is_taken_for_what(self, comparison: Comparison, page: Path, look: Open) -> None:
        pairs = confusions(comparison)
        assert sum(pair.flips for pair in pairs) == len(comparison.flips)
        assert [pair.flips for pair in pairs] == sorted((pair.flips for pair in pairs), reverse=True)
        assert sum(pair.reference_right for pair in pairs) == sum(f.label == f.reference for f in comparison.flips) == 2
        table = ".scroll[aria-labelledby=confusions] table"
        assert column(look(page), table, 1) == [pair.reference for pair in pairs]

    def test_where_it_comes_from(self, comparison: Comparison, page: Path, look: Open) -> None:
        text = look(page).locator("dl.provenance").inner_text()
        for told in (comparison.reference.sha256, "ai-edge-litert 2.3.0", "NumPy", "CPU", COMMAND):
            assert told in text
        assert "/somewhere" not in text

    def test_many_flips_are_cut(self, comparison: Comparison, tmp_path: Path, look: Open) -> None:
        flips = tuple(dataclasses.replace(comparison.flips[0], file=f"gone/{i}.jpg") for i in range(66))
        write_report(dataclasses.replace(comparison, flips=flips), tmp_path / "a.html", COMMAND)
        view = look(tmp_path / "a.html")
        assert view.locator(".flips li").count() == 60
        assert view.get_by_text("6 more flips are in the JSON").is_visible()

    @pytest.mark.parametrize("labelled", [0, 120])
    def test_no_difference_at_all(self, labelled: int, comparison: Comparison, tmp_path: Path, look: Open) -> None:
        unknown: dict[str, Any] = {"top1_drop": None, "top1_drop_ci95": None, "mcnemar_p": None} if not labelled else {}
        nothing = dataclasses.replace(
            comparison,
            **unknown,
            labelled=labelled,
            flips=(),
            classes=(),
            sqnr_db=math.inf,
            layers=None,
            faults=(),
            advice=(),
        )
        write_report(nothing, tmp_path / "a.html", COMMAND)
        view = look(tmp_path / "a.html")
        assert view.locator("h2").all_inner_texts() == ["Both models", "No flips", "Provenance"]
        assert view.locator('[data-key="sqnr_db"]').inner_text() == "no noise"
        assert numbers_on(view)["sqnr_db"] is None


class TestInTheBrowser:
    def test_names_stay_text(self, comparison: Comparison, page: Path, look: Open) -> None:
        view = look(page)
        assert view.evaluate("[document.scripts.length, document.images.length]") == [1, 5]
        assert view.locator("main :is(i, u, b:not(.legend b)), header b, [onload], [onerror]").count() == 0
        files = view.locator(".file").all_inner_texts()
        for name, text in zip(HOSTILE, files, strict=False):
            assert name in text
        assert column(view, ".scroll[aria-labelledby=classes] table", 1) == [
            drift.label for drift in comparison.classes
        ]
        assert view.title() == "Drift of b_int8.tflite"
        assert "Drift of b_int8.tflite from <b>a_fp32.tflite" in view.locator("h1").inner_text()

    def test_a_click_on_a_heading_sorts_by_number(self, page: Path, look: Open) -> None:
        view = look(page)
        table = ".scroll[aria-labelledby=layers] table"
        heading = view.locator(f"{table} th").nth(2)
        assert column(view, table, 1) == ["3", "1", "2", "4", "5", "0"]  # the worst first, as measured
        assert heading.get_attribute("aria-sort") is None
        heading.get_by_role("button").click()
        assert column(view, table, 3) == ["9.5", "16.5", "23.5", "30.5", "37.5", "no noise"]  # "16.5" < "9.5" as text
        assert heading.get_attribute("aria-sort") == "ascending"
        heading.get_by_role("button").click()
        assert column(view, table, 3) == ["37.5", "30.5", "23.5", "16.5", "9.5", "no noise"]  # unknown stays last
        assert heading.get_attribute("aria-sort") == "descending"
        view.locator(f"{table} th").first.get_by_role("button").click()
        assert column(view, table, 1) == ["0", "1", "2", "3", "4", "5"]
        assert heading.get_attribute("aria-sort") is None

    def test_the_keyboard_sorts_by_text(self, comparison: Comparison, page: Path, look: Open) -> None:
        view = look(page)
        table = ".scroll[aria-labelledby=classes] table"
        button = view.locator(f"{table} th").first.get_by_role("button")
        button.focus()
        view.keyboard.press("Enter")
        ascending = column(view, table, 1)
        assert ascending[-2:] == ["ant", "zebra"]
        assert sorted(ascending) == sorted(drift.label for drift in comparison.classes)
        view.keyboard.press("Space")
        assert column(view, table, 1) == ascending[::-1]

    def test_dark_is_dark_charts_too(self, page: Path, look: Open) -> None:
        def colours(scheme: str) -> list[list[int]]:
            view = look(page, color_scheme=scheme)
            found = view.evaluate(
                """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                    getComputedStyle(document.querySelector('svg.chart text')).fill]"""
            )
            return [[int(part) for part in re.findall(r"\d+", colour)[:3]] for colour in found]

        light, dark = colours("light"), colours("dark")
        assert light[0] == [255, 255, 255]
        assert sum(dark[0]) < 120 < sum(dark[1])
        for paper, _, text in (light, dark):
            assert abs(sum(paper) - sum(text)) > 300
        assert light[2] != dark[2]

    def test_it_fits_a_phone(self, page: Path, look: Open) -> None:
        view = look(page, viewport={"width": 360, "height": 740})
        assert view.evaluate("document.documentElement.scrollWidth") <= 360
        assert view.locator(".narrow svg").is_visible()
        assert not view.locator(".wide svg").is_visible()

    def test_it_prints_in_full_and_on_white(self, page: Path, look: Open) -> None:
        view = look(page, color_scheme="dark")
        view.emulate_media(media="print")
        view.set_viewport_size({"width": 673, "height": 1002})  # A4 in CSS pixels, less the margins
        assert view.evaluate("document.documentElement.scrollWidth") <= 673
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert view.evaluate(
            "[...document.querySelectorAll('.scroll')].every(e => e.scrollHeight <= e.clientHeight + 2)"
        )
        assert view.pdf(format="A4").startswith(b"%PDF-")

    def test_it_reads_without_scripts(self, page: Path, look: Open) -> None:
        view = look(page, java_script_enabled=False)
        assert view.get_by_role("button").count() == 0
        assert view.locator(".scroll[aria-labelledby=layers] tbody tr").count() == 6

    def test_what_refers_to_a_part_finds_it(self, page: Path, look: Open) -> None:
        view = look(page)
        ids = view.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        wanted = view.evaluate(
            "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.ariaLabelledByElements?.length)"
        )
        assert set(wanted) <= {1, None}
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= set(ids)


class TestAsAFile:
    def test_same_comparison_same_bytes(self, comparison: Comparison, page: Path, tmp_path: Path) -> None:
        write_report(comparison, tmp_path / "again.html", COMMAND)
        assert (tmp_path / "again.html").read_bytes() == page.read_bytes()

    def test_without_a_command(self, comparison: Comparison, page: Path, tmp_path: Path) -> None:
        """As from Python."""
        edgeq.write_report(comparison, str(tmp_path / "a.html"))
        text = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert "<dt>command</dt>" in page.read_text(encoding="utf-8")
        assert "<dt>command</dt>" not in text
        assert "<dt>CPU</dt>" in text

    def test_a_photo_brings_nothing_but_its_pixels(self, page: Path) -> None:
        assert "image/svg" not in page.read_text(encoding="utf-8")
        assert len(re.findall(r'src="data:image/jpeg;base64,', page.read_text(encoding="utf-8"))) == 5
        assert b"RXhpZg" not in page.read_bytes()  # "Exif" in base64

    def test_a_name_that_is_no_utf_8(self, comparison: Comparison, tmp_path: Path, look: Open) -> None:
        flip = dataclasses.replace(comparison.flips[0], file=os.fsdecode(b"photos/caf\xe9.jpg"))
        write_report(dataclasses.replace(comparison, flips=(flip,)), tmp_path / "a.html", COMMAND)
        assert "photos/caf?.jpg" in look(tmp_path / "a.html").locator(".file").inner_text()

    def test_a_place_that_cannot_be_written(self, comparison: Comparison, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(InputError, match="folder: cannot write"):
            write_report(comparison, tmp_path / "folder", COMMAND)
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    @pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
    def test_without_its_packages(
        self, package: str, comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(EdgeqError, match=rf"^a report needs {package}, .*: pip install 'edgeq\[convert\]'$"):
            write_report(comparison, tmp_path / "drift.html", COMMAND)
        assert list(tmp_path.iterdir()) == []


def test_two_real_networks(mobilenet_models: Path, photos: Path, tmp_path: Path, look: Open) -> None:
    """Of random weights, so that there are flips."""
    pair = [mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8")]
    result = compare(pair[0], pair[1], photos, layers=True, layer_images=6)
    write_report(result, tmp_path / "drift.html", "edgeq compare")
    view = look(tmp_path / "drift.html")
    shown, exact = numbers_on(view), leaves(json.loads(json.dumps(result.to_json())))
    assert {key: exact[key] for key in shown} == shown
    assert {"agreement", "reference.latency_ms", "candidate.size_bytes", "flips.0.candidate_margin"} <= set(shown)
    widths = view.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert widths == [48] * len(result.flips)
    assert pair[1].name in view.locator("h1").inner_text()
    assert result.layers is not None
    assert view.locator(".scroll[aria-labelledby=layers] tbody tr").count() == len(result.layers) > 60
    assert view.locator(".histograms svg").count() == sum(layer.histogram is not None for layer in result.layers) > 0
