"""A comparison as text: it fits any terminal, and nothing is left out for that."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from edgeq.comparison import ClassDrift, Comparison, Flip, ModelResult
from edgeq.report.tables import table
from edgeq.report.terminal import comparison_lines

WIDTHS = (40, 80, 200)


def model(name: str, **changes: Any) -> ModelResult:
    result = ModelResult(
        path=f"/home/someone/a/long/way/down/{name}",
        sha256="0" * 64,
        runtime="ai-edge-litert 2.3.0",
        top1=0.912,
        top5=0.987,
        latency_ms=1.604,
        size_bytes=14_012_345,
    )
    return dataclasses.replace(result, **changes)


def flip(number: int, label: str | None = "great white shark") -> Flip:
    return Flip(
        file=f"/photos/{number:04}_n01484850_great_white_shark_and_a_boat.jpg",
        label=label,
        reference="great white shark",
        candidate="hammerhead, hammerhead shark",
        reference_probability=0.61,
        candidate_probability=0.47,
        reference_margin=0.33,
        candidate_margin=0.12,
    )


def comparison(**changes: Any) -> Comparison:
    """The comparison of two networks with long names, with flips and everything."""
    result = Comparison(
        images=500,
        labelled=500,
        skipped=(("/photos/broken_file_with_a_long_name.jpg", "truncated"), ("/photos/notes.txt", "no image")),
        reference=model("mobilenet_v2_1.0_224_of_my_garden_fp32.tflite"),
        candidate=model(
            "mobilenet_v2_1.0_224_of_my_garden_int8.tflite", top1=0.894, latency_ms=0.752, size_bytes=3_950_000
        ),
        agreement=0.95,
        agreement_ci95=(0.9272, 0.9659),
        top1_drop=0.018,
        top1_drop_ci95=(0.0021, 0.0338),
        mcnemar_p=0.0352,
        calibration_overlap=0,
        ties=17,
        kl_mean=0.0213,
        l1_mean=0.1712,
        sqnr_db=17.46,
        flips=tuple(flip(i) for i in range(25)),
        classes=tuple(ClassDrift(f"class number {i} with a long name", 10 + i, 0.9, 0.5, 0.6) for i in range(7)),
        notes=("took the normalization of theirs.tflite from ours.tflite, which is beside it and says it",),
    )
    return dataclasses.replace(result, **changes)


EVERYTHING = comparison()
UNLABELLED = comparison(
    labelled=0,
    reference=model("a_fp32.tflite", top1=None, top5=None),
    candidate=model("a_int8.tflite", top1=None, top5=None),
    top1_drop=None,
    top1_drop_ci95=None,
    mcnemar_p=None,
    flips=tuple(flip(i, None) for i in range(3)),
    classes=(ClassDrift("great white shark", 3, None, None, 0.0),),
)
EQUAL = comparison(agreement=1.0, flips=(), classes=(), sqnr_db=math.inf, skipped=(), notes=())
LEAKING = comparison(images=40, calibration_overlap=12)
CASES = {"everything": EVERYTHING, "without-labels": UNLABELLED, "no-difference": EQUAL, "leaking": LEAKING}


def row(lines: list[str], start: str) -> str:
    """The one line that starts so."""
    (found,) = [line for line in lines if line.startswith(start)]
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_fits(case: str, width: int) -> None:
    lines = comparison_lines(CASES[case], width)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_every_row_is_there_at_every_width(case: str, width: int) -> None:
    """Rows are recognized by the start of their first cell, which a narrow terminal shortens."""
    narrow, wide = comparison_lines(CASES[case], width), comparison_lines(CASES[case], 400)
    headings = ["file", "top-1", "top-5", "latency", "size", "runtime", "drift"]
    assert [h for h in headings if any(line.startswith(h) for line in narrow)] == headings
    starts = ("top-1 a", "top-1 d", "KL", "L1", "SQNR", "ties")
    for start in starts:
        assert len([line for line in narrow if line.startswith(start)]) == 1
    tables = sum(not line for line in wide)
    assert sum(not line for line in narrow) == tables  # as many blocks, set apart by empty lines
    assert sum(line.startswith("Note: ") for line in narrow) == sum(line.startswith("Note: ") for line in wide)


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_are_never_shortened(width: int) -> None:
    lines = comparison_lines(EVERYTHING, width)
    top1, top5 = row(lines, "top-1  "), row(lines, "top-5")
    assert ("91.2 %" in top1, "89.4 %" in top1, "98.7 %" in top5) == (True, True, True)
    latency, size = row(lines, "latency"), row(lines, "size")
    assert ("1.60 ms" in latency, "0.75 ms" in latency) == (True, True)
    assert ("14.01 MB" in size, "3.95 MB" in size) == (True, True)
    assert "95.0 %" in row(lines, "top-1 a")
    assert "0.0213" in row(lines, "KL")
    assert "0.1712" in row(lines, "L1")
    assert "17.5 dB" in row(lines, "SQNR")


def test_a_wide_terminal_shows_all() -> None:
    text = "\n".join(comparison_lines(EVERYTHING, 200))
    for cell in (
        "mobilenet_v2_1.0_224_of_my_garden_fp32.tflite",
        "mobilenet_v2_1.0_224_of_my_garden_int8.tflite",
        "ai-edge-litert 2.3.0",
        "on 500 images",
        "92.7 to 96.6 %",
        "1.8 points",
        "0.2 to 3.4 (McNemar p = 0.035)",
        "25 flips, the 10 worst:",
        "0000_n01484850_great_white_shark_and_a_boat.jpg",
        "great white shark 61%",
        "hammerhead, hammerhead shark 47%",
        "7 classes with flips, the 5 worst:",
        "class number 4 with a long name",
        "skipped 2 files that are not readable images (broken_file_with_a_long_name.jpg, notes.txt)",
        "took the normalization of theirs.tflite from ours.tflite, which is beside it and says it",
    ):
        assert cell in text
    assert "…" not in text


def test_only_the_worst_flips_and_classes_are_listed() -> None:
    text = "\n".join(comparison_lines(EVERYTHING, 200))
    assert text.count("_and_a_boat.jpg") == 10
    assert "0009_" in text
    assert "0010_" not in text
    assert "class number 5" not in text


def test_what_is_not_known_is_a_dash() -> None:
    lines = comparison_lines(UNLABELLED, 80)
    assert row(lines, "top-1  ").split() == ["top-1", "-", "-"]
    assert row(lines, "top-1 drop").split() == ["top-1", "drop", "-"]
    assert any("?" in line for line in lines if "_great" in line)


def test_no_difference_at_all() -> None:
    lines = comparison_lines(EQUAL, 80)
    assert "no difference" in row(lines, "SQNR")
    assert not any("flip" in line for line in lines)
    assert not any("inf" in line or "nan" in line for line in lines)


def test_the_terminal_is_asked_for_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert comparison_lines(EVERYTHING) == comparison_lines(EVERYTHING, 50)
    assert comparison_lines(EVERYTHING) != comparison_lines(EVERYTHING, 90)


def test_calibration_images_and_too_few_images_are_pointed_out() -> None:
    text = " ".join(" ".join(comparison_lines(LEAKING, 80)).split())
    assert "12 of the 40 images were used for calibration" in text
    assert "40 images are few" in text
    text = " ".join(comparison_lines(EVERYTHING, 80))
    assert "calibration" not in text
    assert "are few" not in text


class TestTable:
    ROWS = (("image", "class", "note"), ("a.jpg", "cat", "x"), ("b" * 30, "dog", "y" * 20))

    def test_columns_line_up(self) -> None:
        lines = table(self.ROWS, 200)
        assert lines == [
            f"{'image':<30}  class  note",
            f"{'a.jpg':<30}  cat    x",
            f"{'b' * 30}  dog    {'y' * 20}",
        ]

    @pytest.mark.parametrize("width", range(28, 70))
    def test_the_widest_cells_give_way(self, width: int) -> None:
        lines = table(self.ROWS, width)
        assert max(map(len, lines)) <= width
        for line, cells in zip(lines, self.ROWS, strict=True):
            shown = line.split("  ")
            found = [cell for cell in map(str.strip, shown) if cell]
            assert len(found) == 3
            for short, cell in zip(found, cells, strict=True):
                assert short == cell or (short.endswith("…") and cell.startswith(short[:-1]) and len(short) >= 8)

    def test_a_shortened_cell_uses_all_its_room(self) -> None:
        (line,) = [line for line in table(self.ROWS, 40) if "dog" in line]
        assert len(line) == 40
