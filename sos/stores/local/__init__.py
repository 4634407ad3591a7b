"""A store in a directory: an LMDB index with small bodies inline, files for the rest.

::

    DIR/store.json  lock  index/  bodies/ab/cd/ID  incoming/  quarantine/

What ``commit`` has returned for is on stable storage.
"""

from sos.stores.local.store import LocalStore

__all__ = ["LocalStore"]
