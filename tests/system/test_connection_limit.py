"""A blob server with more clients than it can want, as a real process."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time

import pytest

from tests.support.http import ask
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

CLIENTS = 1000


@pytest.fixture
def place(place):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    place.forked = False  # for its memory is measured
    yield place
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def get(port: int) -> tuple[int, float]:
    """Ask once; return the status, and how many seconds that took."""
    begun = time.perf_counter()
    status = ask(f"http://127.0.0.1:{port}/alive").status
    return status, time.perf_counter() - begun


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


class Tricklers:
    """Clients that send a byte a second: half of them of a head, half of a body."""

    HEAD = b"GET /alive HTTP/1.1\r\nX-Slow: "
    BODY = b"POST /blob/abc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"

    def __init__(self, port: int, count: int) -> None:
        self.left = selectors.DefaultSelector()
        for number in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=60)
            client.setblocking(False)
            client.send(self.HEAD if number % 2 else self.BODY)
            self.left.register(client, selectors.EVENT_READ)

    def trickle(self, part: int = 0, parts: int = 1) -> int:
        """Send a byte each, or one *part* of them; return how many have not been closed."""
        for key in list(self.left.get_map().values())[part::parts]:
            try:
                key.fileobj.send(b"a")
            except OSError:
                self.forget(key.fileobj)
        for key, _ in self.left.select(timeout=0):
            try:
                gone = not key.fileobj.recv(65536)
            except OSError:
                gone = True
            if gone:
                self.forget(key.fileobj)
        return len(self.left.get_map())

    def forget(self, client) -> None:
        self.left.unregister(client)
        client.close()

    def go(self) -> None:
        for key in list(self.left.get_map().values()):
            self.forget(key.fileobj)


def test_a_thousand_that_trickle(place):
    """They are sent away within 30 s, cost little memory, and others are served meanwhile."""
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store data", port)
    before = []
    for _ in range(200):
        time.sleep(0.01)
        before.append(get(port)[1])
    memory = daemon.memory
    begun = time.perf_counter()
    clients = Tricklers(port, CLIENTS)
    meanwhile: list[float] = []
    left = CLIENTS
    for tick in range(3000):  # of 10 ms, so that the bytes are spread over each second
        left = clients.trickle(tick % 100, 100)
        if not left:
            break
        if tick % 10 == 0:
            status, seconds = get(port)
            assert status == 200
            meanwhile.append(seconds)
        time.sleep(max(0, begun + tick / 100 - time.perf_counter()))
    took = time.perf_counter() - begun
    clients.go()
    growth = daemon.peak_memory - memory
    print(
        f"\n{CLIENTS} clients at a trickle: {left} left after {took:.0f} s, "
        f"{growth / (1 << 20):.0f} MiB for them; others' p99 was {p99(before) * 1000:.1f} ms "
        f"before and {p99(meanwhile) * 1000:.1f} ms then"
    )
    assert left == 0
    assert growth < 100 << 20


def is_well(port):
    """Tell whether a request is answered: as long as the crowd is there it can be cut off."""
    with contextlib.suppress(ConnectionResetError):
        return get(port)[0] == 200
    return False


class TestFewFiles:
    FILES = 256
    UPLOAD = (
        b"POST /blob/abc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )

    @pytest.fixture
    def port(self, place):
        (port,) = free_ports(1)
        place.twistd(f"sos-blob --port {port} --store data", port, files=self.FILES)
        return port

    def test_a_crowd_is_told_to_come_again(self, port):
        """503, or closed without a word; and as soon as they are gone all is well."""
        with contextlib.ExitStack() as held:
            answers = []
            for _ in range(300):
                client = socket.create_connection(("127.0.0.1", port), timeout=60)
                held.enter_context(client)
                client.sendall(self.UPLOAD)
                with contextlib.suppress(ConnectionResetError):
                    # What is answered has been read: nobody here is idle.
                    answers.append(client.recv(65536)[:12])
            assert answers.count(b"HTTP/1.1 100") == 40  # half of 80
            assert answers.count(b"HTTP/1.1 503") > 0
        assert wait_until(lambda: is_well(port))

    def test_idle_connections_give_way(self, port):
        """A client that has nothing to ask does not keep others out."""
        with contextlib.ExitStack() as held:
            for _ in range(120):
                held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            assert [get(port)[0] for _ in range(20)] == [200] * 20
