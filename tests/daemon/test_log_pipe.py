"""A daemon's log that goes to a pipe, and a reader that does not read."""

from __future__ import annotations

import os
import socket
import sys

import pytest
from twisted.logger import Logger, LogPublisher, textFileLogObserver
from twisted.scripts._twistd_unix import ServerOptions

from sos.daemon import log_pipe
from sos.daemon.log_pipe import MOST_UNWRITTEN, LogPipe, non_blocking


@pytest.fixture(params=["pipe", "socket"])
def ends(request):
    """What is read, and what is written to, of a pipe or, as a journal has it, a socket."""
    if request.param == "pipe":
        reads, writes = os.pipe()
    else:
        reads, writes = (each.detach() for each in socket.socketpair())
    with open(reads, "rb") as reading:
        yield reading, writes
    os.close(writes)


@pytest.fixture
def log(ends, monkeypatch):
    log = Logger(namespace="sos.here", observer=LogPublisher(textFileLogObserver(LogPipe(ends[1]))))
    monkeypatch.setattr(log_pipe, "_log", log)
    return log


def test_a_log_that_is_read_is_written_at_once(ends, log):
    """Whole, whatever is in a line."""
    reading, _ = ends
    for text in ("here", "ümläut \udc80", "x" * 30_000):
        log.info("{text}", text=text)
        line = reading.readline().decode()
        assert line.rstrip().endswith(text.replace("\udc80", "\\udc80"))


def test_a_log_that_nobody_reads_holds_nobody_up(ends, log):
    """What was logged first is kept, the rest is dropped, and how much that was is told."""
    reading, _ = ends
    for n in range(5_000):
        log.info("{n} {filling}", n=n, filling="x" * 1000)
    lines = []
    while not lines or b"count=" not in lines[-1]:
        lines.append(reading.readline())
    kept = len(lines) - 1
    assert MOST_UNWRITTEN // 1100 < kept < 4_500
    assert [int(line.split()[2]) for line in lines[:-1]] == list(range(kept))
    assert lines[-1].endswith(b"count=%d\n" % (5_000 - kept))
    # And from then on all is as before.
    log.info("again")
    assert reading.readline().endswith(b"again\n")


def test_a_line_that_is_longer_than_all_that_is_kept(ends, log):
    """It is written, for it has begun to be."""
    reading, _ = ends
    log.info("{text}", text="x" * (2 * MOST_UNWRITTEN))
    log.info("behind it")
    assert len(reading.readline()) > 2 * MOST_UNWRITTEN
    assert b"count=1" in reading.readline()


def test_a_reader_that_is_gone_ends_nothing(ends, log):
    """As if nobody wanted to know."""
    reading, _ = ends
    for n in range(500):
        log.info("{n} {filling}", n=n, filling="x" * 1000)
    reading.close()
    for n in range(500):
        log.info("{n} {filling}", n=n, filling="x" * 1000)


def test_a_descriptor_that_was_closed_ends_nothing():
    """Neither for who logs, nor on the thread that writes what had to wait."""
    ends = os.pipe()
    pipe = LogPipe(ends[1])
    for end in ends:
        os.close(end)
    pipe.write("lost\n")
    pipe._unwritten.append(b"waiting\n")
    pipe._drain()
    assert not pipe._unwritten


def test_what_is_no_pipe_is_written_as_ever(ends, tmp_path):
    """A file has no reader that could be late."""
    with open(tmp_path / "log", "w") as file:
        assert non_blocking(file) is file
    with open(ends[1], "w", closefd=False) as file:
        assert isinstance(non_blocking(file), LogPipe)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_daemon_in_the_foreground_logs_so(ends, monkeypatch, tmp_path, form):
    """Whatever the form; one in the background has a file."""
    monkeypatch.chdir(tmp_path)
    with open(ends[1], "w", closefd=False) as file:
        for background in (True, False):
            monkeypatch.setattr(sys, "stdout", file)
            how = ["--logfile", "log"] if background else ["-n"]
            ServerOptions().parseOptions([*how, "sos-blob", "--log-format", form])
            assert isinstance(sys.stdout, LogPipe) == (not background)
