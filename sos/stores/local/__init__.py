"""A store in a directory: an LMDB index with small bodies inline, files for the rest.

::

    DIR/store.json  lock  index/  bodies/ab/cd/ID  incoming/  quarantine/

A blob is on stable storage when ``commit`` returns.
"""

from sos.stores.local.store import LocalStore

__all__ = ["LocalStore"]
