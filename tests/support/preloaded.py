"""Imported once by the process that daemons and commands are forked from: all that they import.

A reactor cannot be shared by processes, and importing one makes one: what is imported here
gets a placeholder in its place, which :func:`install_reactor` replaces in the forked process.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

_NAME = "twisted.internet.reactor"
_placeholder = ModuleType(_NAME)


def install_reactor() -> None:
    """Install the default reactor, and give it to each module that has the placeholder."""
    del sys.modules[_NAME]
    reactor = import_module(_NAME)
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is _placeholder:
                setattr(module, name, reactor)


def _import_everything() -> None:
    sys.modules[_NAME] = _placeholder
    for name in ("twisted.scripts.twistd", "twisted.internet.epollreactor", "twisted.web.server"):
        import_module(name)
    import sos

    for module in walk_packages(sos.__path__, "sos."):
        if "redis" not in module.name:  # txredisapi's import needs a reactor that is one
            import_module(module.name)
    # What is here to stay is not looked at by any collection in a forked process.
    gc.freeze()


_import_everything()
