"""A comparison as Markdown: the numbers of the comparison, and no markup from file names."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from edgeq.errors import InputError
from edgeq.report.markdown import markdown, write_markdown
from report.test_terminal import comparison, flip

PAGE = MarkdownIt("commonmark", {"html": True}).enable("table")


def cells(text: str) -> list[list[str]]:
    """The rows of all tables, as a reader of the rendered page sees them."""
    rows = re.findall(r"<tr>(.*?)</tr>", PAGE.render(text), re.DOTALL)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_numbers() -> None:
    rows = cells(markdown(comparison()))
    assert ["top-1 agreement", "95.0 %", "92.7 to 96.6"] in rows
    assert ["top-1 drop, points", "1.8", "0.2 to 3.4"] in rows
    assert ["Model", "FP32", "INT8"] in rows
    assert ["top-1", "91.2 %", "89.4 %"] in rows
    assert ["images", "500", ""] in rows


def test_flips_are_folded_and_limited() -> None:
    text = markdown(comparison(flips=tuple(flip(i) for i in range(30))))
    assert "<details><summary>30 images with a different top-1 class, the 20 with the largest margins</summary>" in text
    assert sum(row[1:2] == ["great white shark"] for row in cells(text)) == 20


@pytest.mark.parametrize(
    ("missed", "heading"),
    [
        (None, "## Quantization drift\n"),
        ([], "## Quantization drift: within limits\n"),
        (["agreement is 0.9500, less than 0.99"], "## Quantization drift: limits missed\n"),
    ],
)
def test_limits(missed: list[str] | None, heading: str) -> None:
    text = markdown(comparison(), missed)
    assert text.startswith(heading)
    assert ("**Missed:** Agreement is 0.9500, less than 0.99." in text) == bool(missed)


def test_without_classes_nothing_is_said_of_top_1() -> None:
    text = markdown(comparison(labelled=0, top1_drop=None, top1_drop_ci95=None, mcnemar_p=None))
    assert "top-1 drop" not in text


@pytest.mark.parametrize(
    "name", ["a|b", "<img src=x>", "[x](http://example.com)", "`a`", "*a* _b_", "a\nb", "&lt;", "\\"]
)
def test_names_are_text(name: str) -> None:
    odd = dataclasses.replace(flip(1, label=name), file=f"/photos/{name}".replace("/x", "x"))
    (row,) = [row for row in cells(markdown(comparison(flips=(odd,)))) if len(row) == 4 and row[0] != "Image"]
    shown = row[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shown == name.replace("\n", " ")


def test_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "drift.md"
    odd = dataclasses.replace(flip(1), file="/photos/\udcff.jpg")
    write_markdown(comparison(flips=(odd,)), path, [])
    assert path.read_text(encoding="utf-8").startswith("## Quantization drift: within limits")
    with pytest.raises(InputError, match="cannot write"):
        write_markdown(comparison(), tmp_path / "drift.md" / "below")
