"""The memory store."""

import pytest

from sos.stores.memory import MemoryStore
from tests.contract import ManifestContract, ReplicaContract, StoreContract


class TestMemoryStore(StoreContract, ReplicaContract, ManifestContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
