"""Access logs: what a line says, and the file that it is written to."""

from __future__ import annotations

import json
import os

import pytest
from twisted.internet.task import Clock

from sos.http.server import access_log_lines
from sos.http.server.access_log import AccessLog
from sos.stores.memory import MemoryStore
from sos.web.blob_api import BlobServer
from sos.web.public_api import UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation, request

NOW = 1_795_637_068.123
ID = content_id(b"hello")


def lines_of(line, *requests, answer=None):
    """Return what *line* makes of requests, each of which takes a quarter of a second."""
    talk = Conversation(answer or handler(BlobServer(MemoryStore()).app))
    found, times = [], iter(range(1000))
    talk.site.timer = lambda: next(times) / 4
    talk.site._note = lambda request, seconds: found.append(line(request, seconds, NOW))
    for each in requests:
        talk.send(each)
    return found


UPLOAD = request(
    "POST",
    f"/blob/{ID}?x=1",
    b"hello",
    b"X-Request-Id: mine",
    b"User-Agent: curl",
    b"Referer: here",
)


def test_a_line_in_the_combined_format():
    """As Apache and nginx write it, with the request's id behind it."""
    assert lines_of(access_log_lines.combined, UPLOAD) == [
        f'192.168.1.1 - - [25/Nov/2026:20:04:28 +0000] "POST /blob/{ID}?x=1 HTTP/1.1" 200 72 '
        '"here" "curl" "mine"'
    ]


def test_a_line_of_json():
    """All that is known of the request."""
    (line,) = lines_of(access_log_lines.as_json, UPLOAD)
    assert json.loads(line) == {
        "time": "2026-11-25T20:04:28.123Z",
        "request_id": "mine",
        "peer": "192.168.1.1",
        "token": None,
        "method": "POST",
        "path": f"/blob/{ID}?x=1",
        "route": "/blob/<id>",
        "status": 200,
        "bytes": 72,
        "bytes_in": 5,
        "seconds": 0.25,
        "user_agent": "curl",
        "id": ID,
    }


@pytest.mark.parametrize("line", [access_log_lines.combined, access_log_lines.as_json])
def test_a_line_stays_one_line(line):
    """Whatever a client puts into it, and of characters that every terminal takes."""
    nasty = request("GET", '/blob/a"\\x', None, b'User-Agent: "\\ \xff', b"Referer: a\tb")
    (found,) = lines_of(line, nasty)
    assert found.isascii()
    assert found.isprintable()
    if line is access_log_lines.as_json:
        assert json.loads(found)["user_agent"] == '"\\ \xff'
    else:
        assert r'"a\x09b" "\x22\x5c \xff"' in found


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        (b"/a?b=c", b"/a?b=c"),
        (b"/a?signature=abc&expires=5", b"/a?signature=***&expires=5"),
        (b"/a?X-Amz-Signature=abc", b"/a?X-Amz-Signature=***"),
        (b"/a?x=1&access_token=abc=def", b"/a?x=1&access_token=***"),
        (b"/a?si%67nature=abc", b"/a?si%67nature=***"),
        (b"/a?SIG=abc&passwd=x&api-key=y", b"/a?SIG=***&passwd=***&api-key=***"),
        (b"/a?token", b"/a?token"),
        (b"/token=abc", b"/token=abc"),
        (b"http://x/?secret=a?b", b"http://x/?secret=***"),
        (b"/tus/abc", b"/tus/***"),
        (b"/tus/abc?a=b&token=c", b"/tus/***?a=b&token=***"),
        (b"/lease/abc/", b"/lease/***"),
        (b"/tus/abc/more", b"/tus/***"),
        (b"/tus//abc", b"/tus//***"),
        (b"//tus/abc", b"//tus/***"),
        (b"/behind/a/proxy/tus/abc", b"/behind/a/proxy/tus/***"),
        (b"http://x/lease/abc", b"http://x/lease/***"),
        (b"/%74u%53/abc", b"/%74u%53/***"),
        (b"/tus%2Fabc", b"/tus%2F***"),
        (b"/tus/%61bc", b"/tus/***"),
        (b"/tus%252fabc", b"/tus%252f***"),
        (b"/Tus/abc", b"/Tus/***"),
        (b"/%4ceas%65/abc", b"/%4ceas%65/***"),
        (b"/a%0Ab/tus/abc", b"/a%0Ab/tus/***"),
        (b"/tus", b"/tus"),
        (b"/tus/", b"/tus/"),
        (b"/lease?seconds=5", b"/lease?seconds=5"),
        (b"/fetch/a%20b", b"/fetch/a%20b"),
        (b"/status/abc", b"/status/abc"),
    ],
)
def test_secrets_in_a_target_are_not_logged(target, logged):
    """Whoever reads a log must not be able to do what they allow."""
    assert access_log_lines.hide_secrets(target) == logged


