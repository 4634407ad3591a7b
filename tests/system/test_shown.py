"""Stored objects that a browser is sent to: what is inert is shown, and nothing runs."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support import media
from tests.support.browser import browser
from tests.support.http import fetch
from tests.support.ports import free_ports

__all__ = ["browser"]  # a fixture

#: Returns the colour in the middle of a picture.
COLOUR = """async url => {
    const picture = new Image();
    picture.src = url;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    return Array.from(context.getImageData(picture.width / 2, picture.height / 2, 1, 1).data);
}"""
#: Returns the colour in the middle of the video, which its controls may cover on the screen.
FRAME_COLOUR = """() => {
    const video = document.querySelector("video");
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    context.drawImage(video, 0, 0, 1, 1);
    return Array.from(context.getImageData(0, 0, 1, 1).data);
}"""
SCRIPT = "document.title = 'ran'; document.getElementById('it').style.fill = '#0f0'"


@pytest.fixture
def store(place):
    """Stores a body of a type, and returns the address of the object."""
    ports = free_ports(2)
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {ports[0]} --download-port {ports[1]} "
        "--store data",
        *ports,
    )

    def store(body, type):
        headers = {"X-Mime-Type": type}
        stored = json.loads(fetch(f"http://127.0.0.1:{ports[0]}/upload", body, headers))
        return f"http://127.0.0.1:{ports[1]}/fetch/{stored['id']}"

    return store


@pytest.fixture
def page(browser):
    """A page as large as what is shown, and somewhat larger."""
    page = browser.new_page(viewport={"width": 2 * media.SIDE, "height": 2 * media.SIDE})
    yield page
    page.close()


def red(colour):
    """Tell whether a colour is red, as far as a video and a screen reproduce it."""
    return colour[0] > 200 and max(colour[1:3]) < 60


def is_red(browser, page):
    """Wait until there is red in the middle of what *page* shows."""
    beside = browser.new_page()
    try:
        for _ in range(60):
            data = base64.b64encode(page.screenshot()).decode()
            if red(beside.evaluate(COLOUR, f"data:image/png;base64,{data}")):
                return True
            page.wait_for_timeout(250)
        return False
    finally:
        beside.close()


def plays_to_its_end(page):
    """Wait until what *page* shows has been played; its policy keeps playwright from waiting."""
    for _ in range(60):
        if page.evaluate("document.querySelector('video').ended"):
            return True
        page.wait_for_timeout(250)
    return False


def test_a_video(page, store):
    """It plays, to its end."""
    recorded = base64.b64decode(page.evaluate(media.RECORD_WEBM))
    page.goto(store(recorded, "video/webm"))
    assert plays_to_its_end(page)
    assert red(page.evaluate(FRAME_COLOUR))


def test_music(page, store):
    """It plays, too: browsers show it as a video without pictures."""
    page.goto(store(media.MP3, "audio/mpeg"))
    assert plays_to_its_end(page)


def test_an_image(browser, page, store):
    """It stands in the middle, where the browser's own style puts it."""
    page.goto(store(media.png(), "image/png"))
    assert page.evaluate("document.querySelector('img').naturalWidth") == media.SIDE
    assert is_red(browser, page)


@pytest.mark.parametrize("more", ["", f"<script>{SCRIPT}</script>"], ids=["style", "script"])
def test_a_drawing(browser, page, store, more):
    """Its style is applied, its script does not run."""
    page.set_viewport_size({"width": media.SIDE, "height": media.SIDE})
    page.goto(store(media.svg(more), "image/svg+xml"))
    assert is_red(browser, page)
    assert page.title() == ""


def test_a_document(browser, page, store):
    """The browser's reader shows its page."""
    page.goto(store(media.pdf(), "application/pdf"))
    assert is_red(browser, page)


def test_text(page, store):
    """It is shown as it stands."""
    page.goto(store(b"<b>plain</b>", "text/plain"))
    assert page.inner_text("body") == "<b>plain</b>"


@pytest.mark.parametrize("type", ["text/html", "application/xhtml+xml", 'TEXT/HTML; x="image/png"'])
def test_a_page(page, store, type):
    """Its text is shown; neither its scripts nor handlers run, and it loads nothing."""
    loaded = []
    page.on("requestfinished", lambda request: loaded.append(request.url))
    body = (
        f'<html xmlns="http://www.w3.org/1999/xhtml"><body onload="{SCRIPT}"><p id="it">text</p>'
        f'<img src="/alive" onerror="{SCRIPT}"/><script>{SCRIPT}</script></body></html>'
    )
    page.goto(store(body.encode(), type))
    assert page.inner_text("p") == "text"
    assert page.title() == ""
    assert len(loaded) == 1, loaded
