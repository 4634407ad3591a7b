"""``sos demo``: run two blob servers and an API server, and show what they do."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
from attrs import frozen

from sos.files.umask import withhold

_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
_SOS = [sys.executable, "-c", "from sos.cli import main; main()"]
_HOST = "127.0.0.1"

#: Seconds that a server may take to start, and to stop.
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@click.command()
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data in this directory.  [default: a temporary directory, deleted at the end]",
)
@click.option("--keep", is_flag=True, help="Keep the servers running until Ctrl-C.")
def demo(file: Path | None, directory: Path | None, keep: bool) -> None:
    """Run a small cluster: upload FILE, fetch it, replicate it.

    Everything runs on this machine, on free ports. Ends with status 1 if a step
    failed.  Example:

        sos demo --keep holiday.jpg
    """
    withhold()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # this exit stops the servers
    with _workplace(directory) as place, contextlib.ExitStack() as servers:
        cluster = _start(place, servers)
        _show(cluster, file or Path(__file__))
        if keep:
            click.echo("\nThe servers are still running. Press Ctrl-C to stop them.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    click.echo("\nDone. The servers have stopped.")


@contextlib.contextmanager
def _workplace(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"{directory}: {error.strerror}") from None
        yield directory.absolute()
        return
    made = Path(tempfile.mkdtemp(prefix="sos-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@frozen
class _Cluster:
    config: Path
    blobs: tuple[str, str]
    upload: str
    download: str


def _start(place: Path, servers: contextlib.ExitStack) -> _Cluster:
    ports = _free_ports(4)
    first, second, upload, download = (f"http://{_HOST}:{port}" for port in ports)
    config = place / "sos.conf"
    config.write_text(f"{first}\n{second}\n")
    click.echo(f"Two blob servers and an API server, in {place}:\n")
    for number, port in enumerate(ports[:2], 1):
        command = f"sos-blob --port {port} --store data{number}"
        servers.enter_context(_daemon(place, f"blob{number}", command, ports[number - 1 : number]))
    command = (
        f"sos-api --config sos.conf --api-host {_HOST} --upload-port {ports[2]} "
        f"--download-port {ports[3]} --min-copies 1 --chunk-size 0 "
        "--replicate-every 0 --admin-port 0"
    )
    servers.enter_context(_daemon(place, "api", command, ports[2:]))
    return _Cluster(config, (first, second), upload, download)


@contextlib.contextmanager
def _daemon(place: Path, name: str, command: str, ports: list[int]) -> Iterator[None]:
    click.secho(f"$ twistd -n {command}", bold=True)
    log = place / f"{name}.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*_TWISTD, "-n", *shlex.split(command)],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C signals the demo alone, which then stops its servers.
            start_new_session=True,
        )
    try:
        for port in ports:
            _wait_for(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((_HOST, port), 1).close()
            return
        time.sleep(0.05)
    raise click.ClickException(
        f"a server did not start within {_START_SECONDS:.0f} s; its log, {log}:\n{log.read_text()}"
    )


def _show(cluster: _Cluster, file: Path) -> None:
    content = file.read_bytes()
    click.echo("\nUpload a file:\n")
    click.secho(f"$ curl -X POST --data-binary @{file} {cluster.upload}/upload", bold=True)
    answer = _request("POST", f"{cluster.upload}/upload", content)
    click.echo(answer)
    id = answer.decode().partition('"id":"')[2].partition('"')[0]

    click.echo("\nFetch it back:\n")
    click.secho(f"$ curl {cluster.download}/fetch/{id}", bold=True)
    fetched = _request("GET", f"{cluster.download}/fetch/{id}")
    if fetched != content:
        raise click.ClickException(f"the API server returned other bytes than {file} contains")
    click.echo(f"{len(fetched)} bytes, the same as in {file.name}")

    click.echo("\nOne of the blob servers holds it:\n")
    _show_listings(cluster)
    click.echo("\nReplicate it, so that both blob servers hold it:\n")
    click.secho(f"$ sos replicate --verbose --config {cluster.config}", bold=True)
    command = [*_SOS, "replicate", "--verbose", "--config", str(cluster.config)]
    replicated = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    click.echo(replicated.stdout)
    if replicated.returncode:
        raise click.ClickException(f"sos replicate exited with status {replicated.returncode}")
    _show_listings(cluster)
    for server in cluster.blobs:
        if _request("GET", f"{server}/blob/{id}") != content:
            raise click.ClickException(f"{server} holds other bytes than {file} contains")


def _show_listings(cluster: _Cluster) -> None:
    for server in cluster.blobs:
        click.secho(f"$ curl {server}/blobs", bold=True)
        click.echo(_request("GET", f"{server}/blobs"))


def _request(method: str, url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_START_SECONDS) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.URLError as error:
        raise click.ClickException(f"{method} {url}: {error}") from None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
