"""The page of the admin port, in a browser, before real servers."""

from __future__ import annotations

import json
import re
import struct
import zlib
from hashlib import sha1

import pytest

from sos.auth.tokens import format_tokens, make_token
from sos.scrub import Report, save
from tests.support.blobs import body_of
from tests.support.browser import browser, window
from tests.support.http import ask, fetch
from tests.support.ports import free_ports

__all__ = ["browser"]  # a fixture

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


class Cluster:
    """Blob servers, and an API server before them or with a store of its own."""

    def __init__(self, place, servers, options=""):
        self.place = place
        self.blob_ports = free_ports(servers)
        self.blobs = [self.blob(port) for port in self.blob_ports]
        urls = ",".join(f"http://127.0.0.1:{each}" for each in self.blob_ports)
        self.behind = f"--blob-server {urls}" if servers else "--store own"
        if servers == 1:
            self.behind += " --min-copies 1"
        self.ports = free_ports(3)
        self.options = options
        self.start()
        self.url = f"http://127.0.0.1:{self.ports[2]}/"

    def blob(self, port):
        return self.place.twistd(f"sos-blob --port {port} --store {port}", port)

    def start(self):
        up, down, admin = self.ports
        self.api = self.place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--admin-port {admin} {self.behind} {self.options}",
            *self.ports,
        )

    def upload(self, body, **headers):
        url = f"http://127.0.0.1:{self.ports[0]}/upload"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return json.loads(fetch(url, body, names))["id"]

    def status(self):
        return json.loads(fetch(f"{self.url}status"))


