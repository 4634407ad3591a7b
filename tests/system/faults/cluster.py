"""Blob servers on hosts and disks of their own, to which things happen."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.ports import free_ports
from tests.support.processes import Daemon, Place
from tests.system.faults.network import Network

PORT = 3001
#: Bytes of each disk: all that the long form stores fits on one.
_DISK = 1 << 30
_PIECE = bytes(1 << 20)
# Seconds that a server may take to give a blob back.
_PATIENCE = 5.0


class Server:
    """A blob server."""

    def __init__(self, place: Place, network: Network, number: int) -> None:
        self.number = number
        self.url = f"http://{network.address(number)}:{PORT}"
        self._place = place
        self._network = network
        self._disk = place.directory / f"disk{number}"
        self._disk.mkdir()
        # What was damaged or hidden, and is not known to be until it is read.
        self._unmet: set[str] = set()
        #: All that something was done to.
        self.touched: set[str] = set()
        options = ["-t", "tmpfs", "-o", f"size={_DISK}", "sos-test", str(self._disk)]
        subprocess.run(["mount", *options], check=True)
        self.start()

    @property
    def store(self) -> Path:
        return self._disk / "store"

    def start(self) -> None:
        # It is asked through the network, which may have been cut.
        self.daemon = self._place.twistd(
            f"sos-blob --no-auth --host 0.0.0.0 --port {PORT} --store {self.store} --reserve 1M",
            within=self._network.within(self.number),
        )

    @property
    def _aside(self) -> Path:
        """Where the store is while something else is in its place."""
        return self._disk / "aside"

    def remove(self) -> None:
        self.daemon.stop(signal.SIGKILL)
        subprocess.run(["umount", "-l", str(self._disk)], check=True)

    # What happens to it, and how that ends.

    def cut(self, random: Random) -> None:
        self._network.cut(self.number)

    def kill(self, random: Random) -> None:
        self.daemon.stop(signal.SIGKILL)

    def freeze(self, random: Random) -> None:
        self.daemon.process.send_signal(signal.SIGSTOP)

    def fill(self, random: Random) -> None:
        """Leave no byte free on its disk."""
        with open(self._disk / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(_PIECE)

    def replace(self, random: Random) -> None:
        """Put an empty directory in the place of its store, while it runs."""
        if not self._aside.exists():
            self.store.rename(self._aside)
            self.store.mkdir()

    def wipe(self, random: Random) -> None:
        """Take all that it has stored."""
        self._stop()
        shutil.rmtree(self.store, ignore_errors=True)  # it may not have got to make one
        self.start()

    def lose_index(self, random: Random) -> None:
        """Take its index, one way or another: it says so, and begins anew without its store."""
        self._stop()
        data = self.store / "index/data.mdb"
        if (self.store / "store.json").exists():
            how = random.randrange(3)
            if how == 0:
                data.unlink()
            else:
                os.truncate(data, 0 if how == 1 else data.stat().st_size - 4096)
            refused = self._place.run_twistd(f"-n sos-blob --port 0 --store {self.store}")
            assert refused.returncode != 0
            assert b"the index" in refused.stdout + refused.stderr, refused
        self.wipe(random)

    def _stop(self) -> None:
        self.daemon.stop(signal.SIGKILL)
        if self._aside.exists():
            shutil.rmtree(self.store)
            self._aside.rename(self.store)

    def hide(self, random: Random) -> None:
        """Make one of ten of its files unreadable, for root too."""
        hidden = self._disk / "hidden"
        hidden.mkdir(exist_ok=True)
        for path in self._some_bodies(random):
            path.rename(hidden / path.name)
            path.symlink_to(path)
            self._touch(path.name)

    def _touch(self, id: str) -> None:
        self._unmet.add(id)
        self.touched.add(id)

    def meets(self) -> bool:
        """Have it read what was done to its files, as a scrub would; tell whether it could."""
        try:
            while self._unmet:
                id = next(iter(self._unmet))
                self.read(id)
                self._unmet.discard(id)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def read(self, id: str) -> bool:
        """Tell whether it gives the whole of *id* back now."""
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=_PATIENCE)
        try:
            connection.request("GET", f"/blob/{id}")
            response = connection.getresponse()
            response.read()
            return response.status == 200
        finally:
            connection.close()

    def _some_bodies(self, random: Random) -> list[Path]:
        bodies = sorted(path for path in (self.store / "bodies").rglob("*") if path.is_file())
        return random.sample(bodies, len(bodies) // 10 + bool(bodies))

    def corrupt(self, random: Random) -> None:
        """Change a bit in, or cut short, one of ten of its files, while it runs."""
        for path in self._some_bodies(random):
            self._touch(path.name)
            with open(path, "r+b") as file:
                size = file.seek(0, 2)
                position = random.randrange(size)
                if random.random() < 0.2:
                    file.truncate(position)
                    continue
                file.seek(position)
                (byte,) = file.read(1)
                file.seek(position)
                file.write(bytes([byte ^ 1 << random.randrange(8)]))

    def recover(self) -> None:
        """End whatever has happened to it but what it has lost."""
        self._network.mend(self.number)
        (self._disk / "ballast").unlink(missing_ok=True)
        if self._aside.exists():
            self._stop()
        if self.daemon.ended:
            self.start()
        else:
            self.daemon.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it anew, with its store scrubbed meanwhile."""
        self.daemon.stop()
        self._place.sos(f"scrub --store {self.store}")
        self.start()


class Api:
    """An API server in front of *servers*."""

    def __init__(self, place: Place, servers: list[Server]) -> None:
        self._place = place
        self._servers = servers
        self.ports = free_ports(2)
        self._config = place.directory / f"sos{self.ports[0]}.conf"
        self._configure(servers)
        self.daemon: Daemon
        self.start()

    def _configure(self, servers: list[Server]) -> None:
        self._config.write_text("".join(f"{each.url}\n" for each in servers))

    def split(self, random: Random) -> None:
        """Have it know of two servers alone, or of all again: the other API server knows all."""
        knows_all = len(self._config.read_text().split()) == len(self._servers)
        self._configure(random.sample(self._servers, 2) if knows_all else self._servers)
        self.daemon.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        up, down = self.ports
        self.daemon = self._place.twistd(
            f"sos-api --config {self._config} --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --write-copies 2 --min-copies 2 --replicate-every 3 "
            "--chunk-size 1M --allow-delete",
            up,
            down,
        )

    def kill(self, random: Random) -> None:
        """Kill it, and start it anew."""
        self.daemon.stop(signal.SIGKILL)
        self.start()

    def stop(self) -> None:
        """Stop it; when it is started again it knows all servers."""
        self.daemon.stop()
        self._configure(self._servers)
