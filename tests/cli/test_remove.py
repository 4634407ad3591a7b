"""``sos rm`` with real daemons: what is deleted, what is asked first, and what is told."""

from __future__ import annotations

import json
import os
import pty
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from sos.auth.tokens import format_tokens, make_token
from tests.support.blobs import content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports

BODIES = [b"first", b"second", b"third"]
IDS = [content_id(body) for body in BODIES]
MISSING = content_id(b"never there")
LINES = "".join(f"{id}\n" for id in IDS).encode()


class Api:
    """An API server with objects on it."""

    def __init__(self, place, options="--allow-delete", token=None):
        self.place = place
        self.up, self.down = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        place.environment["SOS_UPLOAD"] = self.up
        ports = [int(url.rpartition(":")[2]) for url in (self.up, self.down)]
        place.twistd(
            f"sos-api --store data --api-host 127.0.0.1 --upload-port {ports[0]} "
            f"--download-port {ports[1]} {options}",
            *ports,
        )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        for body in BODIES:
            fetch(f"{self.up}/upload", body, headers)

    @property
    def left(self):
        """The objects that are there."""
        return [id for id in IDS if ask(f"{self.down}/fetch/{id}").status == 200]


@pytest.fixture
def api(place):
    return Api(place)


def test_one_object(place, api):
    """Nothing is asked, and its id is printed; the id can have an extension."""
    done = place.sos(f"rm {IDS[0]}.jpg")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{IDS[0]}\n".encode(), b"")
    assert api.left == IDS[1:]


def test_several_objects(place, api):
    """Each once, several at a time."""
    done = place.sos(f"rm --yes {' '.join(IDS)} {IDS[0]} --parallel 3")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.decode().split()) == sorted(IDS)
    assert api.left == []


def test_what_put_has_printed(place, api):
    """It deletes what it stored, whatever the files are called."""
    tree = place.directory / "tree"
    tree.mkdir()
    for name, body in zip(["plain", "two\nlines", os.fsdecode(b"\xff")], BODIES, strict=True):
        (tree / name).write_bytes(body)
    place.environment["SOS_DOWNLOAD"] = api.down
    listed = place.sos("put -r tree").stdout
    (place.directory / "list").write_bytes(b"\n  \n" + listed.replace(b"\n", b"\r\n"))
    done = place.sos("rm -y --from-file list")
    assert (done.returncode, done.stderr) == (0, b"")
    assert api.left == []


def test_a_list_on_standard_input(place, api):
    """Beside ids that are named."""
    done = place.sos(f"rm --yes --from-file - {IDS[0]}", "\n".join(IDS[1:]).encode())
    assert (done.returncode, api.left) == (0, [])


def test_an_empty_list(place, api):
    """There is nothing to do, and that is done."""
    done = place.sos("rm --from-file -", b"\n\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("rm", "--from-file"),
        ("rm ABC", "'ABC'"),
        ("rm --from-file -", "standard input, line 5: 'not/an/id'"),
        ("rm --yes --from-file list", "list, line 5: 'not/an/id'"),
    ],
)
def test_wrong_words(place, api, command, named):
    """One of them is enough that nothing is deleted; the status is 2."""
    lines = LINES + b"\nnot/an/id  name\n"
    (place.directory / "list").write_bytes(lines)
    done = place.sos(command, lines)
    assert (done.returncode, done.stdout) == (2, b"")
    assert named in done.stderr.decode()
    assert api.left == IDS


def test_a_list_that_is_not_there(place, api):
    """It is named."""
    done = place.sos(f"rm {IDS[0]} --from-file none")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"Error: none: No such file or directory\n"
    assert api.left == IDS


def test_a_dry_run(place):
    """What would be deleted, each once; there need not even be a server."""
    done = place.sos("rm --dry-run --from-file - --to http://127.0.0.1:1", LINES + LINES)
    assert (done.returncode, done.stdout, done.stderr) == (0, LINES, b"")
    done = place.sos(f"rm --dry-run --json {IDS[0]}")
    assert json.loads(done.stdout) == {"id": IDS[0], "status": "planned"}


def test_without_a_terminal_several_need_yes(place, api):
    """A script that lists too much by mistake deletes nothing."""
    done = place.sos(f"rm {IDS[0]} {IDS[1]}")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"2 objects would be deleted" in done.stderr
    assert b"--yes" in done.stderr
    assert api.left == IDS