def png():
    """Return an image of one red pixel."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", head),
        chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_cluster_from_its_first_object_to_the_loss_of_a_server(place, browser):
    """Empty, well, and with a server away: the page says so, by itself."""
    cluster = Cluster(place, 3, "--replicate-every 1")
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Ready, and empty")
        for seed in range(5):
            cluster.upload(body_of(1000, seed))
        seen.see("h1", "Everything is working")
        seen.see("#subline", "Every object had its 2 copies")
        seen.see("#figures", "blobs, each counted once")
        assert seen.page.locator("#servers li").count() == 3
        assert seen.page.locator("#servers .fill").count() == 3
        assert seen.page.locator("#servers .state").all_inner_texts() == ["up"] * 3
        seen.see("#copies", "5 blobs on 3 servers")
        seen.see("#charts figcaption b", "/s")
        assert seen.page.title() == "Everything is working · SOS"
        cluster.blobs[1].stop()
        seen.see("h1", "1 of 3 servers is not available")
        seen.see("#servers .state.bad", re.compile("unreachable|left alone"))
        seen.see("#concerns", "connection refused")
        seen.see("#live", "1 of 3 servers is not available")  # told to who cannot see it
        for each in (cluster.blobs[0], cluster.blobs[2]):
            each.stop()
        seen.see("h1", "No server answers")


def test_a_group_that_is_too_small(place, browser):
    """That every server is up is not enough."""
    cluster = Cluster(place, 2, "--min-copies 3")
    cluster.upload(b"abc")
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Working, with problems")
        seen.see(".concerns", "Group default can keep only 2 of the 3 copies")


def test_a_store_of_its_own(place, browser):
    """It is shown with its disk and its scrub, and no copies."""
    cluster = Cluster(place, 0)
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Ready, and empty")
        cluster.upload(b"abc")
        seen.see("h1", "Everything is working")
        seen.see("#servers", "1 blob")
        assert seen.page.locator("#servers .fill").count() == 1
        seen.see("#copies", "not run yet")


def test_what_a_scrub_has_found(place, browser):
    """Of each server how far its scrub is, or when it was; and what is damaged, to be looked at."""
    cluster = Cluster(place, 2)
    for seed in range(4):
        cluster.upload(body_of(100, seed))
    reports = (
        Report(started_at=1e9, finished_at=1e9, checked=4, damaged=2),
        Report(position="a" * 40, started_at=1e9, checked=1),
    )
    for port, blob, report in zip(cluster.blob_ports, cluster.blobs, reports, strict=True):
        blob.stop()
        save(report, place.directory / str(port) / "scrub.json")
        cluster.blob(port)
    with window(browser, cluster.url) as seen:
        seen.see(
            "#concerns",
            f"The scrub of http://127.0.0.1:{cluster.blob_ports[0]} quarantined 2 damaged blobs",
        )
        seen.see("#servers", "scrubbed 9 Sept 2001")
        seen.see("#servers", "25 % scrubbed")


def test_what_is_uploaded_through_it_is_shown_by_it(place, browser):
    """A text and an image as what they are, with name and type; a page with a script as text."""
    cluster = Cluster(place, 2)
    files = {
        "grüße.txt": ("text/plain", "Guten Morgen ☕".encode()),
        "dot.png": ("image/png", png()),
        "evil.html": ("text/html", b"<script>document.title = 'evil'</script>"),
        "empty": ("", b""),
        "noise.bin": ("application/octet-stream", bytes(range(256)) * 100),
    }
    with window(browser, cluster.url) as seen:
        page = seen.page
        page.set_input_files(
            "#files",
            [
                {"name": name, "mimeType": type, "buffer": body}
                for name, (type, body) in files.items()
            ],
        )
        for name, (_, body) in files.items():
            upload = page.locator("#uploads li").filter(has_text=name)
            upload.locator("code").filter(has_text=sha1(body).hexdigest()).wait_for()
            assert fetch(f"{cluster.url}fetch/{sha1(body).hexdigest()}") == body
            upload.get_by_role("button", name="Show").click()
            seen.see("#found", name)
            if name == "dot.png":
                image = page.locator("#found img")
                image.wait_for()
                assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
            elif name == "empty":
                seen.see("#found", "The object is empty")
            elif name == "noise.bin":
                seen.see("#found", "There is no preview")
            else:
                shown = page.locator("#found pre").filter(has_text=body.decode())
                shown.wait_for()
                assert shown.text_content() == body.decode()
        assert page.locator("script").count() == 1
        assert "evil" not in page.title()
        with page.expect_download() as saved:
            page.locator("#found").get_by_text("Download").click()
        assert saved.value.suggested_filename == "noise.bin"
        assert saved.value.path().read_bytes() == files["noise.bin"][1]


def test_an_object_is_deleted_where_it_is_listed(place, browser):
    """After a question that names it; then it is shown as deleted, wherever the page shows it."""
    cluster = Cluster(place, 2, "--allow-delete --write-copies 2")
    body, id = b"not for long", sha1(b"not for long").hexdigest()
    with window(browser, cluster.url) as seen:
        page = seen.page
        for name in ("once.txt", "twice.txt"):
            upload(page, name, body)
        first, second = page.locator("#uploads li").all()
        first.get_by_role("button", name="Show").click()
        seen.see("#found pre", body.decode())
        assert page.get_by_text("Uploads are permanent").is_hidden()
        first.get_by_role("button", name="Delete").click()
        question = page.get_by_role("dialog", name="Delete this object?")
        seen.see("dialog", "twice.txt")
        seen.see("dialog", id)
        question.get_by_role("button", name="Cancel").click()
        question.wait_for(state="hidden")
        assert fetch(f"{cluster.url}fetch/{id}") == body
        first.get_by_role("button", name="Delete").click()
        question.get_by_role("button", name="Delete").click()
        for item in (first, second):
            item.get_by_text(f"Deleted on 2 servers: {id}").wait_for()
            assert item.get_by_role("button").count() == 0
        seen.see("#found", f"Deleted on 2 servers: {id}")
        assert page.locator("#found pre").count() == 0
        assert ask(f"{cluster.url}fetch/{id}").status == 410
        upload(page, "again.txt", body)
        assert page.get_by_role("button", name="Delete").count() == 1
        assert fetch(f"{cluster.url}fetch/{id}") == body


def test_an_object_is_deleted_by_its_id_with_the_keyboard(place, browser):
    """Escape keeps it; the focus comes back, and goes on to the result."""
    cluster = Cluster(place, 0, "--allow-delete")
    id = cluster.upload(b"typed", X_Mime_Type="text/plain", X_Orig_Filename="typed.txt")
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Everything is working")
        page = seen.page
        page.fill("#id", id)
        page.keyboard.press("Enter")
        seen.see("#found pre", "typed")
        page.locator("#found").get_by_role("button", name="Delete").focus()
        focused = "document.activeElement.textContent"
        for last in ("Escape", "Enter"):  # Cancel has the focus
            page.keyboard.press("Enter")
            seen.see("dialog", "typed.txt")
            assert page.evaluate(focused) == "Cancel"
            page.keyboard.press(last)
            page.locator("dialog").wait_for(state="hidden")
            assert page.evaluate(focused) == "Delete"
        assert fetch(f"{cluster.url}fetch/{id}") == b"typed"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        seen.see("#found", f"Deleted on 1 server: {id}")
        assert page.evaluate(focused) == f"Deleted on 1 server: {id}"


def test_there_is_nothing_to_delete_with_where_the_server_does_not(place, browser):
    """Uploads are permanent, it says, and the button is gone."""
    cluster = Cluster(place, 0)
    with window(browser, cluster.url) as seen:
        upload(seen.page, "kept.txt", b"kept")
        seen.see("#uploads li", "stored")
        seen.page.locator("#uploads").get_by_role("button", name="Show").click()
        seen.see("#found pre", "kept")
        seen.see("#settings", "allow-deleteno")
        seen.page.get_by_text("Uploads are permanent").wait_for()
        assert seen.page.get_by_role("button", name="Delete").count() == 0


def test_a_refused_deletion_is_told(place, browser):
    """Beside the object, in the server's words; with another token it can be tried again."""
    tokens = [make_token(scope, [scope], 1, None) for scope in ("upload", "delete")]
    (place.directory / "tokens").write_text(format_tokens(entry for _, entry in tokens))
    (place.directory / "tokens").chmod(0o600)
    cluster = Cluster(place, 0, "--allow-delete --token-file tokens")
    with window(browser, cluster.url) as seen:
        page = seen.page
        seen.see("h1", "Ready, and empty")

        def give(token):
            page.locator("#token-toggle").click()
            page.fill("#token", token)
            page.keyboard.press("Enter")

        def delete():
            page.locator("#uploads").get_by_role("button", name="Delete").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()

        give(tokens[0][0])
        upload(page, "guarded.txt", b"guarded")
        delete()
        seen.see("#uploads .error", "the token upload lacks the scope delete")
        seen.see("#uploads li", f"stored in 1 copy so far as {sha1(b'guarded').hexdigest()}")
        page.locator("#token-toggle").click()
        page.locator("#token-forget").click()
        page.locator("#token-toggle").click()
        delete()
        seen.see("#uploads .error", "Enter a valid token")
        give(tokens[1][0])
        delete()
        seen.see("#uploads li", "Deleted on 1 server")
        assert page.locator("#uploads .error").count() == 0
        seen.complaints.clear()


