"""Runs of the victim under strace, which counts its system calls or interferes with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.processes import ROOT
from tests.support.waiting import wait_until

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None,
    reason="strace is not installed (Debian: apt-get install strace)",
)

#: The calls through which an upload reaches the disk.
CALLS = (
    "openat,close,write,pwrite64,writev,pwritev,lseek,ftruncate,fallocate,msync,fsync,fdatasync,"
    "link,linkat,unlink,unlinkat,rename,mkdir,statfs,fstat,newfstatat"
)

_CALL = re.compile(r"\d+ +(\w+)\(")


@frozen
class Outcome:
    """What the victim said before it ended or was killed."""

    lines: list[str]
    killed: bool

    @property
    def acknowledged(self) -> list[str]:
        return [line.split()[1] for line in self.lines if line.startswith("ACK ")]

    @property
    def gone(self) -> list[str]:
        return [line.split()[1] for line in self.lines if line.startswith("GONE ")]

    @property
    def errors(self) -> list[str]:
        return [line.split()[1] for line in self.lines if line.startswith("ERR ")]


def run(
    directory: Path,
    actions: Sequence[int | str],
    *strace: str,
    when: str = "after",
    log: Path | None = None,
) -> Outcome:
    """Let the victim take *actions*, traced from when it is ready."""
    victim = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.system.crash.victim",
            str(directory),
            when,
            *map(str, actions),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    ready = victim.stdout.readline()
    assert ready == "READY\n", ready + victim.communicate()[1]
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-p", str(victim.pid), "-o", str(log or os.devnull), *strace],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_until(lambda: _traced(victim.pid) or tracer.poll() is not None)
        assert tracer.poll() is None, tracer.communicate()[1]
        output, errors = victim.communicate("go\n", timeout=60)
    finally:
        victim.kill()
        tracer.wait(20)
        tracer.stderr.close()
    assert victim.returncode in (0, -9), errors
    return Outcome(output.splitlines(), victim.returncode == -9)


def calls_of(
    directory: Path, actions: Sequence[int | str], when: str = "after"
) -> list[tuple[str, int]]:
    """Return each system call that *actions* make: its name, and which of that name.

    Calls are counted in each thread by itself, as strace does.
    """
    log = directory.with_suffix(".log")
    outcome = run(directory, actions, "-e", f"trace={CALLS}", when=when, log=log)
    assert len(outcome.acknowledged) + len(outcome.gone) == len(actions), outcome
    most: Counter[str] = Counter()
    threads: dict[str, Counter[str]] = {}
    for line in log.read_text().splitlines():
        if match := _CALL.match(line):
            counts = threads.setdefault(line.split()[0], Counter())
            counts[match[1]] += 1
            most[match[1]] = max(most[match[1]], counts[match[1]])
    return [(name, n) for name, count in sorted(most.items()) for n in range(1, count + 1)]


def _traced(pid: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
