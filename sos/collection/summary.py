"""The results of a collection, and the callbacks that report them."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, frozen


@define
class Summary:
    """Results of a collection so far.

    :param partitions: partitions that hold anything.
    :param marked: partitions whose manifests have been read, and *swept* those that have been
        searched for garbage.
    :param objects: objects that are neither deleted nor expired.
    :param expired: objects found to be expired.
    :param manifests: copies of manifests that were read.
    :param chunks: chunks that they name, each counted once.
    :param garbage: chunks found to be garbage.
    :param copies: copies of expired objects and garbage that were removed.
    :param bytes: size of these copies.
    :param tombstones: old tombstones that were removed, each counted once.
    :param kept: copies that were stored again before they could be removed.
    :param refused: why nothing, or nothing more, was removed; None if all went well.
    """

    partitions: int = 0
    marked: int = 0
    swept: int = 0
    objects: int = 0
    expired: int = 0
    manifests: int = 0
    chunks: int = 0
    garbage: int = 0
    copies: int = 0
    bytes: int = 0
    tombstones: int = 0
    kept: int = 0
    refused: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the collection has come to its end."""
        return self.refused is None

    def __str__(self) -> str:
        text = (
            f"{self.objects} objects, {self.manifests} copies of manifests, {self.chunks} chunks: "
            f"{self.expired} objects have expired, {self.garbage} chunks are garbage, "
            f"{self.copies} copies removed, {self.bytes} bytes freed"
        )
        if self.tombstones:
            text += f"; {self.tombstones} old tombstones removed"
        if self.kept:
            text += f"; {self.kept} copies stored again meanwhile"
        if self.refused is not None:
            text += f"; stopped: {self.refused}"
        return text


def _nobody(value: object) -> None: ...


@frozen
class Report:
    """Callbacks that report on a collection.

    :param progress: called with the summary after each partition.
    :param note: called with a line of text for each blob that is removed, or would be.
    """

    progress: Callable[[Summary], None] = _nobody
    note: Callable[[str], None] = _nobody


#: Reports nothing.
SILENT = Report()
