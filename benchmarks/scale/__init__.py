"""``python -m benchmarks scale``: what placement and replication do in clusters of any size.

A simulation, in which the placement, the client and the answers of a blob
server are the real ones; machines and objects are numbers.
"""

from benchmarks.scale.command import scale

__all__ = ["scale"]
