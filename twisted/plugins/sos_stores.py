"""Register the storage engines."""

from sos.stores.factories import StoreFactory

memory = StoreFactory("memory", "sos.stores.memory")
postgresql = StoreFactory("postgresql", "sos.stores.engines.postgres")
s3 = StoreFactory("s3", "sos.stores.engines.s3")
redis = StoreFactory("redis", "sos.stores.engines.redis")
rediss = StoreFactory("rediss", "sos.stores.engines.redis")
