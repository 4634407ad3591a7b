"""Debian's chromium, driven by playwright."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

_CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    # The name of a site leads to this machine, as by DNS rebinding.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]


class Window:
    """A page in a browser, and what went wrong on it.

    :ivar page: playwright's.
    :ivar complaints: of the console, and of the policy.
    :ivar asked: the addresses that were asked for.
    """

    def __init__(self, page):
        self.page = page
        self.complaints = []
        self.asked = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _note(self, kind, text):
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def see(self, selector, text):
        """Wait until *text* is to be seen in what *selector* finds."""
        self.page.locator(selector).filter(has_text=text).first.wait_for(timeout=30_000)


@pytest.fixture(scope="module")
def browser():
    """The browser; it runs in this thread, and no test that uses it needs the reactor."""
    if _CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield running
        running.close()


@contextmanager
def window(browser, url, **options):
    """Open *url*; at the end see that nothing was complained of, and nobody else asked."""
    context = browser.new_context(**options)
    opened = Window(context.new_page())
    try:
        opened.page.goto(url)
        yield opened
        assert opened.complaints == []
        assert all(each.startswith((url, "blob:" + url)) for each in opened.asked), opened.asked
    finally:
        context.close()
