"""The memory store."""

import pytest

from sos.stores.memory import MemoryStore
from tests.contract import DigestContract, ManifestContract, StoreContract


class TestMemoryStore(StoreContract, DigestContract, ManifestContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
