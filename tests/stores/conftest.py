"""Fixtures of the stores' tests."""

from __future__ import annotations

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from tests.stores.chunked.chunks import over
from tests.support.doubles import PlacingStore


@pytest.fixture
def logged():
    """A function that returns the lines logged so far in which a text is."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda text: [line for line in map(formatEvent, events) if text in line]
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def placing():
    return PlacingStore()


@pytest.fixture
def chunked(placing, reactor):
    """A chunked store over *placing*, with tiny chunks."""
    return over(placing, reactor)
