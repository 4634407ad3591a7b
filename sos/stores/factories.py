"""The kinds of stores that an engine keeps, by the schemes of their URLs."""

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
    """Makes the stores of a module, which is not imported before one is wanted.

    :param module: has a function ``make(url, algorithm, reactor)``, see
        :class:`~sos.interfaces.IStoreFactory`.
    """

    scheme: str
    module: str

    def make(self, url: str, algorithm: str, reactor: Any) -> IEngineStore:
        return import_module(self.module).make(url, algorithm, reactor)


def scheme_of(place: str) -> str | None:
    """Return the scheme of *place*, the text of ``--store``; None when that is a directory.

    A directory whose name looks like a URL can be written as ``./redis:``.
    """
    match = _SCHEME.match(place)
    return None if match is None or match[1] == "file" else match[1]


def factory(scheme: str) -> IStoreFactory:
    """Return what makes the stores of *scheme*, or raise ValueError."""
    known = {each.scheme: each for each in getPlugins(IStoreFactory)}
    if scheme not in known:
        schemes = ", ".join(f"{each}:" for each in sorted(known))
        raise ValueError(f"{scheme}: is no kind of store; known are a directory, {schemes}")
    return known[scheme]
