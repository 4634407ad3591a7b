"""``sos put`` with real daemons: what is there is not sent, and whole directories."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import SOS
from tests.support.waiting import wait_until


class Api:
    """An API server with a log of its requests."""

    def __init__(self, place, options="--store data"):
        self.place = place
        self.up, self.down = free_ports(2)
        place.environment["SOS_UPLOAD"] = f"http://127.0.0.1:{self.up}"
        place.environment["SOS_DOWNLOAD"] = f"http://127.0.0.1:{self.down}"
        self.daemon = place.twistd(
            f"sos-api {options} --api-host 127.0.0.1 --access-log requests "
            f"--upload-port {self.up} --download-port {self.down}",
            self.up,
            self.down,
        )

    def stop(self):
        """Stop it, which writes the log."""
        self.daemon.stop()

    def count(self, request):
        """How many requests began so, of a server that has ended."""
        self.stop()
        return (self.place.directory / "requests").read_text().count(f'"{request}')

    @property
    def uploads(self):
        return self.count("POST /upload ")

    def fetch(self, id):
        return fetch(f"http://127.0.0.1:{self.down}/fetch/{id}")


@pytest.fixture
def api(place):
    return Api(place)


def test_a_header_that_the_server_does_not_keep_is_told(place):
    """The file is stored without it; what is foreign anywhere is not even sent."""
    api = Api(place, "--store data --kept-headers X-Mime-Type")
    done = place.sos("put - -H 'X-Mime-Type: text/plain' -H 'X-Name: n'", b"abc")
    assert (done.returncode, done.stdout) == (0, f"{content_id(b'abc')}  -\n".encode())
    assert done.stderr == (
        f"Warning: http://127.0.0.1:{api.up} did not store the headers X-Name\n".encode()
    )
    refused = place.sos("put - -H 'X-Csrftoken: t'", b"abc")
    assert refused.returncode == 2
    assert b"servers do not store X-Csrftoken: it is for proxies, browsers" in refused.stderr


TREE = {
    "top": b"abc",
    "empty": b"",
    "large": body_of(3_000_000),
    "a/b/c/deep": b"deep",
    "a/twin": b"abc",
    "a/b.txt": b"between",
    "sp ace/[red]": b"bracketed",
    "sp ace/caf\u00e9": b"accented",
    "sp ace/-": b"hyphen",
}


@pytest.fixture
def tree(place):
    """A directory with all sorts of files."""
    top = place.directory / "tree"
    for path, body in TREE.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(body)
    (top / "nothing").mkdir()
    return top


def expected():
    paths = sorted(f"tree/{path}".encode() for path in TREE)
    return [content_id(TREE[path.decode()[5:]]).encode() + b"  " + path for path in paths]


def test_a_file_that_is_there_is_not_sent_again(place, api):
    """The same line is printed, once it has been renewed."""
    (place.directory / "file").write_bytes(b"abc")
    first = place.sos("put file")
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout == f"{content_id(b'abc')}  file\n".encode()
    assert place.sos("put file file").stdout == first.stdout * 2
    assert api.uploads == 1
    # The first for either hash, and whether the server knows the request.
    assert api.count("POST /upload/") == 5
    assert api.count("HEAD ") == 0


def test_standard_input_is_not_asked_for(place, api):
    """It is sent as it comes, from where it is at."""
    for _ in range(2):
        assert place.sos("put -", input=b"abc").stdout == f"{content_id(b'abc')}  -\n".encode()
    (place.directory / "file").write_bytes(b"a line\nabc")
    with open(place.directory / "file", "rb", buffering=0) as file:
        file.seek(7)
        done = place.run(SOS, "put -", stdin=file)
    assert done.stdout == f"{content_id(b'abc')}  -\n".encode(), done.stderr
    assert api.count("POST ") == api.uploads == 3
    assert api.count("HEAD ") == 0


@pytest.mark.parametrize(
    ("options", "environment", "asked"),
    [
        ("", {"SOS_UPLOAD": "up", "SOS_DOWNLOAD": "down"}, True),
        ("--to up --from down", {}, True),
        ("--from down", {"SOS_UPLOAD": "up"}, True),
        ("--to up", {}, False),
        ("--to up", {"SOS_DOWNLOAD": "down"}, False),
        ("", {"SOS_UPLOAD": "up"}, False),
    ],
)
def test_only_who_belongs_to_the_upload_server_is_asked(place, api, options, environment, asked):
    """What others have need not be there."""
    urls = {"up": f"http://127.0.0.1:{api.up}", "down": f"http://127.0.0.1:{api.down}"}
    for name in ("SOS_UPLOAD", "SOS_DOWNLOAD"):
        place.environment.pop(name)
    place.environment.update({name: urls[which] for name, which in environment.items()})
    for which, url in urls.items():
        options = re.sub(rf"\b{which}\b", url, options)
    (place.directory / "file").write_bytes(b"abc")
    for _ in range(2):
        done = place.sos(f"put file {options}")
        assert done.stdout == f"{content_id(b'abc')}  file\n".encode(), done.stderr
    assert api.uploads == (1 if asked else 2)


def test_a_directory(place, api, tree):
    """Each file below it, by its path; the second time nothing is sent."""
    for _ in range(2):
        done = place.sos("put -r tree")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.splitlines() == expected()
    for path, body in TREE.items():
        assert api.fetch(content_id(body)) == body, path
    assert api.uploads <= len(TREE) + 1  # twins that meet are both sent
    assert api.count("POST /upload/- ") == 1  # by all that find a first 404 at the same time


@pytest.mark.parametrize("parallel", [1, 16])
def test_a_directory_beside_a_file(place, api, tree, parallel):
    """Each path is there once, whatever way leads to it; metadata goes with all."""
    (place.directory / "file").write_bytes(b"beside")
    command = f"put --recursive file tree tree/top /dev/null --parallel {parallel} -H 'X-A: b'"
    done = place.sos(command)
    assert (done.returncode, done.stderr) == (0, b"")
    first = f"{content_id(b'')}  /dev/null\n{content_id(b'beside')}  file".encode()
    assert done.stdout.splitlines() == [*first.splitlines(), *expected()]
    assert b"X-A: b" in place.sos(f"stat {content_id(b'deep')}").stdout


def test_an_empty_directory(place, api):
    """There is nothing to do, and that is done."""
    (place.directory / "none").mkdir()
    done = place.sos("put -r none")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_odd_names_are_a_line_each(place, api, tree):
    """In the format of sha1sum, which finds each file by it."""
    for name in (b"new\nline", b"back\\slash", b"\xff\xfe", b"\x1b[31m"):
        (tree / os.fsdecode(name)).write_bytes(name)
    done = place.sos("put -r tree")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == len(TREE) + 4
    checked = place.run(["sha1sum"], "--check --strict", input=done.stdout)
    assert checked.returncode == 0, checked.stderr


def test_on_a_terminal_odd_names_are_escaped(place, api):
    """What a file is called cannot steer the terminal; the bar shows it as well."""
    name = os.fsdecode(b"red]\x1b[31m\n\xff")
    (place.directory / "[").mkdir()
    (place.directory / "[" / name).write_bytes(b"abc")
    shown = f"{content_id(b'abc')}  [/red]\\x1b[31m\\n\\xff"
    for command in ("put -r [", f"put '[/{name}'"):
        ours, theirs = pty.openpty()
        process = place.start_sos(command, stdout=theirs, stderr=theirs)
        os.close(theirs)
        output = b""
        while piece := _read(ours):
            output += piece
        os.close(ours)
        assert process.wait(60) == 0, output
        assert shown in output.decode()
        assert b"\x1b[31m\n" not in output


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # how a terminal ends
        return b""


def test_what_cannot_be_read_is_told(place, api, tree):
    """A line for each on standard error; the others are stored; exit status 1."""
    (place.directory / "outside").mkdir()
    (place.directory / "outside/file").write_bytes(b"not below")
    for name, target in (
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("directory", "../outside"),
        ("file", "../outside/file"),
        ("memory", "/proc/self/mem"),
    ):
        (tree / name).symlink_to(target)
    os.mkfifo(tree / "pipe")
    done = place.sos("put -r tree missing")
    assert done.returncode == 1
    assert done.stdout.splitlines() == expected()
    errors = sorted(done.stderr.decode().splitlines())
    assert errors == [
        "Error: missing: No such file or directory",
        *(
            f"Error: tree/{name}: it is a symbolic link, not a regular file"
            for name in ("dangling", "directory", "file", "loop", "memory")
        ),
        "Error: tree/pipe: it is a pipe, not a regular file",
    ]
    # What is not even looked at counts as well.
    assert place.sos("put -r tree/a missing").returncode == 1


def test_what_may_not_be_read_is_told(place, api, tree):
    """Files and directories alike."""
    (tree / "top").chmod(0)
    (tree / "a/b/c").chmod(0)
    # Root can read everything, unless that is taken from it.
    capabilities = "--bounding-set=-dac_override,-dac_read_search"
    prefix = ["setpriv", capabilities] if os.geteuid() == 0 else []
    done = place.run([*prefix, *SOS], "put -r tree")
    (tree / "a/b/c").chmod(0o700)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == len(expected()) - 2
    errors = sorted(done.stderr.decode().splitlines())
    assert errors == [
        "Error: tree/a/b/c: Permission denied",
        "Error: tree/top: Permission denied",
    ]


def test_without_r_a_directory_is_an_error(place, api, tree):
    """The files beside it are stored."""
    done = place.sos("put tree tree/top")
    assert done.returncode == 1
    assert done.stderr == b"Error: tree: it is a directory, not a regular file\n"
    assert done.stdout == f"{content_id(b'abc')}  tree/top\n".encode()


def test_a_file_that_is_named_can_be_a_link(place, api):
    """To a file: of a pipe nobody knows when somebody writes to it."""
    (place.directory / "file").write_bytes(b"abc")
    (place.directory / "link").symlink_to("file")
    os.mkfifo(place.directory / "pipe")
    (place.directory / "other").symlink_to("pipe")
    for command in ("put link pipe other", "put -r link pipe other"):
        done = place.sos(command)
        assert done.returncode == 1
        assert done.stdout == f"{content_id(b'abc')}  link\n".encode()
        assert done.stderr.decode().splitlines() == [
            "Error: pipe: it is a pipe, not a regular file",
            "Error: other: it is a pipe, not a regular file",
        ]


@pytest.fixture
def deep():
    """A directory that is deeper than Python calls itself; pytest could not remove it."""
    directory = tempfile.mkdtemp()
    before = os.open(".", os.O_RDONLY)
    os.chdir(directory)
    for _ in range(2100):
        os.mkdir("d")
        os.chdir("d")
    os.fchdir(before)
    os.close(before)
    yield directory
    subprocess.run(["rm", "-r", directory], check=True)


def test_a_directory_that_is_deeper_than_python_calls_itself(place, api, tree, deep):
    """The file at its end is too far away to be named, and the others are stored."""
    done = place.sos(f"put -r tree {deep}")
    assert done.returncode == 1
    assert done.stdout.splitlines() == expected()
    assert done.stderr.endswith(b": File name too long\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["put -r tree -", "put -r tree --parallel 0", "put -r"])
def test_a_wrong_argument(place, tree, command):
    """Exit status 2."""
    done = place.sos(command)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Error: " in done.stderr


def test_a_deletion_that_a_server_has_not_heard_of_undoes_no_upload(place):
    """One of two was away when the object was deleted, and the other when it was uploaded again.

    The tombstone, which is older than the renewal, loses.
    """
    ports = free_ports(2)
    urls = [f"http://127.0.0.1:{port}" for port in ports]

    def start(index):
        return place.twistd(f"sos-blob --port {ports[index]} --store blob{index}", ports[index])

    blobs = [start(0), start(1)]
    options = f"--blob-server {','.join(urls)} --replicate-every 0 --allow-delete"
    api = Api(place, options)
    (place.directory / "file").write_bytes(b"abc")
    id = content_id(b"abc")
    place.sos("put file")
    for url in urls:
        assert wait_until(lambda url=url: ask(f"{url}/blob/{id}").status == 200)
    blobs[1].stop()
    assert place.sos(f"rm {id}").returncode == 0
    blobs[1] = start(1)
    blobs[0].stop()
    done = place.sos("put file")
    assert done.stdout == f"{id}  file\n".encode(), done.stderr
    start(0)
    place.sos(f"replicate --blob-server {','.join(urls)} --min-copies 2")
    assert api.fetch(id) == b"abc"
    for url in urls:
        assert fetch(f"{url}/blob/{id}") == b"abc"


class TestServersThatAreDown:
    """What is needed of a server is not there."""

    def test_no_api_server(self, place, tree):
        """A line for each file, and exit status 1."""
        up, down = free_ports(2)
        done = place.sos(f"put -r tree --to http://127.0.0.1:{up} --from http://127.0.0.1:{down}")
        assert (done.returncode, done.stdout) == (1, b"")
        errors = done.stderr.decode().splitlines()
        assert len(errors) == len(expected())
        assert all("cannot be reached: connection refused" in line for line in errors)

    def test_no_download_server(self, place, api, tree):
        """What cannot be asked is sent."""
        (down,) = free_ports(1)
        done = place.sos(f"put -r tree --from http://127.0.0.1:{down}")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.splitlines() == expected()

    def test_no_upload_server(self, place, api, tree):
        """What is there cannot be renewed, so it counts as not stored."""
        place.sos("put -r tree")
        (up,) = free_ports(1)
        done = place.sos(
            f"put -r tree --to http://127.0.0.1:{up} --from http://127.0.0.1:{api.down}"
        )
        assert (done.returncode, done.stdout) == (1, b"")
        assert len(done.stderr.splitlines()) == len(expected())

    def test_one_of_two_blob_servers(self, place, tree):
        """All is stored on the other; what it has is not sent again."""
        ports = free_ports(2)
        blobs = [place.twistd(f"sos-blob --port {port} --store blob{port}", port) for port in ports]
        urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        api = Api(place, f"--blob-server {urls} --replicate-every 0")
        blobs[0].stop(signal.SIGKILL)
        for _ in range(2):
            done = place.sos("put -r tree --parallel 1")
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.splitlines() == expected()
        held = ask(f"http://127.0.0.1:{ports[1]}/blobs").json
        assert sorted(held) == sorted({line[:40].decode() for line in expected()})
        # What a dead server may have is not known, and after a few such answers
        # the first run asks no more: it sends what is there twice as well.
        assert api.uploads == len(expected())


def test_a_digest_that_is_wrong_is_the_clients_error(place, api):
    """Whatever sends it: curl, say."""
    wrong = {"Repr-Digest": f"sha-256=:{'A' * 43}=:"}
    answer = ask(f"http://127.0.0.1:{api.up}/upload", body_of(3_000_000), wrong)
    assert answer.status == 400
    api.stop()
    assert not any(Path(place.directory / "data/incoming").iterdir())
    assert not [path for path in Path(place.directory / "data/bodies").rglob("*") if path.is_file()]
