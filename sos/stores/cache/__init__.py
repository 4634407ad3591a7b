"""Caches that several API servers share: memcached and Redis."""