@pytest.mark.parametrize(
    ("answer", "options", "status", "left"),
    [
        (b"y\n", "", 0, []),
        (b"\n", "", 1, IDS),
        (b"n\n", "", 1, IDS),
        (b"\x04", "", 1, IDS),
        (b"", "--yes", 0, []),
    ],
)
def test_on_a_terminal_it_asks(place, api, answer, options, status, left):
    """How many it would delete, once; No is the default."""
    ours, theirs = pty.openpty()
    (place.directory / "list").write_bytes(LINES)
    command = f"rm --from-file list {options}"
    process = place.start_sos(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    while piece := _read(ours):
        output += piece
        if answer and b"[y/N]" in output:
            os.write(ours, answer)
            answer = b""
    os.close(ours)
    assert process.wait(60) == status, output
    assert (f"Delete 3 objects on {api.up}?".encode() in output) == (not options)
    assert api.left == left


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # how a terminal ends
        return b""


def test_what_is_not_there(place, api):
    """Is a failure, which does not stop the others; with --force it is none."""
    place.sos(f"rm {IDS[0]}")
    done = place.sos(f"rm --yes {MISSING} {IDS[0]} {IDS[1]} --parallel 1")
    assert (done.returncode, done.stdout.decode()) == (1, f"{IDS[1]}\n")
    assert done.stderr.decode().splitlines() == [
        f"Error: {MISSING}: there is no such object",
        f"Error: {IDS[0]}: it was deleted before",
    ]
    done = place.sos(f"rm --yes --force {MISSING} {IDS[0]} {IDS[2]}")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{IDS[2]}\n", b"")


def test_json(place, api):
    """A line for each object, whatever becomes of it."""
    done = place.sos(f"rm --json --yes {MISSING} {IDS[0]}")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(lines, key=lambda line: line["status"]) == [
        {"id": IDS[0], "status": "deleted", "servers": 1},
        {"id": MISSING, "status": "missing"},
    ]
    done = place.sos(f"rm --json --to http://127.0.0.1:1 {IDS[0]}")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["id"], line["status"]) == (IDS[0], "failed")
    assert "connection refused" in line["error"]


def test_a_server_that_deletes_nothing(place):
    """One line, not one for each object."""
    api = Api(place, "")
    for options in ("", "--force"):
        done = place.sos(f"rm --yes {options} --from-file -", LINES)
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith(f"Error: {api.up} answered 403: ")
        assert "--allow-delete" in line
    assert api.left == IDS


def test_a_token(place):
    """It needs the scope delete; one line says so."""
    tokens = {name: make_token(name, [name], 1, None) for name in ("upload", "delete")}
    file = place.directory / "tokens"
    file.write_text(format_tokens(entry for _, entry in tokens.values()))
    file.chmod(0o600)
    secrets = {name: secret for name, (secret, _) in tokens.items()}
    api = Api(place, "--allow-delete --token-file tokens", secrets["upload"])
    for options, reason in (
        ("", "answered 401: the request has no token"),
        (f"--token {secrets['upload']}", "the token upload lacks the scope delete"),
    ):
        done = place.sos(f"rm --yes --from-file - {options}", LINES)
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = done.stderr.decode().splitlines()
        assert reason in line
    assert api.left == IDS
    place.environment["SOS_TOKEN"] = secrets["delete"]
    assert place.sos("rm --yes --from-file -", LINES).returncode == 0
    assert api.left == []


def test_objects_that_are_too_young(place):
    """Each is refused by itself: others can be old enough."""
    api = Api(place, "--allow-delete --min-retention 1d")
    done = place.sos("rm --yes --from-file -", LINES)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(IDS)
    assert all("must not be deleted before" in line for line in lines)
    assert api.left == IDS


def test_a_server_that_is_not_there(place):
    """A line for each object."""
    done = place.sos("rm --yes --from-file - --to http://127.0.0.1:1", LINES)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(IDS)
    assert all("http://127.0.0.1:1 cannot be reached" in line for line in lines)


class Earlier(BaseHTTPRequestHandler):
    """A server that cannot delete."""

    status = 404

    def do_DELETE(self):
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_that_cannot_delete(place, status):
    """Not even --force takes its 404 for an object that is not there."""
    handler = type("Handler", (Earlier,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = place.sos(f"rm --force --yes --from-file - --to {url}", LINES)
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"Error: {url} does not delete objects")


@pytest.mark.parametrize(("status", "is_followed"), [(307, True), (302, False)])
def test_a_redirect(place, api, status, is_followed):
    """Is followed only if the method stays."""

    class Front(Earlier):
        def do_DELETE(self):
            self.send_response(status)
            self.send_header("Location", api.up + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        done = place.sos(f"rm {IDS[0]} --to http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert done.returncode == (0 if is_followed else 1)
    assert api.left == (IDS[1:] if is_followed else IDS)
    if not is_followed:
        assert b"deletions follow only redirects with status 307 or 308" in done.stderr
