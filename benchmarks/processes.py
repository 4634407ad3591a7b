"""Processes that are measured: starting them, stopping them, what they have used.

Linux only: the figures are those of proc(5).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
from attrs import frozen

HOST = "127.0.0.1"

#: Seconds that a server may take to start, and to stop.
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0

# Between two looks at the memory of processes.
_SAMPLE_SECONDS = 0.1

_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Process:
    """A process, with all that it has started."""

    name: str
    pid: int

    def tree(self) -> list[int]:
        """Return its number, and those of all that it has started."""
        return _tree(self.pid)

    def cpu_seconds(self) -> float:
        """Return what it and its children, the ended ones too, have used so far."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self.tree()) / _TICKS

    def peak_memory(self) -> int:
        """Return the most bytes that the largest of its processes has had resident."""
        return max(_status(pid, "VmHWM") for pid in self.tree())

    def private_memory(self) -> int:
        """Return the bytes that the largest of its processes has resident for itself.

        Pages of mapped files, such as an index, are not among them: the kernel takes those back
        when memory is short.
        """
        return max(_status(pid, "RssAnon") for pid in self.tree())


@contextlib.contextmanager
def private_peaks(processes: Sequence[Process]) -> Iterator[dict[str, int]]:
    """Give the most private memory of each of *processes* in the block, by name, at its end."""
    peaks = {each.name: 0 for each in processes}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            for each in processes:
                peaks[each.name] = max(peaks[each.name], each.private_memory())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        ended.set()
        sampler.join()


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # One that has ended since it was listed is nobody's child.
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` behind the name, which may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pid: int, name: str) -> int:
    """Return the bytes called *name* in proc(5)'s ``status``, 0 if the process has ended."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024
    return 0


def find(program: str, package: str) -> str:
    """Return the path of *program*, which the Debian *package* has."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if path is None:
        raise click.ClickException(f"{program} is missing: apt-get install {package}")
    return path


@contextlib.contextmanager
def started(
    name: str, command: list[str], directory: Path, environment: dict[str, str], *urls: str
) -> Iterator[Process]:
    """Run *command*, which listens where *urls* say, and stop it at the end."""
    log = directory / f"{name}.log"
    with open(log, "ab") as output:
        child = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C is for the benchmark, which stops its servers itself.
            start_new_session=True,
        )
    try:
        for url in urls:
            _wait_for(url, child, log)
        yield Process(name, child.pid)
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, urlsplit(url).port), 1).close()
            return
        time.sleep(0.05)
    raise click.ClickException(f"{log.stem} does not start:\n{log.read_text()}")


def free_urls(count: int) -> list[str]:
    """Return the beginnings of *count* URLs at ports that nobody has."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [f"http://{HOST}:{each.getsockname()[1]}" for each in sockets]
