"""Daemons of several processes, as real processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sos.digest import PartitionDigest
from sos.stores.local.index import Index
from sos.stores.record import decode
from tests.support.blobs import body_of, content_id
from tests.support.http import connect
from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until
from tests.system.crash.tracing import needs_strace

# Runs a program of Python's, after -c, that takes a worker to hang after six seconds.
_IMPATIENT = """
import sys
from sos.tap import workers
workers.BEAT_SECONDS = 1.0
del sys.argv[:3]
exec(sys.argv[0])
"""


@pytest.fixture
def port():
    (port,) = free_ports(1)
    return port


def start(place, port, options="", within=()):
    """Start a blob server of two workers, and wait until both serve."""
    command = f"sos-blob --port {port} --store data --workers 2 {options}"
    daemon = place.twistd(command, port, within=within)
    wait_for_start(daemon)
    (client,) = connected(port, 1)
    ask(client, "GET", "/alive")
    client.close()
    return daemon


def wait_for_start(daemon):
    """Wait until both workers are there; one that answers has a supervisor that runs."""
    assert wait_until(lambda: len(processes(daemon)) == 2 or daemon.ended)


def processes(daemon) -> dict[int, int]:
    """Tell which process each worker is now, by their numbers."""
    found = re.findall(r"worker (\d) serves, process (\d+)", daemon.log)
    return {int(number): int(process) for number, process in found}


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def refusal(place, command):
    """Run a daemon that cannot start, and return the one line in which it says why."""
    ended = place.run_twistd(command)
    output = ended.stdout.decode() + ended.stderr.decode()
    assert ended.returncode == 1, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "cannot start" in line]
    return line


def connected(port, count):
    clients = [connect(f"http://127.0.0.1:{port}") for _ in range(count)]
    for client in clients:
        client.connect()
    return clients


def ask(client, method, path, body=None) -> bytes:
    client.request(method, path, body)
    response = client.getresponse()
    content = response.read()
    assert response.status == 200, content
    return content


def recount(directory):
    """Count anew what the index of a store has in each partition."""
    index = Index(directory / "index", durable=True)
    digests: dict[str, PartitionDigest] = {}
    for id in index.listing(None, 1 << 30, None):
        record = decode(id, index.get(id))
        before = digests.get(id[:3], PartitionDigest())
        digests[id[:3]] = before.with_blob(record.size, record.sum())
    logged = index.digests()
    index.close()
    return digests, logged


class Load:
    """Clients that upload until they are told to stop, each over connections of its own."""

    def __init__(self, port, clients):
        self.acknowledged: dict[str, bytes] = {}
        self.failures: list[Exception] = []
        self._port = port
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, client):
        for number in range(1 << 30):
            if self._stopped.is_set():
                break
            # Every other body is one that another client sends at the same time.
            seed = number if number % 2 else (client << 32) + number
            body = body_of(1000 if number % 3 else 100_000, seed=seed)
            connection = connect(f"http://127.0.0.1:{self._port}")
            try:
                ask(connection, "POST", f"/blob/{content_id(body)}", body)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
            else:
                self.acknowledged[content_id(body)] = body
            finally:
                connection.close()

    def goes_on(self):
        """Return once as much again has been acknowledged as one client can have had waiting."""
        before = len(self.acknowledged)
        return wait_until(lambda: len(self.acknowledged) > before + 2 * len(self._threads))

    def stop(self):
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def test_connections_are_spread_over_the_workers(place, port):
    """Each takes uploads, and serves what the others took; all tell the same of the store."""
    daemon = start(place, port, "--verbose")
    clients = connected(port, 16)
    bodies = [body_of(size, seed=n) for n, size in enumerate([1000, 100_000] * 8)]
    for client, body in zip(clients, bodies, strict=True):
        ask(client, "POST", f"/blob/{content_id(body)}", body)
    for client, body in zip(reversed(clients), bodies, strict=True):
        assert ask(client, "GET", f"/blob/{content_id(body)}") == body
    told = [json.loads(ask(client, "GET", "/status")) for client in clients]
    assert {(each["blobs"], each["size"]) for each in told} == {(16, 8 * 101_000)}
    assert len({ask(client, "GET", "/digests") for client in clients}) == 1
    assert wait_until(lambda: daemon.log.count("GET /digests") == 16)
    for worker in (1, 2):
        log = [line for line in daemon.log.splitlines() if f"worker {worker}:" in line]
        assert 5 <= sum("POST /blob/" in line for line in log) <= 11


def test_a_worker_that_is_killed_comes_back(place, port):
    """The others go on meanwhile, and nothing that was acknowledged is lost."""
    daemon = start(place, port)
    load = Load(port, 8)
    assert load.goes_on()
    former = processes(daemon)
    for worker in (1, 2):
        os.kill(former[worker], signal.SIGKILL)
        assert load.goes_on()
        assert wait_until(lambda worker=worker: processes(daemon)[worker] != former[worker])
        assert load.goes_on()
    load.stop()
    assert load.acknowledged
    # Only what the killed processes had under way was cut off.
    assert len(load.failures) <= 2 * 8
    (client,) = connected(port, 1)
    for id, body in load.acknowledged.items():
        assert ask(client, "GET", f"/blob/{id}") == body
    daemon.stop()
    assert "by signal 9; it is started again in 1 s" in daemon.log
    assert os.listdir(place.directory / "data/incoming") == []
    counted, logged = recount(place.directory / "data")
    assert counted == logged


def test_a_worker_that_hangs_is_replaced(place, port):
    """The other one answers, and stays."""
    daemon = start(place, port, within=(sys.executable, "-c", _IMPATIENT))
    former = processes(daemon)
    os.kill(former[1], signal.SIGSTOP)
    assert wait_until(lambda: processes(daemon)[1] != former[1])
    assert not alive(former[1])
    for client in connected(port, 8):
        ask(client, "GET", "/alive")
    daemon.stop()
    (line,) = [line for line in daemon.log.splitlines() if " hangs, " in line]
    assert f"worker 1 hangs, process {former[1]}: it has not answered for 6 s" in line
    assert processes(daemon)[2] == former[2]
    assert daemon.log.count("by signal 9; it is started again in 1 s") == 1


def test_uploads_under_way_are_finished_when_the_daemon_is_stopped(place, port):
    """By each worker; nothing new is taken meanwhile, and no process stays."""
    daemon = start(place, port)
    body = body_of(100_000)
    clients = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(8)]
    head = (
        f"POST /blob/{content_id(body)} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    for client in clients:
        client.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body[:500])
    daemon.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: not listens(port))
    for client in clients:
        client.sendall(body[500:])
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()
    assert daemon.process.wait(60) == -signal.SIGTERM
    assert not any(alive(process) for process in processes(daemon).values())
    assert "Traceback" not in daemon.log
    assert "started again" not in daemon.log


def test_the_signal_to_all_processes_is_as_good(place, port):
    """As service managers and terminals send it."""
    daemon = start(place, port)
    for process in (*processes(daemon).values(), daemon.process.pid):
        os.kill(process, signal.SIGTERM)
    assert daemon.process.wait(60) == -signal.SIGTERM
    assert "Traceback" not in daemon.log
    daemon = start(place, port)
    for process in (*processes(daemon).values(), daemon.process.pid):
        os.kill(process, signal.SIGINT)
    daemon.process.wait(60)
    assert not any(alive(process) for process in processes(daemon).values())
    assert "Traceback" not in daemon.log


def test_no_worker_outlives_its_supervisor(place, port):
    """And none holds the store."""
    daemon = start(place, port)
    daemon.process.kill()
    daemon.process.wait()
    assert wait_until(lambda: not any(alive(each) for each in processes(daemon).values()))
    start(place, port)


def test_a_store_is_one_daemons(place, port):
    """Whichever came first, with workers or without."""
    daemon = start(place, port)
    for options in ("", "--workers 2"):
        line = refusal(place, f"-n sos-blob --port 0 --store data {options}")
        assert "is in use by another process" in line
    os.kill(processes(daemon)[1], signal.SIGKILL)  # those who come back need no lock of their own
    assert "is in use" in refusal(place, "-n sos-blob --port 0 --store data")
    assert wait_until(lambda: daemon.log.count("worker 1 serves") == 2)
    assert "is in use" in refusal(place, "-n sos-blob --port 0 --store data")
    daemon.stop()
    place.twistd(f"sos-blob --port {port} --store data", port)
    assert "is in use" in refusal(place, "-n sos-blob --port 0 --store data --workers 2")


@pytest.mark.parametrize(
    "options",
    ["--access-log none/log", "--listen unix:none/socket", "--store file/x", "--port {port}"],
)
def test_what_cannot_be_opened(place, port, options):
    """The daemon ends, whether it is the supervisor that finds it or a worker."""
    (place.directory / "file").write_text("")
    with socket.create_server(("127.0.0.1", port)):
        options = options.format(port=port)
        refusal(place, f"-n sos-blob --port 0 --store data --workers 2 {options}")


def test_a_hang_up_ends_nothing(place, port):
    """It is passed on, to workers that may want to know."""
    daemon = start(place, port)
    daemon.process.send_signal(signal.SIGHUP)
    for client in connected(port, 4):
        ask(client, "GET", "/alive")
    os.kill(processes(daemon)[2], signal.SIGKILL)
    assert wait_until(lambda: daemon.log.count("worker 2 serves") == 2)
    for client in connected(port, 4):
        ask(client, "GET", "/alive")
    assert daemon.log.count("started again") == 1


def test_unix_sockets_are_shared(place):
    """The socket's file stays when a worker ends, and goes with the daemon."""
    path = place.directory / "socket"
    command = "sos-blob --listen unix:socket:mode=600 --store data --workers 2"
    daemon = place.twistd(command)
    wait_for_start(daemon)
    for _ in range(2):
        for _ in range(4):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(b"GET /alive HTTP/1.0\r\n\r\n")
                assert client.makefile("rb").read().endswith(b"alive")
        count = daemon.log.count("worker 1 serves")
        os.kill(processes(daemon)[1], signal.SIGTERM)
        assert wait_until(lambda n=count: daemon.log.count("worker 1 serves") > n)
        assert daemon.log.count("worker 1 ended, exit status 0") == count
    assert path.stat().st_mode & 0o777 == 0o600
    daemon.stop()
    assert not path.exists()


