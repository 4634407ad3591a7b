"""The connections of a store, and the threads on which they are waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from sos.errors import ReadOnly, Unavailable
from sos.stores.engines.postgres import failures
from sos.stores.engines.postgres.address import Address
from sos.stores.engines.postgres.session import Session, connect

T = TypeVar("T")

#: Seconds within which something is done, from when a thread has begun with it; and
#: as long it may have to wait for a thread.
ANSWER_SECONDS = 10.0
#: Connections, and threads, at most.
MOST_CONNECTIONS = 8
# Times that a transaction is tried which others stand in the way of.
_TRIES = 5

_log = Logger()


class Connections:
    """Lends a connection to whatever is to be done; makes, keeps and ends them.

    Before :meth:`start` there is neither a connection nor a thread.
    """

    def __init__(self, address: Address, reactor: Any) -> None:
        self.name = address.name
        self._address = address
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._idle: deque[Session] = deque()
        self._closed = False
        self._lost = False
        # Whether it has been this store before; then nothing says that it never can be.
        self._known = False
        self._recognise: Callable[[Session], None] = lambda session: None

    async def start(
        self, prepare: Callable[[Session], None], recognise: Callable[[Session], None]
    ) -> None:
        """Start the threads, and *prepare* what is there; nothing else can be done before.

        It raises StoreUnusable as well, and may be called again.

        :param recognise: raises Unavailable when a connection that is made later leads
            to another store.
        """
        if self._pool is None:
            self._pool = ThreadPool(0, MOST_CONNECTIONS, "sos-postgres")
            self._pool.start()
        await deferToThreadPool(self._reactor, self._pool, self._do, monotonic(), prepare)
        self._recognise = recognise
        self._known = True

    async def stop(self) -> None:
        """Let what has been begun end, and close all connections."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            # It waits for the threads, which the reactor must not.
            await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), pool.stop)
        while self._idle:
            self._idle.pop().close()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Do ``function(session, *args)`` on a thread; raises Unavailable, NoSpace or ReadOnly.

        It may be done again when others stood in its way, after what it did
        has been undone.  Cancelling the Deferred does not stop it.
        """
        if self._pool is None or not self._known:
            return fail(Unavailable(f"{self.name} is not open"))
        asked = monotonic()
        return deferToThreadPool(self._reactor, self._pool, self._do, asked, function, *args)

    def change(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Do the same, unless what is written may be lost: then it is ReadOnly."""

        def safely(session: Session) -> T:
            if session.weakness is not None and not self._address.relaxed:
                raise ReadOnly(f"{self.name}: {session.weakness}")
            return function(session, *args)

        return self.run(safely)

    def _do(self, asked: float, function: Callable[..., T], *args: Any) -> T:
        if monotonic() - asked > ANSWER_SECONDS:
            raise Unavailable(f"{self.name}: it does not answer")
        for left in reversed(range(_TRIES)):
            session = self._take()
            session.deadline = monotonic() + ANSWER_SECONDS
            try:
                return function(session, *args)
            except psycopg.Error as error:
                if not left or not isinstance(error, failures.AGAIN):
                    raise self._meaning(error, session) from error
            finally:
                self._put_back(session)
        raise AssertionError("the last try has an end")

    def _meaning(self, error: psycopg.Error, session: Session) -> Exception:
        if failures.is_elsewhere(error):
            session.close()
        return failures.meaning(error, self.name)

    def _take(self) -> Session:
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if session.is_usable():
                return session
            session.close()
        try:
            session = self._connect()
        except psycopg.Error as error:
            refusal = failures.refusal(error, self.name)
            if not self._lost:
                self._lost = True
                _log.warn("{refusal}", refusal=refusal)
            raise (Unavailable(str(refusal)) if self._known else refusal) from error
        if self._lost:
            self._lost = False
            _log.info("{store} answers again", store=self.name)
        return session

    def _connect(self) -> Session:
        session = connect(self._address)
        try:
            if self._known:
                self._recognise(session)
        except BaseException:
            session.close()
            raise
        return session

    def _put_back(self, session: Session) -> None:
        if self._closed or not session.is_usable():
            session.close()
        else:
            self._idle.append(session)
