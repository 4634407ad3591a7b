"""What strangers can write into the log: a line of a kind in a while."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent

from sos.aio.limited_log import _MOST_KINDS, SECONDS, LimitedLog


class Limited:
    """A limited log, its clock, and what was written."""

    def __init__(self):
        self.now = 0.0
        self.log = LimitedLog(Logger(), lambda: self.now)

    def lines(self, *kinds, times=1):
        with capturedLogs() as logged:
            for kind in kinds * times:
                self.log.emit(LogLevel.warn, "it is {what}", kind, what=kind)
        return [formatEvent(event) for event in logged]


def failed(log, error, times=1):
    with capturedLogs() as logged:
        for _ in range(times):
            try:
                raise error
            except type(error):
                log.failure("it failed")
    return [event["log_failure"].value for event in logged]


def test_one_of_a_kind_is_written_and_the_next_tells_how_many_were_not():
    """The count begins anew with each line."""
    limited = Limited()
    assert limited.lines("so", times=5) == ["it is so"]
    limited.now = SECONDS - 1
    assert limited.lines("so") == []
    limited.now = SECONDS
    assert limited.lines("so") == ["it is so (and 5 others since the last line)"]
    limited.now = 2 * SECONDS
    assert limited.lines("so") == ["it is so"]


def test_kinds_do_not_hide_each_other():
    """Each is counted by itself."""
    assert Limited().lines("so", "such", times=3) == ["it is so", "it is such"]


def test_failures_are_of_a_kind_when_type_and_place_are_the_same():
    """Whatever their text is."""
    log = Limited().log
    assert len(failed(log, ValueError("1"), times=3)) == 1
    assert failed(log, ValueError("2")) == []
    assert len(failed(log, KeyError("1"))) == 1
    with capturedLogs() as logged:
        try:
            int("x")
        except ValueError:
            log.failure("it failed")
    assert len(logged) == 1


def test_what_is_remembered_is_bounded():
    """The kind that was written longest ago is forgotten, and not counted any more."""
    limited = Limited()
    limited.lines(*range(_MOST_KINDS))
    assert limited.lines(1, _MOST_KINDS, 0, 1) == [f"it is {_MOST_KINDS}", "it is 0", "it is 1"]
