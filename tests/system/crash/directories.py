"""Stores in directories that something has happened to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

from sos.stores.local import LocalStore


@asynccontextmanager
async def opened(directory: Path, reactor, **options):
    """Give the store in *directory*, open, and close it whatever happens."""
    store = LocalStore(directory, reactor, **options)
    store.open()
    try:
        yield store
    finally:
        await store.close()
