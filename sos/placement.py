"""Which stores come first, for a blob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TypeVar

T = TypeVar("T")


def interleaved(groups: Iterable[Sequence[T]]) -> list[T]:
    """Order the members of all *groups*: the first of each, then the second of each.

    So the original's servers do; a group that cannot be reached as a whole
    costs one try before another group is asked.
    """
    missing = object()
    rounds = zip_longest(*groups, fillvalue=missing)
    return [member for round in rounds for member in round if member is not missing]  # type: ignore[misc]
