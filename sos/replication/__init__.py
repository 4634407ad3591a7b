"""Replication: anti-entropy passes that copy every blob to its replica set.

A pass asks each server for the digests of its partitions, and compares blob by blob
only the partitions that differ.  So its cost depends on the changes alone.
"""

from sos.replication.cluster_pass import replicate
from sos.replication.group_pass import Policy
from sos.replication.pass_state import Hints
from sos.replication.service import ReplicationService
from sos.replication.summary import Report, Summary

__all__ = ["Hints", "Policy", "ReplicationService", "Report", "Summary", "replicate"]
