"""Garbage collection: chunks that no object needs any more, and old tombstones, are removed.

It marks and sweeps, without a coordinator.  *Mark*: read the manifests of all servers, and note the
chunks that they name.  *Sweep*: remove the chunks that were stored or renewed longer ago than the
grace period, that no manifest names, and that nobody has stored as an object of its own.  An
upload that is in progress stores or renews its chunks within the grace period.

If a server does not answer, or anything else is in doubt, nothing is removed.
"""

from sos.collection.collect import collect
from sos.collection.garbage import Limits
from sos.collection.service import CollectionService
from sos.collection.summary import Report, Summary

__all__ = ["CollectionService", "Limits", "Report", "Summary", "collect"]