def test_an_object_that_somebody_else_has_deleted(place, browser):
    """It is shown as deleted too, once the page hears of that."""
    cluster = Cluster(place, 0, "--allow-delete")
    with window(browser, cluster.url) as seen:
        upload(seen.page, "gone.txt", b"gone")
        id = sha1(b"gone").hexdigest()
        assert ask(f"{cluster.url}upload/{id}", method="DELETE").status == 200
        seen.page.locator("#uploads").get_by_role("button", name="Delete").click()
        seen.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        seen.see("#uploads li", f"Deleted before: {id}")
        seen.complaints.clear()


def upload(page, name, body):
    """Upload a text through the page, and wait until it is stored."""
    page.set_input_files("#files", [{"name": name, "mimeType": "text/plain", "buffer": body}])
    page.locator("#uploads li").filter(has_text=name).get_by_role("button", name="Show").wait_for()


def test_files_are_dropped_on_it(place, browser):
    """Anywhere on it; and one that is refused is told of, and can be sent again."""
    cluster = Cluster(place, 1, "--max-size 1000")
    drop = """size => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(size)], `${size}.bin`));
      for (const kind of ["dragover", "drop"])
        document.body.dispatchEvent(
          new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    with window(browser, cluster.url) as seen:
        seen.page.evaluate(drop, 10)
        seen.see("#uploads li", sha1(bytes(10)).hexdigest())
        seen.page.evaluate(drop, 2000)
        seen.see("#uploads .error", "exceeds the limit of 1000")
        assert seen.page.get_by_role("button", name="Retry").count() == 1
        # That is what the browser says of any answer that is an error.
        assert all("413" in each for each in seen.complaints)
        seen.complaints.clear()


def test_an_id_that_is_nowhere(place, browser):
    """It is said so, in words."""
    cluster = Cluster(place, 1)
    with window(browser, cluster.url) as seen:
        seen.page.fill("#id", "0" * 40)
        seen.page.keyboard.press("Enter")
        seen.see("#found .error", "There is no such object")
        seen.complaints.clear()


def test_by_keyboard_alone(place, browser):
    """All there is to use comes in order, and can be seen to have the focus."""
    cluster = Cluster(place, 1)
    body = b"by keyboard"
    id = cluster.upload(body, X_Mime_Type="text/plain")
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Everything is working")
        page, names = seen.page, []
        for _ in range(5):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => {
                  const it = document.activeElement, style = getComputedStyle(it);
                  return [it.id || it.textContent, style.outlineStyle, style.outlineWidth];
                }"""
            )
            names.append(focused[0])
            assert focused[1:] == ["solid", "3px"], focused
        assert names == [
            "Skip to the status",
            "token-toggle",
            "choose",
            "id",
            "Fetch",
        ]
        page.keyboard.press("Shift+Tab")
        page.keyboard.type(id)
        page.keyboard.press("Enter")
        seen.see("#found pre", body.decode())
        for _ in range(3):  # past the button, into the text, to the download
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Download"
        for _ in range(7):
            page.keyboard.press("Shift+Tab")
        page.locator("#token-toggle").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("a-token")
        page.keyboard.press("Enter")
        assert page.evaluate("sessionStorage.getItem('sos-token')") == "a-token"
        assert page.evaluate("document.activeElement.id") == "token-toggle"


