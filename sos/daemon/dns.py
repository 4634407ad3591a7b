"""Names of hosts, which are looked up on threads of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from socket import EAI_FAIL, gaierror, getaddrinfo
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from sos.aio.twisted_internals import name_resolver

#: Names that are looked up at once: one that no name server answers for takes half a minute.
MOST_LOOKUPS = 32


class _Thread(Thread):
    """A thread that the end of the process does not wait for: a lookup cannot be broken off."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, daemon=True, **options)


class _Threads(ThreadPool):
    threadFactory = _Thread


@implementer(IHostnameResolver)
class Names(Service):
    """Resolves names for *reactor* while it runs.

    The reactor's own threads read and write files.  There, a name server that does not
    answer would hold up uploads, and a slow disk every connection by name.  A name that
    is being looked up is not looked up a second time: each request to a server whose name
    is not answered for would take another thread.

    :param look_up: getaddrinfo(), or what does as it does.
    """

    def __init__(self, reactor: Any, look_up: Callable[..., Any] = getaddrinfo) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._under_way: dict[object, _Lookup] = {}

    def startService(self) -> None:
        super().startService()
        self._threads = _Threads(0, MOST_LOOKUPS, "sos-names")
        self._threads.start()
        self._resolver = name_resolver(self._reactor, self._threads, self._answer)
        self._former = self._reactor.installNameResolver(self)

    def stopService(self) -> None:
        super().stopService()
        self._reactor.installNameResolver(self._former)
        if not self._under_way:  # else its threads would be waited for
            self._threads.stop()

    def _answer(self, *arguments: Any) -> Any:
        try:
            return self._look_up(*arguments)
        except (OSError, UnicodeError) as error:  # too many open files, say
            raise gaierror(EAI_FAIL, str(error)) from error

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look *hostName* up, see IHostnameResolver."""
        kinds = None if addressTypes is None else frozenset(addressTypes)
        asked = hostName, portNumber, kinds, transportSemantics
        lookup = self._under_way.get(asked)
        if lookup is None:
            lookup = self._under_way[asked] = _Lookup(partial(self._under_way.pop, asked))
            self._resolver.resolveHostName(
                lookup, hostName, portNumber, addressTypes, transportSemantics
            )
        lookup.receivers.append(resolutionReceiver)
        resolutionReceiver.resolutionBegan(lookup.resolution)
        return lookup.resolution


@implementer(IResolutionReceiver)
class _Lookup:
    """A name that is being looked up, and those who want to know."""

    resolution: IHostResolution

    def __init__(self, ended: Callable[[], object]) -> None:
        self._ended = ended
        self.receivers: list[IResolutionReceiver] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self.resolution = resolution

    def addressResolved(self, address: IAddress) -> None:
        for each in self.receivers:
            each.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._ended()
        for each in self.receivers:
            each.resolutionComplete()
