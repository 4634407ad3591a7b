"""Blob servers on hosts and disks of their own, to which things happen."""

from __future__ import annotations

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
#: Bytes of each disk.
_DISK = 600 << 20
_PIECE = bytes(1 << 20)


class Server:
    """A blob server."""

    def __init__(self, place: Place, network: Network, number: int) -> None:
        self.number = number
        self.url = f"http://{network.address(number)}:{PORT}"
        self._place = place
        self._network = network
        self._disk = place.directory / f"disk{number}"
        self._disk.mkdir()
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

    def wipe(self, random: Random) -> None:
        """Take all that it has stored."""
        self.daemon.stop(signal.SIGKILL)
        shutil.rmtree(self.store, ignore_errors=True)  # it may not have got to make one
        self.start()

    def corrupt(self, random: Random) -> None:
        """Change a bit in, or cut short, one of ten of its files, while it runs."""
        bodies = sorted(path for path in (self.store / "bodies").rglob("*") if path.is_file())
        for path in random.sample(bodies, len(bodies) // 10 + bool(bodies)):
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
        self.ports = free_ports(2)
        (place.directory / "sos.conf").write_text("".join(f"{each.url}\n" for each in servers))
        self.daemon: Daemon
        self.start()

    def start(self) -> None:
        up, down = self.ports
        self.daemon = self._place.twistd(
            f"sos-api --config sos.conf --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --write-copies 2 --min-copies 2 --replicate-every 3 "
            "--chunk-size 1M",
            up,
            down,
        )

    def kill(self) -> None:
        """Kill it, and start it anew."""
        self.daemon.stop(signal.SIGKILL)
        self.start()

    def stop(self) -> None:
        self.daemon.stop()
