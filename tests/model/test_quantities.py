"""Numbers, times and sizes, as users write them."""

from __future__ import annotations

import pytest

from sos.model import quantities


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("64K", 65536), ("8MiB", 8 << 20), ("1t", 1 << 40)]
)
def test_sizes(text, size):
    """Powers of 1024."""
    assert quantities.size(text) == size
