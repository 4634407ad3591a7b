"""Permissions of stored files and logs: readable by the owner and the group only."""

from __future__ import annotations

import os

#: The permission bits to withhold: all of others, and write of the group.  New directories are
#: 0750 at most, and new files 0640.
WITHHELD = 0o027


def withhold() -> None:
    """Withhold access by others, and writing by the group, from all new files and directories.

    It sets the umask of the process, for daemons and for commands that work on a store.  A
    stricter umask stays.
    """
    os.umask(os.umask(WITHHELD) | WITHHELD)
