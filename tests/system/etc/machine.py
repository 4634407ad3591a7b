"""A machine that runs systemd, in namespaces of its own over this one's file system.

What it writes it keeps in memory, and its network is not connected to anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

from tests.support.processes import ROOT
from tests.support.waiting import wait_until

#: An address of it, beside those of the loopback interface; README's example has it.
ADDRESS = "10.0.0.5"

# The arguments are a directory, and where there are the program, the modules that it needs,
# and the version of Python that names their directory.
_ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs $1
cd $1
mkdir upper work root more more-work
mount -t overlay -o lowerdir=/,upperdir=$1/upper,workdir=$1/work overlay root

# The program, as if it had been installed.
mkdir -p root/opt
cp -a $2 root/opt/sos
modules=root/opt/sos/lib/$4/site-packages
mount -t overlay -o lowerdir=$modules:$3,upperdir=$1/more,workdir=$1/more-work overlay $modules

# What this machine starts, and mounts, and logs is not for that one.
cd root
rm -rf etc/systemd/system etc/fstab var/log/journal etc/sos.conf etc/default/sos-*
mkdir -p etc/systemd/system

# What the kernel has once for all may be seen, and not set.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts run/here
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link set lo up
ip address add $5 dev lo

pivot_root . run/here
cd /
umount -l /run/here
rmdir /run/here
exec setpriv --bounding-set -sys_boot,-sys_module,-sys_rawio,-sys_time \
    env -i container=sos-test LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
"""

_TWISTD = "#!/opt/sos/bin/python\nfrom twisted.scripts.twistd import run\nrun()\n"
_SOS = "#!/opt/sos/bin/python\nfrom sos.cli import main\nmain()\n"

_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
# It ends with this process, however that ends.
_UNSHARE = ("setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--kill-child")
_INSIDE = ("env", "-i", "LANG=C.UTF-8", "HOME=/root", "PATH=/usr/local/bin:/usr/sbin:/usr/bin")

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Machine:
    """One that has started, with SOS in ``/opt/sos``.

    :param directory: an empty one.
    :raises OSError: where there cannot be one.
    """

    def __init__(self, directory: Path) -> None:
        _check()
        _install(directory / "sos")
        directory.joinpath("mounts").mkdir()
        self._group = _control_groups() / f"sos-test-{os.getpid()}"
        self._group.mkdir()
        arguments = (
            directory / "mounts",
            directory / "sos",
            sysconfig.get_path("purelib"),
            _PYTHON,
            f"{ADDRESS}/24",
        )
        log_path = directory / "log"
        with open(log_path, "wb") as log:
            self._process = subprocess.Popen(
                [*_UNSHARE, "sh", "-c", _ENTER, "sh", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: self._group.joinpath("cgroup.procs").write_text("0"),
            )
        wait_until(lambda: self._ended or self._runs)
        if self._ended or not self._runs:
            self.stop()
            raise OSError(log_path.read_text().strip() or "systemd did not start")

    @property
    def _ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def _first(self) -> str:
        """The process that is the machine's first, as it is known here; "" if there is none."""
        path = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        return Path(path).read_text().strip()

    @property
    def _runs(self) -> bool:
        states = ("running", "degraded")
        return bool(self._first) and self.ask("systemctl is-system-running") in states

    def _inside(self, command: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["nsenter", "--target", self._first, *_NAMESPACES, *_INSIDE, "sh", "-ec", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            **options,
        )

    def ask(self, command: str) -> str:
        """Return what *command*, of the shell, writes in there, whatever becomes of it."""
        return self._inside(command).stdout.strip()

    def run(self, command: str, input: str | None = None) -> str:
        """Return what *command* writes, which has to succeed."""
        done = self._inside(command, input=input)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def journal(self, unit: str) -> str:
        """Return what is in the journal about *unit*."""
        return self.run(f"journalctl --sync; journalctl --no-pager --unit '{unit}'")

    def property(self, unit: str, name: str) -> str:
        """Return what systemd says of *unit*."""
        return self.run(f"systemctl show --property {name} --value '{unit}'")

    def stop(self) -> None:
        """End it with all that runs there, and leave nothing."""
        self._process.kill()
        self._process.wait()
        groups = sorted((path for path in self._group.rglob("*") if path.is_dir()), reverse=True)
        for each in (*groups, self._group):
            wait_until(lambda each=each: _removed(each))


def _check() -> None:
    if os.geteuid() != 0:
        raise OSError("this is not root")
    for program in ("unshare", "nsenter", "setpriv", "ip", "systemctl", "pivot_root"):
        if shutil.which(program) is None:
            raise OSError(f"there is no {program}")
    if re.match("/(home|root|run/user)/", os.path.realpath(sys.executable)):
        raise OSError(f"{sys.executable} is somebody's own, which a unit does not see")


def _control_groups() -> Path:
    """Return where control groups of version 2 are mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    raise OSError("there are no control groups of version 2")


def _install(directory: Path) -> None:
    """Write into *directory* what an installation has, but for the modules of others."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(directory)]
    subprocess.run(command, check=True)
    for name, text in (("twistd", _TWISTD), ("sos", _SOS)):
        (directory / "bin" / name).write_text(text)
        (directory / "bin" / name).chmod(0o755)
    modules = directory / "lib" / _PYTHON / "site-packages"
    for package in ("sos", "twisted"):
        shutil.copytree(
            ROOT / package, modules / package, ignore=shutil.ignore_patterns("*.cache", "*.pyc")
        )
    shutil.copytree(ROOT / "etc", directory / "share/sos")


def _removed(group: Path) -> bool:
    with suppress(FileNotFoundError):
        try:
            group.rmdir()
        except OSError:  # what has been killed takes a moment to be gone
            return False
    return True
