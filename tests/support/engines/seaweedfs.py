"""SeaweedFS with its S3 gateway, as one process in a directory.

It is not in PyPI: whoever has its program names that to pytest by ``--seaweedfs``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.engines.swift import ACCESS_KEY, REGION, SECRET_KEY
from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until

_HOST = "127.0.0.1"
_START_SECONDS = 90.0
_SERVERS = ("master", "volume", "filer", "s3")


class SeaweedFS:
    """A SeaweedFS of its own, which knows the same keys as :class:`~.swift.Swift`.

    :param program: the path of ``weed``.
    :param directory: for its files.
    """

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        ports = free_ports(2 * len(_SERVERS))
        self._ports = dict(zip(_SERVERS, ports, strict=False))
        self._for_grpc = dict(zip(_SERVERS, ports[len(_SERVERS) :], strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://{_HOST}:{self._ports['s3']}"

    def url(self, bucket: str, prefix: str = "") -> str:
        """Return what to give to ``--store``."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region={REGION}"

    def start(self) -> None:
        """Start it, and wait until it has room for a body."""
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        user = {"name": "tester", "credentials": keys, "actions": rights}
        config = self._directory / "s3.json"
        config.write_text(json.dumps({"identities": [user]}))
        command = [self._program, "server", f"-dir={self._directory}", f"-ip={_HOST}"]
        command += ["-filer", "-s3", f"-s3.config={config}", "-volume.max=100"]
        command += ["-master.volumeSizeLimitMB=64"]
        command += [f"-{name}.port={port}" for name, port in self._ports.items()]
        command += [f"-{name}.port.grpc={port}" for name, port in self._for_grpc.items()]
        with open(self._directory / "weed.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        assert wait_until(self._is_ready, _START_SECONDS), self._log()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        try:
            with urlopen(f"http://{_HOST}:{self._ports['master']}/dir/assign") as answer:
                return "fid" in json.load(answer) and listens(self._ports["s3"])
        except (URLError, ConnectionError):
            return False

    def _log(self) -> str:
        return (self._directory / "weed.log").read_text()[-2000:]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
