"""The memory store."""

import pytest

from sos.stores.memory import MemoryStore
from tests.contract import DigestContract, StoreContract


class TestMemoryStore(StoreContract, DigestContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
