"""What real clients say of what they upload, and what they get back."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess

import pytest
import requests

from tests.support.blobs import content_id
from tests.support.browser import browser, window
from tests.support.http import ask
from tests.support.ports import free_ports

__all__ = ["browser"]  # a fixture

NAME = "r\u00e9sum\u00e9 \u00fc.txt"
TOLD = "filename*=UTF-8''r%C3%A9sum%C3%A9%20%C3%BC.txt"

_NODE = """
fetch(process.argv[1], {method: "POST", body: "by node",
                        headers: {"X-Orig-Filename": "r\\u00e9sum\\u00e9 \\u00fc.txt"}})
    .then((answer) => answer.text()).then(console.log);
"""
_NODE_EXTENDED = _NODE.replace('"X-Orig-Filename":', '"X-Orig-Filename*": "UTF-8\'\'" +').replace(
    '"r\\u00e9sum\\u00e9 \\u00fc.txt"', 'encodeURIComponent("r\\u00e9sum\\u00e9 \\u00fc.txt")'
)
_JAVA = """
import java.net.*;
class Upload {
    public static void main(String[] arguments) throws Exception {
        var client = (HttpURLConnection) new URL(arguments[0]).openConnection();
        client.setDoOutput(true);
        client.setRequestProperty("X-Orig-Filename", "r\\u00e9sum\\u00e9 \\u00fc.txt");
        client.getOutputStream().write("by Java".getBytes());
        System.out.print(new String(client.getInputStream().readAllBytes()));
    }
}
"""


def program(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def by_requests(url, place):
    return requests.post(url, "by requests", headers={"X-Orig-Filename": NAME.encode("latin-1")})


def by_node(url, place):
    return subprocess.check_output([program("node"), "-e", _NODE, url], timeout=60)


def by_node_extended(url, place):
    return subprocess.check_output([program("node"), "-e", _NODE_EXTENDED, url], timeout=60)


def by_curl(url, place):
    header = f"X-Orig-Filename: {NAME}"
    return subprocess.check_output([program("curl"), "-s", "-H", header, "-d", "by curl", url])


def by_java(url, place):
    (place.directory / "Upload.java").write_text(_JAVA)
    # Java writes headers in the encoding of its locale.
    source = str(place.directory / "Upload.java")
    command = [program("java"), "-Dfile.encoding=ISO-8859-1", source, url]
    done = subprocess.run(command, capture_output=True, timeout=120)
    if b"no compiler module" in done.stderr or b"ClassNotFound" in done.stderr:
        pytest.skip("java cannot compile: apt-get install openjdk-17-jdk-headless")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(place):
    """The URLs of an API server, which cuts objects over 64 KiB into chunks."""
    blobs, up, down = free_ports(3)
    place.twistd(f"sos-blob --port {blobs} --store data", blobs)
    place.twistd(
        f"sos-api --blob-server http://127.0.0.1:{blobs} --chunk-size 64K --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down}",
        up,
        down,
    )
    return f"http://127.0.0.1:{up}/upload", f"http://127.0.0.1:{down}/fetch/"


@pytest.mark.parametrize("client", [by_requests, by_node, by_node_extended, by_curl, by_java])
def test_a_file_name_that_is_not_ascii(server, place, client):
    """In Latin-1, in UTF-8, or percent-encoded, as each client sends it."""
    upload, fetch = server
    answer = client(upload, place)
    answer = answer.json() if isinstance(answer, requests.Response) else json.loads(answer)
    assert "ignored" not in answer
    headers = requests.get(fetch + answer["id"]).headers
    assert TOLD in headers["Content-Disposition"]
    kept = requests.head(fetch + answer["id"], headers={"Accept-Encoding": "identity"}).headers
    assert kept["Content-Disposition"] == headers["Content-Disposition"]


@pytest.mark.parametrize("name", [b"r\xe9sum\xe9.txt", b'a "b"; c.txt', b"plain.txt"])
def test_the_page_shows_the_name_that_a_browser_would_save(place, browser, name):
    """In whatever encoding it was sent."""
    up, down, admin = free_ports(3)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--admin-port {admin}",
        *(up, down, admin),
    )
    headers = {"X-Orig-Filename": name, "Content-Type": "text/plain"}
    id = requests.post(f"http://127.0.0.1:{up}/upload", b"text", headers=headers).json()["id"]
    with window(browser, f"http://127.0.0.1:{admin}/") as opened:
        opened.page.fill("#id", id)
        opened.page.press("#id", "Enter")
        opened.see("#found", name.decode("latin-1"))


@pytest.mark.parametrize("lines", [100, 100_000])
def test_a_gzip_body_in_a_browser_and_in_other_clients(server, place, browser, lines):
    """Who knows the coding sees the text, and who checks the id the bytes that were uploaded."""
    upload, fetch = server
    text = "".join(f"line {number}\n" for number in range(lines))
    body = gzip.compress(text.encode(), mtime=0)
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    id = requests.post(upload, body, headers=headers).json()["id"]
    assert id == content_id(body)
    with window(browser, fetch + id) as opened:
        assert opened.page.inner_text("pre") == text
    assert requests.get(fetch + id).text == text
    curl = [program("curl"), "-s", fetch + id]
    assert subprocess.check_output(curl) == body
    assert subprocess.check_output([*curl, "--compressed"]) == text.encode()
    got = place.sos(f"get {id} --from {fetch.removesuffix('/fetch/')} -o -")
    assert (got.returncode, got.stdout) == (0, body), got.stderr
    part = ask(fetch + id, None, {"Range": "bytes=2-9"})
    assert (part.status, part.body, part.headers["Content-Encoding"]) == (206, body[2:10], "gzip")


def test_a_list_of_what_is_kept(place):
    """From sos.conf; the answer says what was left out."""
    up, down = free_ports(2)
    (place.home / ".sos.conf").write_text(
        "[sos]\nkept-headers = X-Meta-*, X-Orig-Filename, X-Mime-Type\n"
    )
    command = "sos-api --store data --api-host 127.0.0.1"
    place.twistd(f"{command} --upload-port {up} --download-port {down}", up, down)
    headers = {"X-Meta-Token": "1", "X-Name": "2", "X-Orig-Filename": "a", "X-XSRF-TOKEN": "3"}
    answer = requests.post(f"http://127.0.0.1:{up}/upload", b"x", headers=headers).json()
    assert answer["ignored"] == ["X-Name", "X-Xsrf-Token"]
    kept = requests.get(f"http://127.0.0.1:{down}/fetch/{answer['id']}").headers
    assert (kept["X-Meta-Token"], kept["X-Orig-Filename"]) == ("1", "a")
    assert not {"X-Name", "X-XSRF-TOKEN"} & {*kept}


def test_a_coding_that_no_client_takes_off_is_refused(server):
    """curl says so of what was compressed by compress(1)."""
    upload, fetch = server
    command = [program("curl"), "-s", "-w", "%{http_code}", "-H", "Content-Encoding: compress"]
    answer = subprocess.check_output([*command, "-d", "never stored", upload])
    assert answer.endswith(b"415")
    assert b"gzip, deflate, br, zstd" in answer
    assert ask(fetch + content_id(b"never stored")).status == 404


@pytest.mark.parametrize(
    ("client", "type"),
    [("curl", "application/octet-stream"), ("requests", "image/png"), ("node", "text/css")],
)
def test_the_type_that_clients_send_is_kept(server, client, type):
    """But for the form that curl says it sends."""
    upload, fetch = server
    if client == "curl":
        answer = subprocess.check_output([program("curl"), "-s", "--data-binary", "x", upload])
    elif client == "requests":
        answer = requests.post(upload, b"png", headers={"Content-Type": type}).content
    else:
        script = (
            "const body = new Blob(['a {}'], {type: 'text/css'});"
            "fetch(process.argv[1], {method: 'POST', body})"
            ".then((answer) => answer.text()).then(console.log)"
        )
        answer = subprocess.check_output([program("node"), "-e", script, upload], timeout=60)
    assert requests.get(fetch + json.loads(answer)["id"]).headers["Content-Type"] == type
