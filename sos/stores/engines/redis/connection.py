"""A connection to the Redis of a store: endpoint, TLS, login and commands.

Importing this module installs the global reactor, because txredisapi imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from txredisapi import ConnectionError, ResponseError  # type: ignore[import-untyped]

from sos.errors import SOSError, StoreUnusable, Unavailable
from sos.files.regular import read_regular
from sos.http.client.bodies import is_network_failure
from sos.stores.cache.redis import BoundedRedis
from sos.stores.engines.redis.address import StoreAddress
from sos.stores.engines.redis.refusals import ELSEWHERE, code_of, refusal
from sos.stores.engines.redis.scripts import Script


class _Protocol(BoundedRedis):
    # Bytes: enough for the heads of half a million blobs in one partition.
    longest_answer = 128 * 1024 * 1024
    end: Any = None

    def connectionMade(self) -> None:
        keep_alive = getattr(self.transport, "setTcpKeepAlive", None)
        if keep_alive is not None:
            keep_alive(True)
        super().connectionMade()

    def connectionLost(self, reason: Any = None) -> None:
        self.end = reason
        super().connectionLost(reason)


class RedisConnection:
    """A connection that pipelines commands: it sends them without waiting for answers.

    :ivar waiting: the number of commands without an answer.
    :ivar users: the number of callers that use it, with one command or several.
    :ivar retired: whether Redis refused a command that a new connection might be granted. A
        retired connection gets no new users, and is closed after its last.
    """

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.waiting = 0
        self.users = 0
        self.retired = False

    @property
    def lost(self) -> bool:
        return self._protocol.lost

    def _refused(self, text: str) -> SOSError:
        self.retired = self.retired or code_of(text) in ELSEWHERE
        return refusal(text)

    def ask(self, *command: Any) -> Deferred[Any]:
        """Send *command*, and return the answer.

        Fails with the error that :func:`~sos.stores.engines.redis.refusals.refusal` returns
        if Redis refuses, and with Unavailable if the connection ends before the answer.
        """
        return self.send(command).addErrback(self._in_our_words)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run *script*; send its text only if Redis lacks it. Fails as :meth:`ask` does."""
        try:
            return await self.send(("EVALSHA", script.digest, len(keys), *keys, *arguments))
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise self._refused(str(error)) from None
        except ConnectionError:
            raise self.ended() from None
        return await self.ask("EVAL", script.text, len(keys), *keys, *arguments)

    def send(self, command: Sequence[Any]) -> Deferred[Any]:
        """Send *command*; the Deferred fails with the errors of txredisapi."""
        if self.lost:
            raise self.ended()
        self.waiting += 1
        return self._protocol.expect(self._protocol.execute_command(*command)).addBoth(
            self._answered
        )

    def _answered(self, result: Any) -> Any:
        self.waiting -= 1
        return result

    def _in_our_words(self, failure: Any) -> Any:
        if failure.check(ResponseError):
            raise self._refused(str(failure.value)) from None
        if failure.check(ConnectionError):
            raise self.ended() from None
        return failure

    def ended(self) -> Unavailable:
        """Return the error for a connection that has ended."""
        end = self._protocol.end
        if end is not None and end.check(SSL.Error):
            return Unavailable(f"TLS with Redis failed: {end.value}")
        return Unavailable("the connection to Redis was lost; the command may have been executed")

    def close(self) -> None:
        """Close the connection at once; commands without an answer fail."""
        self._protocol.close()


async def connect(address: StoreAddress, reactor: Any) -> RedisConnection:
    """Connect to the Redis at *address*, log in, and select the database.

    Raises StoreUnusable if Redis refuses or a file cannot be read, Unavailable if trying again
    may help.
    """
    factory = Factory.forProtocol(_Protocol)
    factory.noisy = False
    password = _password(address)
    try:
        protocol = await _endpoint(address, reactor).connect(factory)
    except Exception as error:
        # An invalid host name is a ValueError.
        if not isinstance(error, ValueError) and not is_network_failure(error):
            raise
        raise Unavailable(f"{address} cannot be reached: {error}") from error
    connection = RedisConnection(cast(_Protocol, protocol))
    try:
        if password is not None:
            user = () if address.user is None else (address.user,)
            await granted(connection, f"{address} rejects the password", "AUTH", *user, password)
        number = address.server.database
        reason = f"{address} rejects the database {number}, or needs a password"
        await granted(connection, reason, "SELECT", number)
    except BaseException:
        connection.close()
        raise
    return connection


async def granted(connection: RedisConnection, reason: str, *command: Any) -> Any:
    """Return the answer to *command*; raises StoreUnusable with *reason* if Redis refuses.

    Raises Unavailable while Redis is loading or busy, and if the connection ends.
    """
    try:
        return await connection.send(command)
    except ResponseError as error:  # its text can quote the password
        if code_of(str(error)) in ("LOADING", "BUSY"):
            raise refusal(str(error)) from None
        raise StoreUnusable(reason) from None
    except ConnectionError:
        raise connection.ended() from None


def _endpoint(address: StoreAddress, reactor: Any) -> IStreamClientEndpoint:
    server = address.server
    if server.socket is not None:
        return UNIXClientEndpoint(reactor, server.socket)
    endpoint = HostnameEndpoint(reactor, server.host, server.port)
    if not address.tls:
        return endpoint
    trust = None
    if address.ca_file is not None:
        trust = trustRootFromCertificates([Certificate.loadPEM(_read(address.ca_file))])
    return wrapClientTLS(optionsForClientTLS(server.host, trustRoot=trust), endpoint)


def _password(address: StoreAddress) -> str | None:
    if address.password_file is None:
        return address.password
    return _read(address.password_file).decode("utf-8", "surrogateescape").rstrip("\r\n")


def _read(path: str) -> bytes:
    try:
        return read_regular(path, named=True)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read: {error.strerror}") from None
