"""Kinds of stores, found by the scheme of the ``--store`` URL.

``twisted/plugins/sos_stores.py`` lists them, one :class:`StoreFactory` a line. To add a kind,
write a package with ``make(url, algorithm, reactor)``, which returns an
:class:`~sos.interfaces.IEngineStore`, and add a line to that file::

    foo = StoreFactory("foo", "sos.stores.engines.foo")

The scheme matches ``[a-z][a-z0-9+-]+`` and is not ``file``. Another distribution can list its
own kinds in a module of its own in ``twisted/plugins``.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from attrs import frozen
from twisted.plugin import IPlugin, getPlugins
from zope.interface import implementer

from sos.interfaces import IEngineStore, IStoreFactory

_SCHEME = re.compile("([a-z][a-z0-9+-]+):")


@implementer(IPlugin, IStoreFactory)
@frozen
class StoreFactory:
    """A factory that imports its module, and the libraries of that, only when it makes a store.

    :param scheme: of the URLs that it understands, without the colon.
    :param module: the name of a module with a function ``make(url, algorithm, reactor)``; see
        :class:`~sos.interfaces.IStoreFactory`.
    """

    scheme: str
    module: str

    def make(self, url: str, algorithm: str, reactor: Any) -> IEngineStore:
        return import_module(self.module).make(url, algorithm, reactor)


def scheme_of(place: str) -> str | None:
    """Return the scheme of *place*, the text of ``--store``; None if *place* is a directory.

    A directory whose name looks like a URL can be written as ``./redis:``.
    """
    match = _SCHEME.match(place)
    return None if match is None or match[1] == "file" else match[1]


def factory(scheme: str) -> IStoreFactory:
    """Return the factory for *scheme*; raise ValueError if no plugin has it."""
    known = {each.scheme: each for each in getPlugins(IStoreFactory)}
    if scheme not in known:
        schemes = ", ".join(f"{each}:" for each in sorted(known))
        raise ValueError(f"{scheme}: is not a kind of store; use a directory or one of {schemes}")
    return known[scheme]
