"""The history of a training as JSON, and its picture."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeq.training import Epoch, History
from edgeq.training.history import draw_learning_curve

FIRST = Epoch("head", 1, 1.25, 0.5, 1.0, 0.625, 3.5)
HISTORY = History(
    {"seed": 3, "weights": "imagenet", "architecture": {"head": None}},
    [FIRST, replace(FIRST, number=2, loss=0.75), replace(FIRST, cycle="fine-tune", loss=0.5, validation_top1=0.75)],
    {"validation_top1": 0.75},
)


class TestJson:
    def test_it_holds_everything(self) -> None:
        text = HISTORY.to_json()
        assert text.endswith("}\n")
        data = json.loads(text)
        assert data["settings"] == HISTORY.settings
        assert data["result"] == HISTORY.result
        assert data["epochs"] == [asdict(epoch) for epoch in HISTORY.epochs]
        assert data["epochs"][0] == {
            "cycle": "head",
            "number": 1,
            "loss": 1.25,
            "top1": 0.5,
            "validation_loss": 1.0,
            "validation_top1": 0.625,
            "seconds": 3.5,
        }

    def test_it_reads_what_it_wrote(self) -> None:
        assert History.from_json(HISTORY.to_json()) == HISTORY

    def test_an_epoch_s_numbers_survive_as_an_array(self) -> None:
        epoch = replace(FIRST, loss=1 / 3, seconds=1e9 / 7)
        assert Epoch.from_array("head", epoch.to_array()) == epoch


@pytest.mark.parametrize(
    ("change", "better"),
    [
        ({"validation_top1": 0.63}, True),
        ({"validation_top1": 0.63, "validation_loss": 9.0}, True),
        ({"validation_loss": 0.9}, True),
        ({}, False),
        ({"loss": 0.0, "top1": 1.0, "number": 9}, False),
        ({"validation_loss": 1.1}, False),
        ({"validation_top1": 0.62, "validation_loss": 0.1}, False),
    ],
    ids=str,
)
def test_better_is_more_often_right_then_surer(change: dict[str, Any], better: bool) -> None:
    assert replace(FIRST, **change).is_better_than(FIRST) == better


class TestPicture:
    pytest.importorskip("matplotlib")

    @pytest.mark.parametrize("epochs", [1, 2, 3, 60])
    def test_it_opens_and_has_both_curves(self, tmp_path: Path, epochs: int) -> None:
        many = [replace(FIRST, number=i + 1, loss=1 / (i + 1)) for i in range(epochs)]
        draw_learning_curve(History({}, many), tmp_path / "curve", "photos")
        with Image.open(tmp_path / "curve") as image:
            assert (image.format, image.size) == ("PNG", (1080, 432))
            pixels = np.asarray(image.convert("RGB")).astype(int)
        for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's tab:blue and tab:orange
            close = np.abs(pixels - colour).max(axis=2) < 10
            assert close[:, :540].sum() > 20  # the loss
            assert close[:, 540:].sum() > 20  # the accuracy

    def test_cycles_are_told_apart(self, tmp_path: Path) -> None:
        draw_learning_curve(HISTORY, tmp_path / "two", "photos")
        one = replace(HISTORY, epochs=[replace(epoch, cycle="head") for epoch in HISTORY.epochs])
        draw_learning_curve(one, tmp_path / "one", "photos")
        assert (tmp_path / "two").read_bytes() != (tmp_path / "one").read_bytes()

    @pytest.mark.parametrize(
        "title", ["$x$ or $_^", os.fsdecode(b"gr\xfcn.keras"), "a_b^c\\d", "%d {} 100 %"], ids=ascii
    )
    def test_any_name_can_be_its_title(self, tmp_path: Path, title: str) -> None:
        draw_learning_curve(HISTORY, tmp_path / "curve", title)
        with Image.open(tmp_path / "curve") as image:
            assert image.size == (1080, 432)

    def test_the_same_history_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            draw_learning_curve(HISTORY, tmp_path / name, "photos")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
