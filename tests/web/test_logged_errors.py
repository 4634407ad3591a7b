"""Errors that a stranger causes again and again: the log does not grow with them."""

from __future__ import annotations

import pytest
from klein import Klein
from twisted.logger import capturedLogs, formatEvent

from sos.aio.limited_log import SECONDS
from sos.errors import NoSpace, Unavailable
from sos.web.routes import handler
from tests.support.conversation import Conversation


class Broken:
    """Fails in the ways that it is asked to."""

    app = Klein()

    @app.route("/mistake")
    def mistake(self, request):
        raise ValueError("a mistake of ours")

    @app.route("/later")
    async def later(self, request):
        raise KeyError("another")

    @app.route("/down")
    def down(self, request):
        raise Unavailable("it is down")

    @app.route("/down/<name>")
    def named(self, request, name):
        raise Unavailable("it is down")

    @app.route("/tus/<token>/more", methods=["GET"])
    def resume(self, request, token):
        raise Unavailable("it is down")

    @app.route("/full")
    def full(self, request):
        raise NoSpace("it is full")


class Asked:
    """A client of it, and what was logged meanwhile."""

    def __init__(self):
        self.now = 0.0
        self._handler = handler(Broken().app, clock=lambda: self.now)

    def lines(self, *paths):
        talk = Conversation(self._handler)
        with capturedLogs() as logged:
            for path in paths:
                assert talk.ask("GET", path).status >= 500
        self.failures = [event["log_failure"] for event in logged if "log_failure" in event]
        return [formatEvent(event) for event in logged]


def test_a_mistake_is_logged_once_a_minute():
    """With its traceback; then with the number of those that were left out."""
    asked = Asked()
    (line,) = asked.lines(*["/mistake"] * 100)
    assert line.startswith("request failed: GET /mistake request_id=")
    assert asked.failures[0].check(ValueError)
    asked.now = SECONDS
    (line,) = asked.lines("/mistake")
    assert line.endswith("(and 99 others since the last line)")


def test_mistakes_of_other_kinds_are_logged_beside():
    """One does not hide another."""
    assert len(Asked().lines(*["/mistake", "/later"] * 3)) == 2


@pytest.mark.parametrize("path", ["/down", "/full"])
def test_what_a_server_cannot_do_is_logged_once_a_minute(path):
    """Strangers can ask for it as often as for all else."""
    asked = Asked()
    assert len(asked.lines(*[path] * 50)) == 1
    asked.now = SECONDS
    (line,) = asked.lines(path)
    assert "49 others" in line


def test_a_long_path_is_cut_in_the_log():
    """It is told by whom, and not by kilobytes."""
    (line,) = Asked().lines("/down/" + "x" * 5000)
    assert len(line) < 300


def test_the_token_of_an_upload_is_not_in_the_log():
    """Whatever the rule of its route is: anybody who reads it there could use it."""
    (line,) = Asked().lines("/tus/hidden/more")
    assert line.startswith("request failed: GET /tus/*** reason=it is down")
    assert "hidden" not in line


def test_the_token_of_a_lease_is_not_in_an_error():
    """The server that sent the request logs the text of the answer."""
    for method in ("GET", "DELETE"):
        answer = Conversation(handler(Broken().app)).ask(method, "/tus/hidden/more/")
        assert answer.status == 404
        assert "hidden" not in answer.json["error"]
    answer = Conversation(handler(Broken().app)).ask("POST", "/tus/hidden/more")
    assert answer.status == 405
    assert answer.json["error"] == "/tus/*** does not support the method POST"
