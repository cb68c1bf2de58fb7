"""The page of what is watched, in a real browser that has no window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.classification import Prediction
from edgeq.watching import Expected
from edgeq.watching.deviation import PERIOD_S
from edgeq.watching.expected import ExpectedLabel
from watching.web import LABELS, Client, FolderKeeper, jpeg, observed

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('1')>",
    "\u202ered\u2066 אדום",  # its letters run from right to left
    "long " * 40,
]
NARROW, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture
def keeper(tmp_path: Path) -> FolderKeeper:
    return FolderKeeper(tmp_path)


@pytest.fixture
def page(keeper: FolderKeeper) -> Iterator[edgeq.WatchPage]:
    with edgeq.WatchPage("0", [*LABELS, *HOSTILE], model="m.tflite", source="camera", keeper=keeper) as opened:
        yield opened


@pytest.fixture
def view(browser: Any, page: edgeq.WatchPage) -> Iterator[Any]:
    """The page in a browser; it must have been content with itself, and have asked for nothing elsewhere."""
    complaints: list[str] = []
    asked: list[str] = []

    def dismiss(dialog: Any) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    opened = browser.new_context(viewport=WIDE).new_page()
    opened.set_default_timeout(15_000)
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", dismiss)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.url)
    yield opened
    opened.context.close()
    assert complaints == []
    assert {f"{page.url}api/events", f"{page.url}stream.mjpg"} <= set(asked)
    assert [url for url in asked if not url.startswith((page.url, f"blob:{page.url}", "data:,"))] == []


def wait_for(view: Any, condition: str) -> None:
    view.wait_for_function(f"() => {condition}")


def show(page: edgeq.WatchPage, view: Any, item: edgeq.Observed) -> None:
    """Show a result, and wait until the browser has its picture and its numbers."""
    page.show(item)
    wait_for(view, f"document.getElementById('frame').textContent === 'Frame {item.frame}'")
    latency = f"{item.times_ms['latency']:.1f}\u00a0ms"
    wait_for(view, f"document.getElementById('times').textContent.includes('{latency}')")


def pairs(view: Any, place: str) -> dict[str, str]:
    rows = view.evaluate(
        f"[...document.querySelectorAll('#{place} > div')].map(row => [...row.children].map(e => e.textContent))"
    )
    return {name: value.replace("\u00a0", " ") for name, value in rows}


def texts(view: Any, selector: str) -> list[str]:
    return [text.replace("\u00a0", " ") for text in view.locator(selector).all_text_contents()]


def test_live_values_are_those_of_the_api(page: edgeq.WatchPage, view: Any) -> None:
    assert view.text_content("#waiting") == "Waiting for the first frame"
    before = None
    for frame, label in ((1, "red"), (2, "blue")):
        show(page, view, observed(frame, label, image=jpeg(label)))
        latest = Client(page).json("/api/state")["latest"]
        times, figures = pairs(view, "times"), pairs(view, "figures")
        assert view.text_content("#label") == latest["label"] == label
        assert texts(view, "#probability") == [
            f"{latest['probability']:.1%}, mean of the last frames".replace("%", " %")
        ]
        assert texts(view, "#bars bdi") == [each["label"] for each in latest["predictions"]]
        assert texts(view, "#bars span") == [f"{100 * each['probability']:.1f} %" for each in latest["predictions"]]
        for step in ("decode", "preprocess", "invoke"):
            assert times[step] == f"{latest['times_ms'][step]:.1f} ms"
        assert figures == {
            "frames per second": f"{latest['frames_per_second']:.1f}",
            "latency": f"{latest['times_ms']['latency']:.1f} ms",
            "dropped frames": str(latest["dropped"]),
            "damaged frames": str(latest["damaged"]),
            "interruptions": str(latest["interruptions"]),
            "temperature": "51 °C",
        }
        assert times != before
        before = times
    assert texts(view, "#summary bdi") == ["blue", "red"]
    assert texts(view, "#events span") == ["82.0 %", "81.0 %"]
    red, green, blue = view.evaluate(
        """() => {
          const canvas = document.createElement("canvas");
          const context = canvas.getContext("2d");
          context.drawImage(document.getElementById("picture"), 0, 0);
          return [...context.getImageData(20, 20, 1, 1).data].slice(0, 3);
        }"""
    )
    assert blue > max(red, green)


def test_beside_the_photos_of_a_comparison(browser: Any) -> None:
    expected = Expected(200, 0.76, {"blue": ExpectedLabel(180, 0.8), "red": ExpectedLabel(20, 0.4)}, (0,) * 20, 3)
    context = browser.new_context(viewport=NARROW)
    with edgeq.WatchPage("0", LABELS, expected=expected) as page:
        view = context.new_page()
        view.goto(page.url)
        show(page, view, observed(1, time=0.0))
        assert texts(view, "#beside") == [
            "Each frame alone, beside 200 photos. Mean probability 81.0 %, photos 76.0 %.",
        ]
        assert texts(view, "#summary td:nth-child(3)") == ["100.0 %photos 10.0 %", "0.0 %photos 90.0 %"]
        assert texts(view, "#summary td:nth-child(4)") == ["81.0 %photos 40.0 %", "\u2013photos 80.0 %"]
        assert not view.is_visible("#notice")
        for period in range(1, 9):
            page.show(observed(2, time=period * PERIOD_S))
        show(page, view, observed(3, time=9 * PERIOD_S))
        (notice,) = texts(view, "#notice")
        assert notice.startswith('For 4.0 hours, at least 95 % of the frames were classified as "red", but only 20 of')
        assert view.is_visible("#notice")
        assert view.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        page.show(edgeq.Interruption(5.0, "camera: unplugged", 2.0))  # which matters more
        view.get_by_text("The source failed: camera: unplugged.").wait_for()
    context.close()


def test_interruptions(page: edgeq.WatchPage, view: Any) -> None:
    show(page, view, observed(1))
    page.show(edgeq.Interruption(5.0, "camera: <b>unplugged</b>", 2.0))
    view.wait_for_selector("#notice:not([hidden])")
    assert view.text_content("#notice") == "The source failed: camera: <b>unplugged</b>. Next attempt after 2 s."
    show(page, view, observed(2))
    assert not view.is_visible("#notice")


@pytest.mark.parametrize("hostile", HOSTILE, ids=["script", "quotes", "right-to-left", "long"])
def test_hostile_names_are_text(page: edgeq.WatchPage, view: Any, hostile: str) -> None:
    predictions = (Prediction(2, hostile, 0.9), Prediction(0, "blue", 0.1))
    show(page, view, observed(1, hostile, file=f"/photos/{hostile}.jpg", predictions=predictions))
    places = ("#label", "#bars bdi:first-child", "#summary bdi", "#events bdi:nth-child(2)")
    assert [view.locator(place).first.text_content() for place in places] == [hostile] * 4
    assert view.text_content("#file") == view.text_content("#events .file") == f"/photos/{hostile}.jpg"
    assert view.locator("script").count() == 1
    assert view.locator("main img").count() == 1
    view.click("#correct")
    view.wait_for_selector("#dialog[open]")
    assert hostile in view.evaluate("[...document.getElementById('choice').options].map(o => o.value)")
    view.click("#cancel")
    for size in (NARROW, WIDE):
        view.set_viewport_size(size)
        assert view.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_person_keeps_and_corrects_by_keyboard(page: edgeq.WatchPage, view: Any, keeper: FolderKeeper) -> None:
    show(page, view, observed(1))
    focused = []
    for _ in range(4):
        view.keyboard.press("Tab")
        focused.append(view.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    assert focused == ["keep", "correct", "Labels since the start", "Events"]
    view.focus("#keep")
    view.keyboard.press("Enter")
    wait_for(view, "document.getElementById('kept').textContent.startsWith('Kept: ')")
    view.focus("#correct")
    view.keyboard.press("Enter")
    view.wait_for_selector("#dialog[open]")
    page.show(observed(2, image=jpeg("blue")))  # the picture goes on; the frame to correct stays
    wait_for(view, "document.getElementById('frame').textContent === 'Frame 2'")
    view.keyboard.type("GRE")
    view.keyboard.press("Enter")
    wait_for(view, "!document.getElementById('dialog').open")
    deadline = 100
    while len(keeper.kept) < 2 and deadline:
        view.wait_for_timeout(50)
        deadline -= 1
    assert keeper.kept == [(1, None), (1, "green")]


def test_a_screen_reader_hears_new_labels_only(page: edgeq.WatchPage, view: Any) -> None:
    view.evaluate(
        """() => {
          window.said = [];
          new MutationObserver(() => window.said.push(document.getElementById("spoken").textContent))
            .observe(document.getElementById("spoken"), { childList: true, characterData: true, subtree: true });
        }"""
    )
    for frame in range(1, 5):
        show(page, view, observed(frame, "red" if frame < 3 else "blue"))
    said = [text.replace("\u00a0", " ") for text in view.evaluate("window.said")]
    assert said == ["red, 81.0 %"]  # blue follows after a pause
    assert view.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(e => e.id)"
    ) == [
        "notice",
        "spoken",
        "kept",
    ]


def test_without_a_keeper_there_are_no_buttons(browser: Any) -> None:
    with edgeq.WatchPage("0", LABELS) as page:
        view = browser.new_page()
        view.goto(page.url)
        show(page, view, observed(1))
        assert not view.is_visible("#keep")
        view.close()


def test_a_hidden_page_asks_for_nothing(page: edgeq.WatchPage, view: Any) -> None:
    """A browser without a window hides no tab, so the page is made to believe it."""
    show(page, view, observed(1))
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}})"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    view.evaluate(f"{hide.format('true')}; {event}")
    page.show(observed(2))
    view.wait_for_timeout(1000)
    assert view.text_content("#frame") == "Frame 1"
    view.evaluate(f"{hide.format('false')}; {event}")
    wait_for(view, "document.getElementById('frame').textContent === 'Frame 2'")


def test_the_token_is_moved_into_a_cookie(browser: Any) -> None:
    with edgeq.WatchPage("0.0.0.0:0", LABELS) as page:
        context = browser.new_context()
        view = context.new_page()
        client = Client(page)
        view.goto(f"http://{client.host}/?token={client.token}")
        assert view.url == f"http://{client.host}/"
        show(page, view, observed(1))
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["value"]) == (True, "Strict", client.token)
        assert view.evaluate("document.cookie") == ""
    with edgeq.WatchPage(f"0.0.0.0:{client.port}", LABELS):
        notice = view.get_by_text("edgeq was started again. Open the new address that it printed.")
        notice.wait_for(timeout=30_000)
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(browser: Any, page: edgeq.WatchPage, theme: str) -> None:
    """The contrast of text on the page, by WCAG's formula."""
    context = browser.new_context(color_scheme=theme, viewport=NARROW)
    view = context.new_page()
    view.goto(page.url)
    show(page, view, observed(1))
    colors = view.evaluate(
        """() => ["#label", "#probability", "#frame", "#keep", "#figures dt", "#events time"].map((place) => {
          const style = getComputedStyle(document.querySelector(place));
          const own = style.backgroundColor;
          return [style.color, own.endsWith(", 0)") ? getComputedStyle(document.body).backgroundColor : own];
        })"""
    )
    context.close()

    def luminance(color: str) -> float:
        channels = [int(value) / 255 for value in color.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for pair in colors:
        dark, light = sorted(map(luminance, pair))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair
