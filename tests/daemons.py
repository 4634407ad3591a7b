"""The daemons and the command as real processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
#: How the command is run.
SOS = [sys.executable, "-c", "from sos.cli import main; main()"]


class Place:
    """A directory with a home in it, where processes are started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir()
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }
        self.running: list[Daemon] = []

    def twistd(
        self, command: str, *ports: int, files: int | None = None, within: tuple[str, ...] = ()
    ) -> Daemon:
        """Start ``twistd -n``, and wait until it listens on *ports*.

        :param files: most that it may have open.
        :param within: a program, with arguments, that starts it somewhere.
        """
        daemon = Daemon(self, command, files, within)
        self.running.append(daemon)
        daemon.wait_for(ports)
        return daemon

    def run(self, program: list[str], command: str, **options) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return subprocess.run(
            [*program, *shlex.split(command)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            timeout=60,
            **options,
        )

    def sos(self, command: str, **options) -> subprocess.CompletedProcess:
        """Run ``sos`` to its end."""
        return self.run(SOS, command, **options)

    def start_sos(self, command: str, **options) -> subprocess.Popen:
        """Start ``sos``, and do not wait for it."""
        return subprocess.Popen(
            [*SOS, *shlex.split(command)], cwd=self.directory, env=self.environment, **options
        )

    def run_twistd(self, command: str) -> subprocess.CompletedProcess:
        """Run ``twistd``, which ends by itself."""
        return self.run(_TWISTD, command)

    def stop(self) -> None:
        for daemon in self.running:
            daemon.stop()


class Daemon:
    """One ``twistd -n`` process."""

    def __init__(
        self,
        place: Place,
        command: str,
        files: int | None = None,
        within: tuple[str, ...] = (),
    ) -> None:
        if "sos-api" in command and "-admin" not in command:
            command += " --admin-port 0"  # for there are several on this machine
        limit = (resource.RLIMIT_NOFILE, (files, files))
        self.log_path = place.directory / f"daemon{len(place.running)}.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*within, *_TWISTD, "-n", *shlex.split(command)],
                cwd=place.directory,
                env=place.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=(lambda: resource.setrlimit(*limit)) if files else None,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def peak_memory(self) -> int:
        """The most that has been resident, in bytes."""
        return self._memory("VmHWM")

    @property
    def memory(self) -> int:
        """What is resident now, in bytes."""
        return self._memory("VmRSS")

    def _memory(self, kind: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{kind}:")[2].split()[0]) * 1024

    def wait_for(self, ports) -> None:
        for port in ports:
            assert wait_until(lambda port=port: listens(port) or self.ended), "it does not start"
        assert not self.ended, self.log

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        if not self.ended:
            self.process.send_signal(signal_number)
            self.process.send_signal(signal.SIGCONT)  # what a test has frozen cannot end
            self.process.wait(20)


def _ports() -> Iterator[int]:
    # Not those that the system gives to connections, nor those of another process
    # that runs tests at the same time: until a daemon listens there, nobody else does.
    first = 10_000 * (1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2)
    ports = range(first, first + 10_000)
    start = os.getpid() * 100 % len(ports)
    return itertools.cycle([*ports[start:], *ports[:start]])


_PORTS = _ports()


def free_ports(count: int) -> list[int]:
    """Return ports of this machine at which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
    return found


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition, seconds: float = 30.0) -> bool:
    """Ask *condition* until it holds; real processes have no clock to turn."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def eventually(ask, holds):
    """Return what *ask* returns once that *holds*."""
    answers = []

    def found() -> bool:
        answers.append(ask())
        return holds(answers[-1])

    assert wait_until(found), answers[-1]
    return answers[-1]


def fetch(url: str, body: bytes | None = None, headers=(), method: str | None = None) -> bytes:
    """Return what is answered to a GET, or with a *body* to a POST, or to another *method*."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def status_of(url: str, body: bytes | None = None) -> int:
    """Return the status of the answer to the same."""
    try:
        fetch(url, body)
    except urllib.error.HTTPError as error:
        return error.code
    return 200
