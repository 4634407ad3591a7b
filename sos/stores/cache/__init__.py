"""Caches shared by several API servers: memcached and Redis."""
