"""Large bodies: how long one takes, and what memory that, and many at once, takes."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import click

from benchmarks.processes import private_peaks
from benchmarks.servers import Service

_MIB = 1 << 20
_SIZE = 256 * _MIB
_ROUNDS = 3
_AT_ONCE = 16
_SIZE_AT_ONCE = 64 * _MIB
_HEAD = 64

#: By service and direction: at most so many times as long as nginx.
TARGETS = {("API", "up"): 2.0, ("API", "down"): 2.5}

#: Most bytes that a process may have resident for itself with many uploads at once.
PEAK_TARGET = 150 * _MIB


def transfers(services: dict[str, Service], path: Path) -> dict[str, Any]:
    """Upload and download the large file *path*, which is made for it; return the figures.

    :param services: by name; the one called nginx is what the others are compared with.
    """
    _fill(path, _SIZE)
    seconds: dict[tuple[str, str], list[float]] = {}
    peaks: dict[tuple[str, str], list[dict[str, int]]] = {}
    for _ in range(_ROUNDS):
        for name, service in services.items():
            _make_new(path)
            took, peak, url = _with_peak(service, partial(_put, service, path))
            seconds.setdefault((name, "up"), []).append(took)
            peaks.setdefault((name, "up"), []).append(peak)
            os.sync()  # what one has left unwritten is not for the next to wait for
            took, peak, _ = _with_peak(service, partial(_get, url, _SIZE))
            seconds.setdefault((name, "down"), []).append(took)
            peaks.setdefault((name, "down"), []).append(peak)
    path.unlink()
    yardstick = {direction: median(seconds["nginx", direction]) for direction in ("up", "down")}
    figures = [
        {
            "service": name,
            "direction": direction,
            "seconds": median(seconds[name, direction]),
            "ratio": median(seconds[name, direction]) / yardstick[direction],
            "target": TARGETS.get((name, direction)),
            "peak_bytes": _largest(peaks[name, direction]),
        }
        for direction in ("up", "down")
        for name in services
    ]
    client = "curl" if shutil.which("curl") else "http.client"
    return {"client": client, "size": _SIZE, "transfers": figures}


def at_once(service: Service, place: Path) -> dict[str, Any]:
    """Make many uploads at once, of files in the directory *place*; return the figures."""
    place.mkdir()
    paths = [place / f"at-once-{number}" for number in range(_AT_ONCE)]
    for path in paths:
        _fill(path, _SIZE_AT_ONCE)
    os.sync()

    def upload_all() -> str:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return " ".join(threads.map(lambda path: _put(service, path), paths))

    took, peaks, _ = _with_peak(service, upload_all)
    for path in paths:
        path.unlink()
    return {
        "uploads": _AT_ONCE,
        "size": _SIZE_AT_ONCE,
        "seconds": took,
        "peak_bytes": peaks,
        "target": PEAK_TARGET,
    }


def _with_peak(service: Service, work: Callable[[], str]) -> tuple[float, dict[str, int], str]:
    """Return the seconds of *work*, the peaks in it, and what it returns."""
    with private_peaks(service.processes) as peaks:
        begun = time.perf_counter()
        result = work()
        took = time.perf_counter() - begun
    return took, peaks, result


def _largest(peaks: list[dict[str, int]]) -> dict[str, int]:
    return {name: max(each[name] for each in peaks) for name in peaks[0]}


def _fill(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        for _ in range(size // _MIB):
            file.write(os.urandom(_MIB))


def _make_new(path: Path) -> None:
    """Make the file another one than it was, so that no server has it already."""
    with open(path, "r+b") as file:
        file.write(os.urandom(_HEAD))


def _put(service: Service, path: Path) -> str:
    """Upload a file; return where it is to be had."""
    name = secrets.token_hex(8)
    url = service.upload_url(name)
    if shutil.which("curl"):
        answer = _curl("-X", service.method, "-T", str(path), url)
    else:
        answer = _ask(service.method, url, path)
    return service.download_url(name, answer)


def _get(url: str, size: int) -> str:
    """Download *size* bytes, and drop them; return the URL."""
    if shutil.which("curl"):
        got = int(_curl("-o", os.devnull, "-w", "%{size_download}", url))
    else:
        got = int(_ask("GET", url))
    if got != size:
        raise click.ClickException(f"{url}: {got} bytes, not {size}")
    return url


def _curl(*arguments: str) -> bytes:
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "-H", "Expect:"]
    command += ["-H", "Content-Type: application/octet-stream", *arguments]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise click.ClickException(f"{arguments[-1]}: {done.stderr.decode().strip()}")
    return done.stdout


def _ask(method: str, url: str, path: Path | None = None) -> bytes:
    """Do without curl: return the answer to an upload, the length of that to a download."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, blocksize=_MIB)
    try:
        if path is None:
            connection.request(method, parts.path)
        else:
            headers = {
                "Content-Length": str(path.stat().st_size),
                "Content-Type": "application/octet-stream",
            }
            with open(path, "rb") as file:
                connection.request(method, parts.path, file, headers)
        response = connection.getresponse()
        if response.status >= 300:
            raise click.ClickException(f"{url}: {response.status} {response.reason}")
        if path is not None:
            return response.read()
        buffer, length = bytearray(_MIB), 0
        while count := response.readinto(buffer):
            length += count
        return b"%d" % length
    finally:
        connection.close()
