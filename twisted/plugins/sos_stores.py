"""Tells of the engines that can keep blobs."""

from sos.stores.factories import StoreFactory

memory = StoreFactory("memory", "sos.stores.memory")
postgresql = StoreFactory("postgresql", "sos.stores.postgres")
s3 = StoreFactory("s3", "sos.stores.s3")