def test_tls_is_shared(place, port):
    """Whichever worker accepts speaks it."""
    place.run(
        ["openssl"],
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
        "-out cert.pem -days 2 -subj /CN=x",
    ).check_returncode()
    listen = f"ssl:{port}:interface=127.0.0.1:privateKey=key.pem:certKey=cert.pem"
    daemon = place.twistd(f"sos-blob --listen {listen} --store data --workers 2", port)
    wait_for_start(daemon)
    context = ssl.create_default_context(cafile=str(place.directory / "cert.pem"))
    context.check_hostname = False
    with contextlib.ExitStack() as open_:
        for _ in range(8):
            client = connect(f"https://127.0.0.1:{port}", context)
            open_.callback(client.close)
            assert ask(client, "GET", "/alive") == b"alive"


def test_the_api_server_has_workers_too(place):
    """With a store of its own, and in front of blob servers: then one of them replicates."""
    first, second, uploads, downloads = free_ports(4)
    body = body_of(100_000)
    blob_servers = [
        place.twistd(f"sos-blob --port {port} --store data{port}", port) for port in (first, second)
    ]
    servers = f"http://127.0.0.1:{first},http://127.0.0.1:{second}"
    ports = f"--upload-port {uploads} --download-port {downloads} --workers 2"
    for options in ("--store own", f"--blob-server {servers} --replicate-every 1"):
        daemon = place.twistd(f"sos-api {options} {ports}", uploads, downloads)
        for client in connected(uploads, 4):
            assert content_id(body) in ask(client, "POST", "/upload", body).decode()
        for client in connected(downloads, 4):
            assert ask(client, "GET", f"/fetch/{content_id(body)}") == body
        if "replicate" in options:
            (client,) = connected(second, 1)
            assert wait_until(lambda c=client: b'"blobs":1' in ask(c, "GET", "/status"))
            blob_servers[1].stop()  # of which each pass complains
            assert wait_until(lambda d=daemon: d.log.count("replication: 1 blobs on 1") > 2)
        daemon.stop()
        assert "Traceback" not in daemon.log
    assert "worker 1: replication" in daemon.log
    assert "worker 2: replication" not in daemon.log


