"""Tells of the engines that can keep blobs."""

from sos.stores.factories import StoreFactory

memory = StoreFactory("memory", "sos.stores.memory")
redis = StoreFactory("redis", "sos.stores.redis")
rediss = StoreFactory("rediss", "sos.stores.redis")
