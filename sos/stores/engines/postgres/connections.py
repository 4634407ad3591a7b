"""The connections of a store, and the threads that use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from sos.aio.threads import on_thread
from sos.errors import ReadOnly, Unavailable
from sos.stores.engines.postgres import failures
from sos.stores.engines.postgres.address import Address
from sos.stores.engines.postgres.session import Session, connect

T = TypeVar("T")

#: Timeout in seconds of an operation on its thread, and of its wait for a thread.
ANSWER_SECONDS = 10.0
#: Most connections, and threads.
MOST_CONNECTIONS = 8
# Attempts at a transaction that conflicts with others.
_TRIES = 5

_log = Logger()


class Connections:
    """A pool of connections and threads, which runs functions with a connection.

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
        # Whether the store has been opened; from then on a refusal counts as temporary.
        self._known = False
        self._recognise: Callable[[Session], None] = lambda session: None

    async def start(
        self, prepare: Callable[[Session], None], recognise: Callable[[Session], None]
    ) -> None:
        """Start the threads, and call *prepare* with a connection.

        Before that, :meth:`run` fails. Raises StoreUnusable too; can be called again.

        :param recognise: called with each later connection; raises Unavailable if that leads to
            another store.
        """
        if self._pool is None:
            self._pool = ThreadPool(0, MOST_CONNECTIONS, "sos-postgres")
            self._pool.start()
        await on_thread(self._reactor, self._pool, self._do, monotonic(), prepare)
        self._recognise = recognise
        self._known = True

    async def stop(self) -> None:
        """Wait for running functions, and close all connections."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            # Not in the reactor: it blocks until the threads have ended.
            await on_thread(self._reactor, self._reactor.getThreadPool(), pool.stop)
        while self._idle:
            self._idle.pop().close()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call ``function(session, *args)`` on a thread; raises Unavailable, NoSpace or ReadOnly.

        The call is repeated after a conflict with another transaction, which undoes its effects.
        Cancelling the Deferred does not stop it.
        """
        if self._pool is None or not self._known:
            return fail(Unavailable(f"{self.name} is not open"))
        asked = monotonic()
        return on_thread(self._reactor, self._pool, self._do, asked, function, *args)

    def change(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Do the same for a write; raises ReadOnly if a crash can lose commits."""

        def safely(session: Session) -> T:
            if session.weakness is not None and not self._address.relaxed:
                raise ReadOnly(f"{self.name}: {session.weakness}")
            return function(session, *args)

        return self.run(safely)

    def _do(self, asked: float, function: Callable[..., T], *args: Any) -> T:
        if monotonic() - asked > ANSWER_SECONDS:
            raise Unavailable(f"{self.name} did not answer in time")
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
                _log.warn("cannot connect to the database: {refusal}", refusal=refusal)
            raise (Unavailable(str(refusal)) if self._known else refusal) from error
        if self._lost:
            self._lost = False
            _log.info("reconnected to the database, store={store}", store=self.name)
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
