"""Dropping of privileges, and ``--chroot``.

After ``--chroot`` the daemon can no longer import modules or look up users.  After ``--uid``
it may be unable to import modules.  So both happen before.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from attrs import frozen
from twisted.application.service import Service
from twisted.python.usage import Options, UsageError

from sos.aio.twisted_internals import reserve_descriptor

# Modules that libraries import on first use; not every version of them has these.
_USED_LATER = ("lmdb._envid", "encodings.idna")

# The directory, below the new root, for uploads that are too large for memory.
_TEMPORARY = "tmp"


def prepare(chroot: str | None) -> None:
    """Do what needs privileges, or files outside of the directory *chroot*.

    This creates the directory ``tmp`` in *chroot* if it is missing.  Raises UsageError if
    that fails.
    """
    for name in _USED_LATER:
        with suppress(ImportError):
            import_module(name)
    if chroot is None:
        return
    reserve_descriptor()
    try:
        temporary = Path(chroot, _TEMPORARY)
        if not temporary.exists():
            temporary.mkdir()
            temporary.chmod(0o1777)
    except OSError as error:
        raise UsageError(
            f"--chroot: cannot create {_TEMPORARY} in {chroot}: {error.strerror}"
        ) from None
    tempfile.tempdir = f"/{_TEMPORARY}"


@frozen
class _Identity:
    user: int
    group: int
    groups: Sequence[int]


class PrivilegeDropper(Service):
    """Drops root's privileges after all other services have had their privileged start.

    twistd looks the user up after the chroot, where it fails.  Make this the last of a
    daemon's services, whose privileged start is in that order.
    """

    def __init__(self, identity: _Identity) -> None:
        self._identity = identity

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        os.setgroups(self._identity.groups)
        os.setgid(self._identity.group)
        os.setuid(self._identity.user)


def shedding(twistd: Options) -> PrivilegeDropper | None:
    """Return a service that drops privileges in place of twistd, None if twistd can do it.

    :param twistd: the options of twistd.
    :raises UsageError: if the group of the user is unknown.
    """
    user, group = twistd["uid"], twistd["gid"]
    if twistd["chroot"] is None or user is None or twistd["euid"]:
        return None
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        if group is None:
            raise UsageError(f"--uid {user}: there is no such user; add a --gid") from None
        groups = [group]
    else:
        group = account.pw_gid if group is None else group
        groups = os.getgrouplist(account.pw_name, group)
    twistd["uid"] = twistd["gid"] = None
    return PrivilegeDropper(_Identity(user, group, groups))
