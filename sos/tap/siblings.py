"""What the workers of a daemon ask each other: each knows a part of what the daemon does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

#: Seconds to wait for a sibling: less than others wait for a server's status.
SIBLING_SECONDS = 0.5

_log = Logger()


class Siblings:
    """The other workers of the daemon that this process is a worker of.

    :param numbers: theirs; there are none where one process is all.
    :param send: sends a message to those of these numbers, as far as they are there.
    :ivar tell: tells what this process knows, as JSON can hold it.
    :ivar learn: is given what another has for this one, as JSON has held it.
    """

    def __init__(
        self, numbers: list[int], send: Callable[[list[int], dict[str, Any]], None], clock: Any
    ) -> None:
        self._numbers = numbers
        self._send = send
        self._clock = clock
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self.tell: Callable[[], Any] = lambda: None
        self.learn: Callable[[Any], None] = lambda news: None

    def inform(self, number: int, news: Any) -> None:
        """Give *news*, as JSON can hold it, to the worker *number*, if that is there."""
        self._send([number], {"news": news})

    async def ask(self) -> dict[int, Any]:
        """Return what each of them tells, by its number, None of one that does not answer."""
        if not self._numbers:
            return {}
        self._asked += 1
        number, question = self._asked, _Question(set(self._numbers))
        self._questions[number] = question
        self._send(self._numbers, {"ask": number})
        late = self._clock.callLater(SIBLING_SECONDS, question.end)
        try:
            await question.ended
        finally:
            del self._questions[number]
            if late.active():
                late.cancel()
        return {each: question.answers.get(each) for each in self._numbers}

    def received(self, source: int, message: dict[str, Any]) -> None:
        """Take a *message* of the worker *source*: a question, or the answer to one."""
        match message:
            case {"ask": number}:
                try:
                    self._send([source], {"answer": self.tell(), "to": number})
                except Exception:  # which must not end the line to the supervisor
                    _log.failure("what this worker knows cannot be told")
            case {"news": news}:
                self.learn(news)
            case {"answer": answer, "to": number} if number in self._questions:
                self._questions[number].take(source, answer)


class _Question:
    """A question that siblings were asked."""

    def __init__(self, waited_for: set[int]) -> None:
        self._waited_for = waited_for
        self.answers: dict[int, Any] = {}
        self.ended: Deferred[None] = Deferred()

    def take(self, source: int, answer: Any) -> None:
        self.answers[source] = answer
        if self._waited_for <= self.answers.keys():
            self.end()

    def end(self) -> None:
        if not self.ended.called:
            self.ended.callback(None)
