"""Fixtures of the chunked store's tests."""

from __future__ import annotations

import pytest

from tests.stores.chunks import over
from tests.support.doubles import PlacingStore


@pytest.fixture
def placing():
    return PlacingStore()


@pytest.fixture
def chunked(placing, reactor):
    """A chunked store over *placing*, with tiny chunks."""
    return over(placing, reactor)
