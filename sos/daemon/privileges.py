"""A daemon whose privileges twistd drops, and that it may shut into a directory.

After ``--chroot`` nothing can be imported any more, nor the name of a user be found;
after ``--uid`` the first may be so as well.  What needs that is done before.
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

# What libraries import only when they use it; not every version of them has it.
_USED_LATER = ("lmdb._envid", "encodings.idna")

# Where, in the directory, uploads wait that are too large for memory.
_TEMPORARY = "tmp"


def prepare(chroot: str | None) -> None:
    """Do what cannot be done any more without privileges, or in the directory *chroot*.

    That is given a ``tmp``, if it has none.  Raises UsageError when it cannot be.
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
        raise UsageError(f"--chroot: {chroot}: {error.strerror}") from None
    tempfile.tempdir = f"/{_TEMPORARY}"


@frozen
class _Identity:
    user: int
    group: int
    groups: Sequence[int]


class Shedding(Service):
    """Gives up root's privileges once all else has started that needs them.

    twistd would do so itself, but looks the user up when it is shut in already.
    Make it the last of a daemon's services, so that its turn comes last.
    """

    def __init__(self, identity: _Identity) -> None:
        self._identity = identity

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        os.setgroups(self._identity.groups)
        os.setgid(self._identity.group)
        os.setuid(self._identity.user)


def shedding(twistd: Options) -> Shedding | None:
    """Return what gives up privileges in the place of *twistd*, whose options these are.

    None when it can do that itself.  Raises UsageError when it is not known
    which group it is to be.
    """
    user, group = twistd["uid"], twistd["gid"]
    if twistd["chroot"] is None or user is None or twistd["euid"]:
        return None
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        if group is None:
            raise UsageError(f"--uid {user} is no user's, and wants a --gid beside it") from None
        groups = [group]
    else:
        group = account.pw_gid if group is None else group
        groups = os.getgrouplist(account.pw_name, group)
    twistd["uid"] = twistd["gid"] = None
    return Shedding(_Identity(user, group, groups))
