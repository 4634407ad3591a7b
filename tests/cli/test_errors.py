"""What goes wrong with a command: one line that says what, and the exit status."""

from __future__ import annotations

import signal
import socket
import subprocess

import click
import pytest

from sos.cli import main
from tests.support.blobs import body_of, content_id
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.processes import SOS, Place

NOWHERE = "http://127.0.0.1:1"


def line_of(done: subprocess.CompletedProcess, status: int) -> str:
    """Return the one line that the command ended with."""
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Error: ")
    assert "Errno" not in line
    return line


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """An API server, and where processes are started beside it."""
    place = Place(tmp_path_factory.mktemp("errors"))
    up, down, admin = free_ports(3)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--admin-port {admin}",
        up,
        down,
        admin,
    )
    place.environment.update(
        SOS_UPLOAD=f"http://127.0.0.1:{up}", SOS_DOWNLOAD=f"http://127.0.0.1:{down}"
    )
    place.admin = f"http://127.0.0.1:{admin}"
    (place.directory / "file").write_bytes(body_of(100_000))
    (place.directory / "files").mkdir()
    (place.directory / "files" / "file").write_bytes(b"x")
    fetch(f"http://127.0.0.1:{up}/upload", body_of(100_000))
    yield place
    place.stop()


ID = content_id(body_of(100_000))


def wrong_values() -> list:
    """A value that no option of its kind can have, for every option that is not a text."""
    found = []
    for name, command in sorted(main.commands.items()):
        for parameter in command.params:
            if not isinstance(parameter, click.Option) or parameter.is_flag:
                continue
            checked = parameter.callback is not None or not isinstance(
                parameter.type, (click.types.StringParamType, click.Path, click.types.FuncParamType)
            )
            if checked:
                flag = max(parameter.opts, key=len)
                found.append(pytest.param(name, flag, id=f"{name} {flag}"))
    return found


@pytest.mark.parametrize(("name", "flag"), wrong_values())
def test_a_wrong_value_is_told_with_its_option(place, name, flag):
    """In the words of the option, and nothing is done."""
    line = line_of(place.sos(f"{name} {flag} ?"), 2)
    assert flag in line
    assert f"; see sos {name} --help" in line


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("nosuch", "'nosuch'"),
        ("--colour", "--colour"),
        ("get", "'ID'"),
        ("get ABC", "'ABC'"),
        ("put", "'FILE...'"),
        ("stat --from http://[::1 abc", "'http://[::1'"),
        ("stat --from 'http://a b:1' abc", "'http://a b:1'"),
        ("stat --from http://a:99999 abc", "'http://a:99999'"),
        ("replicate --config none.conf", "none.conf"),
        ("status --blob-server localhost:4001", "localhost:4001"),
        ("drain ftp://a", "'ftp://a'"),
    ],
)
def test_wrong_words(place, command, named):
    """They are named; the status is 2."""
    assert named in line_of(place.sos(command), 2)


@pytest.mark.parametrize("word", ["weight=abc", "weight=0", "weight=nan", "wait=3"])
def test_a_wrong_word_in_the_configuration(place, word):
    """With the file and the line, and none of Python's words."""
    (place.home / ".sos.conf").write_text(f"# a comment\nhttp://a:1 {word}\n")
    line = line_of(place.sos("status"), 2)
    assert f"{place.home}/.sos.conf, line 2: " in line
    assert word in line
    assert "float" not in line


@pytest.mark.parametrize(
    "command",
    [
        f"get {ID}",
        f"stat {ID}",
        f"stat --json {ID}",
        "put file",
        "put -r files",
        "status --url {admin}",
        "status --json --url {admin}",
        "completion bash",
        "--help",
        "--version",
    ],
)
def test_an_output_that_is_full(api, command):
    """As /dev/full always is."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*SOS, *command.format(admin=api.admin).split()],
            cwd=api.directory,
            env=api.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert line_of(done, 1) == "Error: standard output: No space left on device"


def test_who_reads_the_output_has_had_enough(api):
    """Nothing is said, and the status is 1."""
    for command in (f"get {ID}", "--help"):
        process = api.start_sos(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 1


def test_a_file_that_cannot_be_written(api):
    """It is named."""
    (api.directory / "only").mkdir(exist_ok=True)
    for name, reason in (
        ("none/out", "No such file or directory"),
        ("only", "is a directory; name a file"),
        ("file/out", "Not a directory"),
    ):
        assert line_of(api.sos(f"get {ID} -o {name}"), 1) == f"Error: {name}: {reason}"


def test_a_server_that_does_not_speak_what_it_is_spoken_to(api):
    """TLS to a port without it."""
    url = api.environment["SOS_DOWNLOAD"].replace("http:", "https:")
    line = line_of(api.sos(f"stat --from {url} {ID}"), 1)
    assert (
        f"{url} cannot be reached: the server does not use TLS here; should the URL start with "
        "http:?" in line
    )


@pytest.mark.parametrize(
    "command",
    [f"stat --from {NOWHERE} {ID}", f"put --to {NOWHERE} file", f"status --url {NOWHERE}"],
)
def test_a_server_that_is_not_there(api, command):
    """Its address is named, and why it cannot be reached."""
    assert f"{NOWHERE} cannot be reached: connection refused" in line_of(api.sos(command), 1)


def test_a_server_that_does_nothing(api):
    """It is given up after as long as one says, and so is the upload."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        line = line_of(api.sos(f"put --to {url} --from {url} --timeout 0.5 file"), 1)
    assert line == f"Error: file: timed out: {url} made no progress for 0.5 s"


def test_a_terminal_that_says_stop(place):
    """Ctrl-C ends a command at once, with a word and no more."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        (place.directory / "file").write_bytes(b"abc")
        process = place.start_sos(f"put --to http://127.0.0.1:{port} file", stderr=subprocess.PIPE)
        connection, _ = frozen.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().decode().split() == ["Aborted!"]
            process.stderr.close()
            assert process.wait(60) == 1


def test_the_directory_of_a_store_that_is_none(place):
    """It is named, and what is wrong with it."""
    (place.directory / "file").write_bytes(b"abc")
    assert "file" in line_of(place.sos("scrub --store file"), 2)
    assert "it has no store.json" in line_of(place.sos("scrub --store ."), 1)
    assert "it is not a directory" in line_of(place.sos("import home --store /dev/null"), 1)
    assert "/proc/sos" in line_of(place.sos("import home --store /proc/sos"), 1)


def test_a_choice_that_was_not_made_is_one_line(place):
    """Although there are several to name."""
    line = line_of(place.sos("token --token-file tokens add backup"), 2)
    assert "upload, read, admin, delete; see sos token add --help" in line