def test_what_any_worker_notices_reaches_the_one_that_replicates(place):
    """A copy that could not be made is looked for first, whoever took the upload."""
    there, away, uploads, downloads, admin = free_ports(5)
    place.twistd(f"sos-blob --port {there} --store data", there)
    servers = f"http://127.0.0.1:{there},http://127.0.0.1:{away}"
    ports = f"--upload-port {uploads} --download-port {downloads} --admin-port {admin}"
    daemon = place.twistd(
        f"sos-api --blob-server {servers} --replicate-every 3600 --workers 2 {ports} --verbose",
        uploads,
        admin,
    )
    wait_for_start(daemon)
    bodies = [body_of(1000, seed=n) for n in range(16)]
    for client, body in zip(connected(uploads, 16), bodies, strict=True):
        ask(client, "POST", "/upload", body)
    partitions = {content_id(body)[:3] for body in bodies}

    def noticed():
        (client,) = connected(admin, 1)
        told = json.loads(ask(client, "GET", "/status"))["replication"]
        client.close()
        return told is not None and told["hints"] == len(partitions)

    assert wait_until(noticed)
    for worker in (1, 2):
        assert f"worker {worker}: " in "".join(
            line for line in daemon.log.splitlines() if "POST /upload" in line
        )


@needs_strace
def test_a_disk_that_fails_one_worker_fails_all(place, port):
    """They take nothing more, for one reason, and neither does one that is started later."""
    daemon = start(place, port)
    process = processes(daemon)[1]
    failing = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-p", str(process), "-o", os.devnull, *failing]
    )
    try:
        status = Path(f"/proc/{process}/status")
        assert wait_until(lambda: "TracerPid:\t0\n" not in status.read_text())
        statuses = []
        for seed, client in enumerate(connected(port, 8)):
            body = body_of(1000, seed=seed)
            client.request("POST", f"/blob/{content_id(body)}", body)
            statuses.append(client.getresponse().status)
            client.close()
        assert set(statuses) <= {200, 503}
        assert 503 in statuses

        def told():
            clients = connected(port, 8)
            found = [json.loads(ask(client, "GET", "/status")) for client in clients]
            for client in clients:
                client.close()
            return {(each["writable"], each["reason"]) for each in found}

        assert wait_until(lambda: len(told()) == 1)
        ((writable, reason),) = told()
        assert not writable
        assert "could not be made durable" in reason
        os.kill(processes(daemon)[2], signal.SIGKILL)
        assert wait_until(lambda: daemon.log.count("worker 2 serves") == 2)
        assert wait_until(lambda: told() == {(False, reason)})
    finally:
        strace.terminate()
        strace.wait()


def test_one_process_is_one_process(place, port):
    """Without workers nothing is started beside the daemon."""
    daemon = place.twistd(f"sos-blob --port {port} --store data --workers 1", port)
    children = f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children"
    assert wait_until(lambda: "listens on" in daemon.log)
    with open(children) as file:
        assert file.read() == ""
