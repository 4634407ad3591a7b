"""What a pass has done, and how it tells of it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define, frozen


@define
class Summary:
    """What a pass has done so far.

    :param blobs: held by the servers that could be asked, each counted once.
    :param differing: partitions that the servers do not hold alike.
    :param compared: of those, how many have been gone through.
    :param planned: copies to make; it grows as partitions are compared.
    :param copied: of those, how many were made, of *bytes* together.
    :param settled: copies that were told other metadata.
    :param moved: copies dropped, for they belonged elsewhere.
    :param staying: copies that belong elsewhere and could not be dropped yet,
        for not every server has given a lease: another pass has it, mostly.
    :param failed: steps that could not be carried out.
    :param short: blobs that would want more servers than can be written to.
    :param disputed: ids under which servers hold different bytes.
    :param wanting: copies that blobs lacked before, wherever those are that they have.
    :param broken: objects of which no server has all chunks any more, and lost blobs.
    :param unlisted: servers that did not tell what they hold.
    :param errors: what is wrong with which servers there are; nothing is dropped then.
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
        """Whether every blob has its copies now, and every object its chunks."""
        wanting = self.failed, self.short, self.disputed, self.broken
        return not (any(wanting) or self.unlisted or self.errors)

    @property
    def complete(self) -> bool:
        """Whether every blob that the servers told of had its copies, or has them now."""
        lacking = max(self.wanting - self.copied, 0)
        return not (self.failed or self.short or self.disputed or lacking)

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return self.ok and not (self.planned or self.settled or self.moved or self.staying)

    def __str__(self) -> str:
        text = (
            f"{self.blobs} blobs on {self.servers} servers: {self.planned} copies missing, "
            f"{self.copied} made, {self.failed} failed"
        )
        if self.moved:
            text += f"; {self.moved} moved to where they belong"
        if self.staying:
            text += f"; {self.staying} stay for now where they do not belong"
        if self.settled:
            text += f"; {self.settled} told other metadata"
        if self.short:
            text += f"; {self.short} blobs want more servers than there are to write to"
        if self.disputed:
            text += f"; {self.disputed} ids stand for different bytes on different servers"
        if self.broken:
            text += f"; {self.broken} objects are broken: no server has all of them"
        if self.unlisted:
            text += f"; no listing from {', '.join(self.unlisted)}"
        return "; ".join([text, *self.errors])


def _nobody(told: object) -> None: ...


@frozen
class Report:
    """Who is told what.

    :param progress: called after each step.
    :param note: called with a line about each thing that was done.
    :param warn: called with a line about each failure.
    """

    progress: Callable[[Summary], None] = _nobody
    note: Callable[[str], None] = _nobody
    warn: Callable[[str], None] = _nobody
