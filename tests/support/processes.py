"""The daemons and the command as real processes."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile

from tests.support.forking import ForkedProcess
from tests.support.waiting import listens, wait_until

ROOT = Path(__file__).parent.parent.parent

#: How twistd is run in an interpreter of its own.
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
#: How ``sos`` is run in an interpreter of its own.
SOS = [sys.executable, "-c", "from sos.cli import main; main()"]
# That a daemon may take to stop.
_STOP_SECONDS = 60


class Place:
    """A directory with a home in it, where processes are started.

    :ivar forked: whether they are forked, see :mod:`tests.support.forking`, or each has an
        interpreter of its own.
    :ivar end_seconds: that a process may take to end; the machine may be busy.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir()
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }
        self.forked = True
        self.end_seconds = 60
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
        """Run *program* to its end, in an interpreter of its own."""
        return subprocess.run(
            [*program, *shlex.split(command)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            timeout=self.end_seconds,
            **options,
        )

    def sos(self, command: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run ``sos`` to its end; *input* is what it reads."""
        return self._run_to_end("sos", SOS, command, input)

    def run_twistd(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run ``twistd``, which ends by itself."""
        return self._run_to_end("twistd", TWISTD, command)

    def _run_to_end(
        self, name: str, program: list[str], command: str, input: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        if not self.forked:
            return self.run(program, command, input=input)
        with ExitStack() as files:
            named = [files.enter_context(NamedTemporaryFile()) for _ in range(3)]
            named[0].write(input)
            named[0].flush()
            names = tuple(file.name for file in named)
            process = ForkedProcess(
                name, shlex.split(command), self.directory, self.environment, names
            )
            try:
                status = process.wait(self.end_seconds)
            finally:
                process.kill()
            output, errors = (Path(name).read_bytes() for name in names[1:])
        return subprocess.CompletedProcess(process.args, status, output, errors)

    def start_sos(self, command: str, **options) -> subprocess.Popen[bytes]:
        """Start ``sos`` in an interpreter of its own, and do not wait for it."""
        return subprocess.Popen(
            [*SOS, *shlex.split(command)], cwd=self.directory, env=self.environment, **options
        )

    def stop(self) -> None:
        """Stop what runs, all at once."""
        for daemon in self.running:
            daemon.send(signal.SIGTERM)
        for daemon in self.running:
            daemon.stop()


class Daemon:
    """One ``twistd -n`` process."""

    process: subprocess.Popen[bytes] | ForkedProcess

    def __init__(
        self,
        place: Place,
        command: str,
        files: int | None = None,
        within: tuple[str, ...] = (),
    ) -> None:
        if "sos-api" in command and "-admin" not in command:
            command += " --admin-port 0"  # for there are several on this machine
        self.log_path = place.directory / f"daemon{len(place.running)}.log"
        arguments = ["-n", *shlex.split(command)]
        with open(self.log_path, "ab") as log:
            if place.forked and not within:
                names = (os.devnull, log.name, log.name)
                self.process = ForkedProcess(
                    "twistd", arguments, place.directory, place.environment, names, files
                )
                return
            limit = (resource.RLIMIT_NOFILE, (files, files))
            self.process = subprocess.Popen(
                [*within, *TWISTD, *arguments],
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
        """The most that has been resident, in bytes; of a daemon that was not forked."""
        return self._memory("VmHWM")

    @property
    def memory(self) -> int:
        """What is resident now, in bytes; of a daemon that was not forked."""
        return self._memory("VmRSS")

    def _memory(self, kind: str) -> int:
        assert isinstance(self.process, subprocess.Popen)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{kind}:")[2].split()[0]) * 1024

    def wait_for(self, ports) -> None:
        """Wait until it listens on *ports*."""
        for port in ports:
            assert wait_until(lambda port=port: listens(port) or self.ended), "it does not start"
        assert not self.ended, self.log

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        """Send a signal, which a daemon that a test has frozen receives as well."""
        if not self.ended:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it, and wait until it has ended."""
        self.send(number)
        self.process.wait(_STOP_SECONDS)
