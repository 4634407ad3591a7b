"""The results of a pass, and the callbacks that report them."""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define, frozen


@define
class Summary:
    """Results of a pass so far.

    :param servers: servers that sent their inventories.
    :param blobs: blobs on the servers that answered, each counted once per group.
    :param differing: partitions to compare blob by blob.
    :param compared: number of these that have been compared.
    :param planned: copies to make; grows as partitions are compared.
    :param wanting: copies that were missing before the pass, counting the copies on any
        server of the group.
    :param copied: copies made.
    :param bytes: size of the copies made, in bytes.
    :param settled: copies whose metadata was reconciled.
    :param moved: surplus copies dropped.
    :param staying: surplus copies that could not be dropped yet.  Mostly another pass holds
        the lease; or the server is full or read-only.
    :param failed: copies, metadata updates, drops and checks that failed.
    :param short: blobs that need more servers than can be written to.
    :param disputed: ids under which servers hold different bytes.
    :param broken: objects with a chunk that no server has, and lost blobs.
    :param unlisted: servers that did not send their inventories.
    :param errors: problems with the set of servers; while there are any, nothing is dropped.
    """

    servers: int = 0
    blobs: int = 0
    differing: int = 0
    compared: int = 0
    planned: int = 0
    wanting: int = 0
    copied: int = 0
    bytes: int = 0
    settled: int = 0
    moved: int = 0
    staying: int = 0
    failed: int = 0
    short: int = 0
    disputed: int = 0
    broken: int = 0
    unlisted: list[str] = Factory(list)
    errors: list[str] = Factory(list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed or is wrong: the copies that were to be made are made.

        A dry run makes no copies: see :attr:`complete` for whether any are missing.
        """
        wanting = self.failed, self.short, self.disputed, self.broken
        return not (any(wanting) or self.unlisted or self.errors)

    @property
    def complete(self) -> bool:
        """Whether every blob on the servers that answered had its copies, or has them now."""
        lacking = max(self.wanting - self.copied, 0)
        return not (self.failed or self.short or self.disputed or lacking)

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return self.ok and not (self.planned or self.settled or self.moved or self.staying)

    def __str__(self) -> str:
        text = (
            f"{self.blobs} blobs on {self.servers} servers: {self.planned} copies to make, "
            f"{self.copied} made, {self.failed} failed"
        )
        if self.moved:
            text += f"; {self.moved} surplus copies dropped"
        if self.staying:
            text += f"; {self.staying} surplus copies not dropped yet"
        if self.settled:
            text += f"; metadata of {self.settled} copies updated"
        if self.short:
            text += f"; {self.short} blobs need more writable servers than there are"
        if self.disputed:
            text += f"; {self.disputed} ids have different bodies on different servers"
        if self.broken:
            text += f"; {self.broken} objects are lost or lack chunks on all servers"
        if self.unlisted:
            text += f"; no listing from {', '.join(self.unlisted)}"
        return "; ".join([text, *self.errors])


def _nobody(value: object) -> None: ...


@frozen
class Report:
    """Callbacks that report on a pass.

    :param progress: called with the summary after each step.
    :param note: called with a line of text for each change made.
    :param warn: called with a line of text for each failure.
    """

    progress: Callable[[Summary], None] = _nobody
    note: Callable[[str], None] = _nobody
    warn: Callable[[str], None] = _nobody
