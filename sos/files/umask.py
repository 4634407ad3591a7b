"""Who may read what is stored, and what is logged: the owner, and the group, and nobody else."""

from __future__ import annotations

import os

#: What others, and the group as far as writing goes, never have: directories that are made are
#: 0750 and files 0640 at most.
WITHHELD = 0o027


def withhold() -> None:
    """Make no file or directory from here on that others can read, or the group can write to.

    A umask that withholds more stays as it is.  It is for a whole process, which is a daemon's
    or a command's that works on a store.
    """
    os.umask(os.umask(WITHHELD) | WITHHELD)
