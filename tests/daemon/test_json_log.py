"""The daemon's log as JSON, and what goes into it."""

from __future__ import annotations

import json

import pytest
from twisted.logger import Logger, globalLogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.scripts._twistd_unix import ServerOptions

from sos.daemon import json_log
from sos.http.server.request_ids import CURRENT


@pytest.fixture
def entries():
    """What has been logged meanwhile."""
    found = []

    def observe(event):
        fields = json_log.entry(event)
        if fields is not None:
            found.append(json.loads(json.dumps(fields)))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_an_entry(entries):
    """When, how bad, who says it, and what."""
    Logger(namespace="sos.here").warn("{name} is down", name="a")
    (entry,) = entries
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "warn", "logger": "sos.here", "text": "a is down"}


def test_a_failure_has_its_traceback(entries):
    """Beside what is said of it."""
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        Logger().failure("it failed", Failure())
    (entry,) = entries
    assert (entry["level"], entry["text"]) == ("critical", "it failed")
    assert "ZeroDivisionError" in entry["failure"]


def test_what_is_done_for_a_request_tells_of_which(entries):
    """Also where no one thought of it; what says so itself is believed."""
    log = Logger()
    before = CURRENT.set(b"mine")
    log.info("here")
    log.info("there", request_id="other")
    CURRENT.reset(before)
    log.info("nowhere")
    assert [entry.get("request_id") for entry in entries] == ["mine", "other", None]


def test_what_twisted_logs_in_its_old_way(entries):
    """It is text as well."""
    legacy.msg("old")
    (entry,) = entries
    assert entry["text"] == "old"


def test_an_entry_is_not_endless(entries):
    """What collects logs reads whole lines."""
    Logger().info("{text}", text="x" * 1_000_000)
    assert len(json.dumps(entries)) < 64 * 1024


@pytest.mark.parametrize("command", ["sos-blob", "sos-api --store data"])
def test_twistd_is_told_what_writes_the_log(command, tmp_path, monkeypatch):
    """It takes a name; text is its own."""
    monkeypatch.chdir(tmp_path)
    options = ServerOptions()
    options.parseOptions(["-n", *command.split(), "--log-format", "json"])
    assert options["logger"] is json_log.observer
    options = ServerOptions()
    options.parseOptions(["-n", *command.split()])
    assert options["logger"] is None


@pytest.mark.parametrize("others", ["--logger=sos.daemon.json_log.observer", "--syslog"])
def test_a_log_has_one_form(others, capsys):
    """Two wishes that exclude each other are told in one line."""
    with pytest.raises(SystemExit) as end:
        ServerOptions().parseOptions(["-n", others, "sos-blob", "--log-format", "json"])
    assert end.value.code == 2
    assert "exclude each other" in capsys.readouterr().err


def test_another_format_is_none(capsys):
    """The error names those that there are."""
    for option in ("--log-format", "--access-log-format"):
        with pytest.raises(SystemExit):
            ServerOptions().parseOptions(["-n", "sos-blob", option, "xml"])
        assert f"{option}: 'xml' is not a log format" in capsys.readouterr().err
