"""The memory store."""

import pytest

from sos.stores.memory import MemoryStore
from tests.contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