def test_a_token_is_sent_and_a_refusal_is_told(place, browser):
    """As Authorization: Bearer, to nobody but this server; 401 asks for one."""
    cluster = Cluster(place, 1)
    with window(browser, "about:blank") as seen:
        page, sent = seen.page, []

        def guard(route, request):
            sent.append(request.headers.get("authorization"))
            if sent[-1] == "Bearer right":
                route.continue_()
            else:
                route.fulfill(status=401, json={"error": "who is it?", "status": 401}, headers={})

        page.route("**/status", guard)
        page.goto(cluster.url)
        seen.see("#subline", "Enter a valid token")
        page.fill("#token", "wrong")
        with page.expect_response("**/status"):
            page.keyboard.press("Enter")
        page.locator("#token-panel").wait_for()
        page.fill("#token", "right")
        page.keyboard.press("Enter")
        seen.see("h1", "Ready, and empty")
        assert page.locator("#token-panel").is_hidden()
        assert set(sent) == {None, "Bearer wrong", "Bearer right"}
        seen.complaints.clear()
        seen.asked.clear()


def test_what_is_old_is_shown_as_old(place, browser):
    """While the server does not answer; and fresh again when it does."""
    cluster = Cluster(place, 1)
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Ready, and empty")
        cluster.api.stop()
        seen.see("#pulse.stale", "cannot connect to the server")
        seen.see("#old", "This status is from")
        assert seen.page.locator("body.stale-data").count() == 1
        cluster.start()
        seen.see("#pulse:not(.stale)", "as of")
        assert seen.page.locator("#old").is_hidden()
        seen.complaints.clear()  # the browser's, of a refused connection


