"""Replication: bring every blob of a group to the servers that should hold it.

A pass asks each server for the digests of its partitions, and compares blob by
blob those alone that differ: what it costs is what has changed.
"""

from sos.replication.group_pass import Policy
from sos.replication.pass_state import Hints
from sos.replication.passes import replicate
from sos.replication.service import ReplicationService
from sos.replication.summary import Report, Summary

__all__ = ["Hints", "Policy", "ReplicationService", "Report", "Summary", "replicate"]
