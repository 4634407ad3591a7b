"""The store in a bucket, on a real Swift: the contract."""

from zope.interface.verify import verifyObject

from sos.interfaces import IEngineStore
from tests.contract import ManifestContract, ReplicaContract, StoreContract


class TestS3Store(StoreContract, ReplicaContract, ManifestContract):
    def test_it_is_an_engine(self, store):
        """With the arguments that an engine should have."""
        assert verifyObject(IEngineStore, store)
