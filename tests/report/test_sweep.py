"""A sweep as text and as a page, which is looked at in a real browser."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.comparison.metrics import wilson_interval
from edgeq.report.sweep import in_order, sweep_lines, sweep_verdict
from edgeq.sweeping import CellAccuracy, CellLatency, Status, Sweep, SweepCell, SweepPicks
from edgeq.sweeping.finishing import choose
from report import Open, column, leaves, numbers_on

COMMAND = "edgeq sweep 'my <photos>' --out s"


def accuracy(top1: float, images: int = 200) -> CellAccuracy:
    return CellAccuracy(images, top1, wilson_interval(top1 * images, images), 0.985, (0.96, 0.99))


def cell(alpha: float, form: str, milliseconds: float, top1: float | None, **changes: Any) -> SweepCell:
    """A cell that is finished, if it has an accuracy."""
    network = f"mobilenet_v2_{alpha}_96"
    latency = CellLatency(
        "pi@kitchen", "Raspberry Pi 4 Model B", None, "tflite-runtime 2.14.0 (XNNPACK)", 1, 40, milliseconds,
        1.2 * milliseconds, 61_000_000,
    )  # fmt: skip
    result = SweepCell(f"{network}_{form}", "mobilenet_v2", alpha, 96, 96, 32, form, latencies=(latency,))
    if top1 is not None:
        file = f"cells/{result.name}/{result.name}.tflite"
        result = dataclasses.replace(
            result, status=Status.FINISHED, size_bytes=int(4e6 * alpha), epochs=18, float_top1=top1 + 0.01,
            validation=accuracy(top1), file=file,
        )  # fmt: skip
    return dataclasses.replace(result, **changes)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """Cells of every status."""
    cells = (
        cell(0.35, "int8", 4.0, 0.70, test=accuracy(0.69)),
        cell(0.35, "fp32", 9.0, 0.705),
        cell(0.5, "int8", 7.0, 0.80, test=accuracy(0.78)),
        cell(0.5, "fp32", 16.0, 0.79),
        cell(0.75, "int8", 12.0, None, status=Status.STOPPED, reason="stopped <b>early</b>", epochs=2, float_top1=0.6),
        cell(0.75, "fp32", 28.5, 0.84, test=accuracy(0.83)),
        cell(1.0, "int8", 20.0, None, reason="the budget ended"),
        cell(1.0, "fp32", 31.26, None, status=Status.OVER_LIMIT, reason="31.3 ms is above 30 ms"),
        SweepCell("broken", "mobilenet_v2", 1.3, 96, 96, 32, "int8", Status.UNUSABLE, "no <i>weights</i>"),
    )
    front, picks = choose(list(cells), 0.75)
    settings = {"--max-ms": 30.0, "--max-bytes": None, "--max-ram": None, "--min-top1": 0.75}
    return Sweep(settings, 10, 900, 200, 210, 18, cells, front, picks, 1234.5, ("something <u>odd</u>",))


@pytest.fixture(scope="module")
def page(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "sweep.html"
    edgeq.write_report(sweep, path, COMMAND)
    return path


def test_only_finished_cells_are_picked(sweep: Sweep) -> None:
    assert sweep.front == ("mobilenet_v2_0.35_96_int8", "mobilenet_v2_0.5_96_int8", "mobilenet_v2_0.75_96_fp32")
    assert sweep.picks == SweepPicks(
        "mobilenet_v2_0.75_96_fp32", "mobilenet_v2_0.5_96_int8", "mobilenet_v2_0.5_96_int8"
    )
    assert choose([cell for cell in sweep.cells if cell.status != Status.FINISHED], None) == ((), None)


def test_its_json_comes_back(sweep: Sweep) -> None:
    document = json.loads(json.dumps(sweep.to_json()))
    again = Sweep.from_json(document)
    assert again == sweep
    assert document["cells"][0]["latency_ms"] == 4.0


class TestText:
    def test_the_table_and_the_picks(self, sweep: Sweep) -> None:
        lines = sweep_lines(sweep, 80)
        assert max(map(len, lines)) <= 80
        assert lines[0].split() == ["network", "top-1", "95", "%", "agree", "ms", "p90", "MB", "RAM"]
        rows = [line.split() for line in lines[1:6]]
        assert [row[:2] for row in rows] == [
            *(["*v2_0.75_96", "fp32"], ["*v2_0.5_96", "int8"], ["v2_0.5_96", "fp32"]),
            *(["v2_0.35_96", "fp32"], ["*v2_0.35_96", "int8"]),
        ]
        assert rows[1][2:] == ["80.0", "73.9-85.0", "98.5", "7.00", "8.40", "2.00", "61"]
        text = " ".join(" ".join(lines).split())
        assert "Most accurate: mobilenet_v2_0.75_96_fp32, 28.5 ms, test accuracy 83.0 % (95 % interval" in text
        assert "Fastest: mobilenet_v2_0.5_96_int8, 7.00 ms" in text
        assert "Best trade: mobilenet_v2_0.5_96_int8" in text
        assert "Note: something <u>odd</u>." in text

    def test_what_is_not_finished_and_why(self, sweep: Sweep) -> None:
        lines = sweep_lines(sweep, 200)
        others = lines[lines.index("Not finished:") + 1 :][:4]
        assert others == [
            "  mobilenet_v2_0.75_96_int8: stopped <b>early</b> (validation accuracy so far 60.0 %)",
            "  mobilenet_v2_1.0_96_int8: the budget ended",
            "  mobilenet_v2_1.0_96_fp32: 31.3 ms is above 30 ms",
            "  broken: no <i>weights</i>",
        ]

    def test_the_verdict_names_the_limits_only_if_there_are_any(self, sweep: Sweep) -> None:
        assert sweep_verdict(sweep).startswith(
            "The most accurate within the limits of 9 cells is mobilenet_v2_0.75_96_fp32: 83.0 % (95 % interval "
        )
        assert sweep_verdict(sweep).endswith("on 200 test photos, at 28.5 ms.")
        free = dataclasses.replace(sweep, settings={})
        assert sweep_verdict(free).startswith("The most accurate of 9 cells is ")

    def test_nothing_is_fast_and_accurate_enough(self, sweep: Sweep) -> None:
        _, picks = choose(list(sweep.cells), 0.95)
        assert picks is not None
        lines = sweep_lines(dataclasses.replace(sweep, picks=picks), 200)
        assert (
            "Fastest: no cell reaches the wanted accuracy; the nearest is mobilenet_v2_0.75_96_fp32 with 84.0 %."
            in lines
        )

    def test_emulated_latencies_are_marked(self, sweep: Sweep) -> None:
        first = sweep.cells[0]
        emulated = dataclasses.replace(first.latencies[0], emulated_by="x86_64")
        cells = (dataclasses.replace(first, latencies=(emulated,)), *sweep.cells[1:])
        assert "~4.00" in "\n".join(sweep_lines(dataclasses.replace(sweep, cells=cells), 80))

    def test_the_slowest_board_counts(self, sweep: Sweep) -> None:
        first = sweep.cells[0]
        slower = dataclasses.replace(first.latencies[0], device="pi@attic", median_ms=9.0, p90_ms=9.5)
        both = dataclasses.replace(first, latencies=(first.latencies[0], slower))
        assert (both.latency_ms, both.p90_ms) == (9.0, 9.5)


class TestPage:
    def test_every_part(self, sweep: Sweep, page: Path, look: Open) -> None:
        view = look(page)
        assert view.locator(".verdict").inner_text().replace("\N{NO-BREAK SPACE}", " ") == sweep_verdict(sweep)
        assert view.locator("h2").all_inner_texts() == [
            *("Picks", "Accuracy against latency", "Finished cells", "Not finished", "Provenance")
        ]
        assert view.locator("svg.chart:visible").bounding_box()["height"] > 200
        assert column(view, "[aria-labelledby=picks] table", 2) == [
            *("mobilenet_v2_0.75_96_fp32", "mobilenet_v2_0.5_96_int8", "mobilenet_v2_0.5_96_int8")
        ]
        note = view.locator("#picks ~ p.note").first.inner_text()
        assert note.startswith("Publish the test accuracy. No choice used the 210 test photos.")
        assert "Note: something <u>odd</u>." in view.locator("p.note").all_inner_texts()
        text = view.locator("dl.provenance").inner_text()
        assert "pi@kitchen" in text
        assert "Raspberry Pi 4 Model B" in text
        assert COMMAND in text

    def test_its_numbers_are_the_json_s(self, sweep: Sweep, page: Path, look: Open) -> None:
        shown, exact = numbers_on(look(page)), leaves(json.loads(json.dumps(sweep.to_json())))
        assert {key: exact[key] for key in shown if key in exact} == {k: v for k, v in shown.items() if k in exact}
        assert {key for key in shown if key not in exact} == set()
        for place, cell_ in enumerate(sweep.cells):
            assert f"cells.{place}.latency_ms" in shown
            assert (f"cells.{place}.validation.top1" in shown) == (cell_.status == Status.FINISHED)

    def test_the_front_and_the_picks_are_marked(self, sweep: Sweep, page: Path, look: Open) -> None:
        view = look(page)
        rows = view.locator("[aria-labelledby=cells] tbody tr")
        marked = [row.locator("td").first.inner_text() for row in rows.all() if "●" in row.inner_text()]
        assert sorted(text.split()[0] for text in marked) == sorted(sweep.front)
        assert marked[1].split("\n")[1] == "fastest, best trade"
        chart = view.locator("svg.chart:visible").text_content()
        for said in ("most accurate", "fastest, best trade", "Pareto front", "int8, stopped early"):
            assert said in chart

    def test_what_is_not_finished_and_why(self, page: Path, look: Open) -> None:
        view = look(page)
        table = "[aria-labelledby=others] table"
        assert column(view, table, 5) == [
            *("stopped <b>early</b>", "the budget ended", "31.3 ms is above 30 ms", "no <i>weights</i>")
        ]
        assert view.locator("main :is(i, u)").count() == 0
        assert column(view, table, 2) == ["12.0", "20.0", "31.3", "-"]

    def test_a_click_on_a_heading_sorts(self, page: Path, look: Open) -> None:
        view = look(page)
        table = "[aria-labelledby=cells] table"
        assert column(view, table, 7) == ["28.5", "7.00", "16.0", "9.00", "4.00"]
        view.locator(f"{table} th").nth(6).get_by_role("button").click()
        assert column(view, table, 7) == ["4.00", "7.00", "9.00", "16.0", "28.5"]  # "16.0" < "4.00" as text

    def test_phone_dark_and_paper(self, page: Path, look: Open) -> None:
        view = look(page, viewport={"width": 360, "height": 740}, color_scheme="dark")
        assert view.evaluate("document.documentElement.scrollWidth") <= 360
        assert view.locator(".narrow svg").is_visible()
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        view.emulate_media(media="print")
        view.set_viewport_size({"width": 673, "height": 1002})  # A4 in CSS pixels, less the margins
        assert view.evaluate("document.documentElement.scrollWidth") <= 673
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert view.pdf(format="A4").startswith(b"%PDF-")

    def test_same_sweep_same_bytes(self, sweep: Sweep, page: Path, tmp_path: Path) -> None:
        edgeq.write_report(sweep, tmp_path / "again.html", COMMAND)
        assert (tmp_path / "again.html").read_bytes() == page.read_bytes()

    def test_nothing_is_finished(self, sweep: Sweep, tmp_path: Path, look: Open) -> None:
        cells = tuple(cell for cell in sweep.cells if cell.status in (Status.OVER_LIMIT, Status.UNUSABLE))
        edgeq.write_report(dataclasses.replace(sweep, cells=cells, front=(), picks=None), tmp_path / "a.html")
        view = look(tmp_path / "a.html")
        assert view.locator("h2").all_inner_texts() == ["Not finished", "Provenance"]
        assert view.locator(".verdict").inner_text() == "No cell was finished."


def test_the_order_is_by_status_then_accuracy(sweep: Sweep) -> None:
    assert [cell.status for cell in in_order(sweep)] == [
        *[Status.FINISHED] * 5,
        *(Status.STOPPED, Status.WAITING, Status.OVER_LIMIT, Status.UNUSABLE),
    ]
