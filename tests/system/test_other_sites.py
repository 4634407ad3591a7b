"""Pages of other sites, in a browser, before real servers that listen on its machine alone."""

from __future__ import annotations

import json
import threading
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Error

from tests.support.browser import browser
from tests.support.http import fetch
from tests.support.ports import free_ports

__all__ = ["browser"]  # a fixture

#: Asks for something, and returns the status, or None where the answer is not to be seen.
ASK = """async ([url, method, body, mode]) => {
    try { return (await fetch(url, {method, body, mode})).status || null; } catch { return null; }
}"""

#: Uploads with a header and a token, fetches, and returns what the page was let read.
SHARE = """async ([upload, download, headers]) => {
    const stored = await fetch(upload, {method: "POST", body: "abc", headers});
    const answer = await stored.json();
    const fetched = await fetch(`${download}/${answer.id}`, {headers: {"X-Any": "1"}});
    const missing = await fetch(`${download}/missing`);
    const of = name => fetched.headers.get(name);
    const told = ["etag", "x-meta", "content-disposition", "x-request-id"].map(of);
    return [stored.status, await fetched.text(), ...told.slice(0, 3), !!told[3], missing.status,
        (await missing.json()).status];
}"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title>")

    def log_message(self, *arguments):
        """It would go to the terminal."""


@pytest.fixture
def site():
    """The address of a site that means no good, which the browser finds under any name."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"evil.localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def servers(place):
    """The ports of a blob server, and of an API server: for uploads, fetches, and its page."""
    ports = free_ports(4)
    place.twistd(f"sos-blob --port {ports[0]} --store data", ports[0])
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {ports[1]} --download-port {ports[2]} "
        f"--admin-port {ports[3]} --store own",
        *ports[1:],
    )
    return ports


def stored(ports):
    status = json.loads(fetch(f"http://127.0.0.1:{ports[3]}/status"))
    return json.loads(fetch(f"http://127.0.0.1:{ports[0]}/blobs")), status["store"]["blobs"]


def ask_everything(page, host, ports, mode):
    """Return what *page* sees of its requests to the servers under the name *host*."""
    asked = (
        (ports[0], "/blob/name", "POST", "x"),
        (ports[0], "/lease?seconds=300", "POST", ""),
        (ports[0], "/members", "POST", "{}"),
        (ports[1], "/upload", "POST", "x"),
        (ports[3], "/upload", "POST", "x"),
    )
    return [
        page.evaluate(ASK, [f"http://{host}:{port}{path}", method, body, mode])
        for port, path, method, body in asked
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_site_stores_nothing(browser, site, servers, host):
    """It may ask, and sees no answer; a lease is free for who asks next."""
    page = browser.new_page()
    page.goto(f"http://{site}/")
    assert set(ask_everything(page, host, servers, "no-cors")) == {None}
    page.close()
    assert stored(servers) == ([], 0)
    assert fetch(f"http://127.0.0.1:{servers[0]}/lease?seconds=9", b"")


@pytest.mark.parametrize("number", range(4))
def test_a_page_that_comes_by_rebinding(browser, servers, number):
    """To the browser the server is its own site; it reads and changes nothing."""
    context = browser.new_context()
    page = context.new_page()
    origin = f"http://evil.example:{servers[number]}"
    answer = page.goto(f"{origin}/status")
    assert answer.status == 421
    for path in ("/status", "/blobs", "/metrics", "/fetch/abc"):
        assert page.evaluate(ASK, [path, "GET", None, "same-origin"]) == 421
    for path in ("/upload", "/blob/name", "/lease?seconds=300"):
        assert page.evaluate(ASK, [path, "POST", "x", "same-origin"]) == 421
    context.close()
    assert stored(servers) == ([], 0)


def test_a_page_of_a_listed_origin_uploads_and_fetches(browser, site, place):
    """And reads headers and errors; a page of the same site, on another name, sees nothing."""
    ports = free_ports(2)
    app = site.replace("evil", "app")
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {ports[0]} --download-port {ports[1]} "
        f"--store own --cors-origins http://{app}",
        *ports,
    )
    upload, download = f"http://127.0.0.1:{ports[0]}/upload", f"http://127.0.0.1:{ports[1]}/fetch"
    headers = {"X-Meta": "m", "X-Orig-Filename": "a.txt", "Authorization": "Bearer none"}
    page = browser.new_page()
    page.goto(f"http://{app}/")
    headers_seen = page.evaluate(SHARE, [upload, download, headers])
    name = "inline; filename=a.txt"
    assert headers_seen == [200, "abc", f'"{sha1(b"abc").hexdigest()}"', "m", name, True, 404, 404]
    page.goto(f"http://{site}/")
    for headers in ({}, {"X-Meta": "m"}):
        with pytest.raises(Error, match="Failed to fetch"):
            page.evaluate(SHARE, [upload, download, headers])
    page.close()