@pytest.mark.parametrize("line", [access_log_lines.combined, access_log_lines.as_json])
def test_nothing_secret_is_in_a_line(line):
    """Not in the target, nor where the client came from, nor a lease."""
    found = lines_of(
        line,
        request("GET", "/blobs?token=hidden", None, b"Referer: http://x/?signature=hidden"),
        request("DELETE", "/lease/hidden"),
        request("DELETE", "/lease/hidden?a=b"),
    )
    assert len(found) == 3
    assert "hidden" not in "".join(found)


@pytest.mark.parametrize("line", [access_log_lines.combined, access_log_lines.as_json])
@pytest.mark.parametrize("path", ["/tus/hidden", "/%74us/hidden", "/lease/hidden", "/tus/hidden/"])
def test_a_token_is_not_logged_whatever_becomes_of_the_request(line, path):
    """A CORS preflight, a wrong method and a path without a route have it in their target, too."""
    app = UploadServer(MemoryStore()).app
    preflight = request(
        "OPTIONS", path, None, b"Origin: http://page", b"Access-Control-Request-Method: PATCH"
    )
    found = lines_of(
        line,
        preflight,
        request("PUT", path),
        request("GET", path, None, b"Referer: http://x" + path.encode()),
        request("GET", f"http://x{path}"),
        answer=handler(app, origins=[b"http://page"]),
    )
    assert len(found) == 4
    assert "hidden" not in "".join(found)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    log = AccessLog(str(tmp_path / "log"), lambda text, seconds, now: text, clock)
    log.open()
    yield log
    log.close()


def test_lines_of_one_turn_are_written_together(log, clock, tmp_path):
    """At its end, and in order."""
    log.note("one", 0.0)
    log.note("two", 0.0)
    assert (tmp_path / "log").read_text() == ""
    clock.advance(0)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    log.note("three", 0.0)
    clock.advance(0)
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"
    assert clock.getDelayedCalls() == []


def test_what_is_there_is_kept(tmp_path, clock):
    """Lines are added, and what waits is written at the end."""
    (tmp_path / "log").write_text("before\n")
    log = AccessLog(str(tmp_path / "log"), lambda text, seconds, now: text, clock)
    log.open()
    log.note("after", 0.0)
    log.close()
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    clock.advance(0)  # which has nothing to do any more


def test_a_file_that_was_renamed_is_left(log, clock, tmp_path):
    """Without being told; so is one that was removed."""
    path = tmp_path / "log"
    for number in range(3):
        log.note(f"line {number}", 0.0)
        clock.advance(1)
        path.rename(tmp_path / f"log.{number}")
    log.note("last", 0.0)
    clock.advance(1)
    assert [(tmp_path / f"log.{number}").read_text() for number in range(3)] == [
        "line 0\n",
        "line 1\n",
        "line 2\n",
    ]
    assert path.read_text() == "last\n"
    path.unlink()
    log.note("again", 0.0)
    clock.advance(1)
    assert path.read_text() == "again\n"


def test_a_file_that_was_cut_off_is_gone_on_with(log, clock, tmp_path):
    """As logrotate's copytruncate does it: there is no hole in it."""
    log.note("one", 0.0)
    clock.advance(1)
    os.truncate(tmp_path / "log", 0)
    log.note("two", 0.0)
    clock.advance(1)
    assert (tmp_path / "log").read_text() == "two\n"


def test_who_is_told_to_opens_it_again_at_once(log, clock, tmp_path):
    """What was waiting goes where it belongs; and one that cannot be opened changes nothing."""
    path = tmp_path / "log"
    log.note("one", 0.0)
    path.rename(tmp_path / "old")
    log.reopen()
    assert ((tmp_path / "old").read_text(), path.read_text()) == ("one\n", "")
    path.unlink()
    path.mkdir()
    log.reopen()
    log.note("two", 0.0)
    clock.advance(1)
    path.rmdir()
    log.note("three", 0.0)
    clock.advance(1)
    assert path.read_text() == "three\n"


def test_a_disk_that_takes_nothing_stops_nobody(clock):
    """Lines are lost, and requests go on."""
    log = AccessLog("/dev/full", lambda text, seconds, now: text, clock)
    log.open()
    for _ in range(3):
        log.note("line", 0.0)
        clock.advance(1)
    log.close()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path, clock):
    """It is refused; one whose reader is slow loses lines, and holds nobody up."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    log = AccessLog(str(path), access_log_lines.combined, clock)
    with pytest.raises(OSError, match="No such device"):
        log.open()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.open()
    talk = Conversation(handler(BlobServer(MemoryStore()).app), log.note)
    for _ in range(2000):
        talk.ask("GET", "/alive")
        clock.advance(1)
    log.close()
    assert b'"GET /alive HTTP/1.1" 200' in os.read(reader, 1 << 20)
    os.close(reader)