def test_it_does_not_ask_while_it_is_hidden(place, browser):
    """And asks at once when it is shown again."""
    cluster = Cluster(place, 1)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with window(browser, "about:blank") as seen:
        page = seen.page
        page.clock.install()
        page.goto(cluster.url)
        seen.see("#pulse", "as of")
        with page.expect_request("**/status"):
            page.clock.run_for(2500)
        page.evaluate(hide, True)
        page.wait_for_load_state("networkidle")
        asked = len(seen.asked)
        page.clock.run_for(60_000)
        assert len(seen.asked) == asked
        with page.expect_request("**/status"):
            page.evaluate(hide, False)
        seen.asked.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colors_can_be_told_apart(place, browser, scheme):
    """Text on its ground by 4.5 to 1 (WCAG 2.2, 1.4.3), in both schemes."""
    cluster = Cluster(place, 2, "--allow-delete")
    cluster.upload(b"abc")
    with window(browser, cluster.url, color_scheme=scheme) as seen:
        seen.see("h1", "Everything is working")
        upload(seen.page, "shown.txt", b"shown")
        seen.page.get_by_role("button", name="Delete").click()
        seen.page.get_by_role("dialog").wait_for()
        assert seen.page.evaluate(CONTRAST) == []
        seen.page.keyboard.press("Escape")
        cluster.blobs[1].stop()
        seen.see("#servers .state.bad", re.compile("unreachable|left alone"))
        faint = seen.page.evaluate(CONTRAST)
        assert faint == []


CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= .04045 ? c / 12.92 :
    ((c + .055) / 1.055) ** 2.4).reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] === undefined || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push([element.textContent, ratio]);
  }
  return found;
}"""


def test_it_fits_a_phone(place, browser):
    """360 pixels wide, nothing is cut off, and what is to be touched is large enough."""
    cluster = Cluster(place, 3, "--allow-delete")
    cluster.upload(b"abc")
    with window(browser, cluster.url, **PHONE) as seen:
        seen.see("h1", "Everything is working")
        upload(seen.page, "shown.txt", b"shown")
        seen.page.locator("#uploads").get_by_role("button", name="Delete").click()
        box = seen.page.get_by_role("dialog").bounding_box()
        assert (box["x"] >= 0, box["x"] + box["width"] <= 360) == (True, True)
        seen.page.keyboard.press("Escape")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
        for button in seen.page.get_by_role("button").all():
            box = button.bounding_box()
            assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8


def test_what_a_screen_reader_is_told(place, browser):
    """Landmarks and headings with names, a label for each field, a word for each picture."""
    cluster = Cluster(place, 1)
    with window(browser, cluster.url) as seen:
        seen.see("h1", "Ready, and empty")
        page = seen.page
        for role in ("banner", "main", "contentinfo"):
            assert page.get_by_role(role).count() == 1
        for name in ("Servers", "Traffic in the last five minutes", "Copies", "Upload", "Fetch"):
            assert page.get_by_role("region", name=name, exact=True).count() == 1
        assert page.get_by_label("Object id").count() == 1
        assert page.locator("svg:not([aria-hidden], [aria-hidden] *, [aria-label])").count() == 0
        (bar,) = page.locator("#servers .fill").all()
        assert re.fullmatch(
            r"disk \d+ percent full, .* free of .*", bar.get_attribute("aria-label")
        )
        seen.see("#live[aria-live=polite]", "Ready, and empty")


def test_it_tells_of_requests(place, browser):
    """Of uploads and fetches where the server does, of those to the blob servers where not."""
    cluster = Cluster(place, 1)
    cluster.upload(b"abc")
    route = {
        "statuses": {"200": 1},
        "bytes_in": 0,
        "bytes_out": 3,
        "seconds": 0.1,
        "p50_ms": 1.5,
        "p99_ms": 20.0,
    }
    with window(browser, "about:blank") as seen:
        page, times = seen.page, []

        def answer_status(fulfilled):
            document = cluster.status()
            times.append(1)
            document["uptime"] = 2.0 * len(times)
            document["requests"] = {
                "connections": 7,
                "routes": [
                    {"route": "/upload", "method": "POST", "count": 20 * len(times), **route},
                    {"route": "/fetch/<name>", "method": "GET", "count": 10 * len(times), **route},
                ],
            }
            fulfilled.fulfill(json=document)

        def tell_less(fulfilled):
            document = cluster.status()
            del document["requests"]
            fulfilled.fulfill(json=document)

        page.route("**/status", tell_less)
        page.goto(cluster.url)
        seen.see("#charts", "Requests to the servers")
        page.unroute("**/status")
        page.route("**/status", answer_status)
        seen.see("#charts figure", "Uploads10/s")
        seen.see("#charts figure", "Fetches5.0/s")
        seen.see("#charts figure", "1.5 ms · p99 20 ms")
        seen.see("#traffic-note", "7 connections open")
        seen.asked.clear()
