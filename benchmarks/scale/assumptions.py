"""What is assumed of machines and objects, and the clusters that are looked at."""

from __future__ import annotations

from functools import cache

from attrs import evolve

from benchmarks.scale.groups import Cluster, Group, names
from benchmarks.scale.rebuild import Rates
from sos.replication.pass_state import AWAY_SECONDS

OBJECTS = 10**8
OBJECT_BYTES = 10**6

#: Bytes a second: of a link each way, 1 Gbit/s, and of a server's disks.
LINK = 125e6
DISK = 150e6

#: Servers for which there is one API server.
SERVERS_BY_API = 10

#: Failures of a server with all that it holds, in a year.
FAILURES = 0.04

#: Seconds until copies are made in place of a server that is away: those for which
#: replication waits for it, and a minute between passes.
DETECTION = AWAY_SECONDS + 60.0

#: Servers of a group where one size is enough, and the sizes that are compared.
SIZE = 10
SIZES = (4, 10, 25, 100)

#: Servers of the cluster for which they are compared; and of as many servers the
#: groups are looked at, for others are like them.
COMPARED = 100


def assumptions() -> dict[str, float]:
    """Return all of it, to stand beside the figures."""
    return {
        "objects": OBJECTS,
        "object_bytes": OBJECT_BYTES,
        "link_bytes_per_second": LINK,
        "disk_bytes_per_second": DISK,
        "servers_by_api": SERVERS_BY_API,
        "failures_per_year": FAILURES,
        "detection_seconds": DETECTION,
    }


def cluster(servers: int, size: int, copies: int = 2) -> Cluster:
    """Return the cluster of so many *servers* in groups of *size*."""
    return Cluster(servers, size, copies, OBJECTS, OBJECT_BYTES)


def rates(servers: int) -> Rates:
    """Return what the machines of a cluster can do."""
    return Rates(LINK, DISK, max(1, servers // SERVERS_BY_API))


def groups(size: int, servers: int, copies: int = 2) -> list[Group]:
    """Return as many groups of *size* as *servers* make, but one at least."""
    count = max(1, servers // size)
    return [evolve(_placed(size, number), copies=copies) for number in range(count)]


@cache
def _placed(size: int, number: int) -> Group:
    return Group.of(names(size, number), 1)
