"""Files that are uploaded by the clients that people have: put, and in forms."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from tests.support.blobs import body_of, content_id
from tests.support.browser import browser
from tests.support.http import ask
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

__all__ = ["browser"]  # a fixture

SIZE = 20_000_000
NAME = "f\u00fcr \u65e5\u672c.png"

NODE_FORM = """
import {openAsBlob} from 'node:fs';
const [url, path, name] = process.argv.slice(1);
const form = new FormData();
form.append('field', 'value');
form.append('file', await openAsBlob(path, {type: 'image/png'}), name);
console.log(await (await fetch(url, {method: 'POST', body: form})).text());
"""
#: Sends a form of two files, one of them chosen by nobody.
BROWSER_FORM = """<form action="{url}" method="post" enctype="multipart/form-data">
<input type="text" name="field" value="value">
<input type="file" name="files" multiple><input type="file" name="none">
<button>Send</button></form>"""


@pytest.fixture
def ports(place):
    """The ports for uploads and for fetches of an API server, which lets no page but one store."""
    ports = free_ports(2)
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {ports[0]} --download-port {ports[1]} "
        "--store data --max-size 64M --cors-origins http://app.localhost",
        *ports,
    )
    return ports


@pytest.fixture
def url(ports):
    """The address of the port for uploads."""
    return f"http://127.0.0.1:{ports[0]}"


@pytest.fixture
def path(tmp_path):
    """A file of some size."""
    path = tmp_path / NAME
    path.write_bytes(body_of(SIZE))
    return path


def run(*command):
    """Run a client to its end, and return what it printed, as JSON."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    ended = subprocess.run(command, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def named(ports, stored, name=NAME, type="image/png"):
    """See that what was *stored* is the file, and is fetched with its name and type."""
    assert (stored["id"], stored["size"]) == (content_id(body_of(SIZE)), SIZE)
    fetched = ask(f"http://127.0.0.1:{ports[1]}/fetch/{stored['id']}")
    assert fetched.body == body_of(SIZE)
    assert fetched.headers["X-Orig-Filename"] == (name and name.encode().decode("latin-1"))
    assert fetched.headers["X-Mime-Type"] == type


def read_by(process):
    """Return how many bytes a process has read so far, of files."""
    counters = Path(f"/proc/{process.pid}/io").read_text()
    return int(counters.partition("rchar: ")[2].split()[0])


@pytest.mark.parametrize("end", ["/upload/", "/upload/photo.png", "/upload"])
def test_curl_puts_a_file(ports, url, path, end):
    """To the name in the URL; curl appends that of the file to one that ends with a slash."""
    names = {"/upload/": NAME, "/upload/photo.png": "photo.png", "/upload": None}
    named(ports, run("curl", "-sS", "-T", str(path), url + end), names[end], None)


def test_curl_sends_a_form(ports, url, path):
    """It guesses the type by the name."""
    command = ("curl", "-sS", "-F", "field=value", "-F", f"file=@{path}", f"{url}/form")
    named(ports, run(*command))


def test_curl_sends_several_files(url, path):
    """And is told of each, in order."""
    files = ("-F", f"a=@{path}", "-F", "b=@-;filename=b", "-F", f"c=@{path}")
    stored = run("curl", "-sS", *files, f"{url}/form")
    assert [each["size"] for each in stored] == [SIZE, 0, SIZE]


def test_curl_sends_a_form_to_where_bodies_go(url, path):
    """It is told where to send it."""
    assert "POST /form" in run("curl", "-sS", "-F", f"file=@{path}", f"{url}/upload")["hint"]


def test_curl_is_killed_in_the_middle_of_a_form(ports, url, path):
    """Nothing is acknowledged, or stored."""
    slowly = ["curl", "-sS", "--limit-rate", "1M", "-F", f"file=@{path}", f"{url}/form"]
    with subprocess.Popen(slowly, stdout=subprocess.PIPE) as client:
        assert wait_until(lambda: read_by(client) > SIZE // 10)
        client.kill()
        assert client.communicate()[0] == b""
    missing = f"http://127.0.0.1:{ports[1]}/fetch/{content_id(body_of(SIZE))}"
    assert ask(missing, method="HEAD").status == 404


def test_requests_sends_a_form(ports, url, path):
    """The name is in UTF-8, as its file parameter has it."""
    with path.open("rb") as file:
        sent = {"file": (NAME, file, "image/png")}
        answer = requests.post(f"{url}/form", files=sent, data={"field": "value"}, timeout=120)
    named(ports, answer.json())


def test_node_sends_a_form(ports, url, path):
    """By its own fetch and FormData, as axios and others do."""
    script = ("node", "--input-type=module", "-e", NODE_FORM)
    named(ports, run(*script, f"{url}/form", str(path), NAME))


@pytest.mark.parametrize("host", ["app.localhost", "evil.localhost"])
def test_a_browser_sends_a_form(browser, ports, url, host):
    """If the page is of an origin that may; the field that nobody filled is no file."""
    page = browser.new_page()
    form = BROWSER_FORM.format(url=f"{url}/form")
    page.route(
        "http://*.localhost/", lambda route: route.fulfill(body=form, content_type="text/html")
    )
    page.goto(f"http://{host}/")
    files = [
        {"name": NAME, "mimeType": "image/png", "buffer": b"1"},
        {"name": "b.txt", "mimeType": "text/plain", "buffer": b"2"},
    ]
    page.set_input_files("input[multiple]", files)
    with page.expect_navigation():
        page.click("button")
    answer = json.loads(page.inner_text("body"))
    page.close()
    if host == "app.localhost":
        assert [each["id"] for each in answer] == [content_id(b"1"), content_id(b"2")]
        fetched = ask(f"http://127.0.0.1:{ports[1]}/fetch/{content_id(b'2')}")
        assert fetched.headers["Content-Type"] == "text/plain"
    else:
        assert answer["status"] == 403
        assert ask(f"http://127.0.0.1:{ports[1]}/fetch/{content_id(b'2')}").status == 404
