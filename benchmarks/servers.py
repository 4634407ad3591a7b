"""The servers that are measured: nginx as the yardstick, a blob server, a cluster."""

from __future__ import annotations

import contextlib
import getpass
import grp
import json
import os
import secrets
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import click
from attrs import frozen

from benchmarks.processes import HOST, Process, find, free_urls, started

_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
_ROOT = Path(__file__).parent.parent
_SECONDS = 30.0

_NGINX = """\
{user}
daemon off;
worker_processes 2;
pid "{place}/nginx.pid";
error_log "{place}/error.log";
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path "{place}/body";
    proxy_temp_path "{place}/proxy";
    fastcgi_temp_path "{place}/fastcgi";
    uwsgi_temp_path "{place}/uwsgi";
    scgi_temp_path "{place}/scgi";
    server {{
        listen {address};
        location /files/ {{ alias "{place}/files/"; }}
        location /dav/ {{ alias "{place}/files/"; dav_methods PUT; }}
    }}
}}
"""


@frozen
class Service:
    """What takes bodies in and gives them out again.

    :param method: of an upload.
    :param upload: URL of an upload; a name is appended if the client is to choose one.
    :param named: whether it is.
    :param download: URL that the name is appended to.
    :param processes: what it runs in, as far as that is known.
    :param suffix: appended to each name.
    """

    method: str
    upload: str
    named: bool
    download: str
    processes: tuple[Process, ...] = ()
    suffix: str = ""

    def upload_url(self, name: str) -> str:
        return self.upload + name + self.suffix if self.named else self.upload

    def download_url(self, name: str, answer: bytes) -> str:
        """Return where the upload that was answered by *answer* is to be had."""
        return self.download + (name + self.suffix if self.named else json.loads(answer)["id"])

    def keep(self, body: bytes) -> str:
        """Upload *body*; return where it is to be had."""
        name = secrets.token_hex(8)
        return self.download_url(name, ask(self.method, self.upload_url(name), body))


def ask(method: str, url: str, body: bytes | None = None) -> bytes:
    """Send one request; return the body of the answer."""
    request = urllib.request.Request(url, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            found: bytes = response.read()
            return found
    except OSError as error:
        raise click.ClickException(f"{url}: {error}") from None


def blobs(url: str, *processes: Process) -> Service:
    """Return what speaks the protocol of blob servers at *url*."""
    return Service("POST", f"{url}/blob/", True, f"{url}/blob/", processes)


def nginx(place: Path, stack: contextlib.ExitStack) -> Service:
    """Start nginx in the directory *place*; *stack* stops it."""
    (url,) = free_urls(1)
    (place / "files").mkdir(parents=True)
    user = ""
    if os.geteuid() == 0:  # whose workers would otherwise be somebody else
        user = f"user {getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name};"
    config = place / "nginx.conf"
    config.write_text(_NGINX.format(place=place, user=user, address=urlsplit(url).netloc))
    command = [find("nginx", "nginx-light"), "-p", str(place), "-c", str(config)]
    command += ["-e", str(place / "error.log")]
    process = stack.enter_context(started("nginx", command, place, _environment(place), url))
    return Service("PUT", f"{url}/dav/", True, f"{url}/files/", (process,))


def blob_server(place: Path, stack: contextlib.ExitStack) -> Service:
    """Start a blob server in the directory *place*; *stack* stops it."""
    (url,) = free_urls(1)
    return blobs(url, start_blob_server("blob", place, url, stack))


def cluster(
    place: Path, stack: contextlib.ExitStack, *options: str, api_servers: int = 1
) -> Service:
    """Start API servers with *options*, on the same ports, over two blob servers, the same way."""
    first, second, upload, download = free_urls(4)
    behind = [
        start_blob_server("blob1", place / "blob1", first, stack),
        start_blob_server("blob2", place / "blob2", second, stack),
    ]
    config = place / ".sos.conf"
    # A pass of replication in one round and not in the next would make them differ.
    config.write_text(f"{first}\n{second}\n\n[sos]\nreplicate-every = 0\n")
    ports = [str(urlsplit(url).port) for url in (upload, download)]
    command = [*_TWISTD, "sos-api", "--config", str(config), "--api-host", HOST]
    command += [
        "--upload-port",
        ports[0],
        "--download-port",
        ports[1],
        *(["--reuse-port"] if api_servers > 1 else []),
        *options,
    ]
    front = []
    for number, admin in enumerate(free_urls(api_servers)):  # by which it is seen to be ready
        each = [*command, "--admin-port", str(urlsplit(admin).port)]
        environment = _environment(place)
        front.append(stack.enter_context(started(f"api{number}", each, place, environment, admin)))
    return Service("POST", f"{upload}/upload", False, f"{download}/fetch/", (*front, *behind))


def start_blob_server(name: str, place: Path, url: str, stack: contextlib.ExitStack) -> Process:
    """Start a blob server at *url*, over the store that ``data`` in *place* is or will be."""
    place.mkdir(parents=True, exist_ok=True)
    command = [*_TWISTD, "sos-blob", "--port", str(urlsplit(url).port), "--store", "data"]
    return stack.enter_context(started(name, command, place, _environment(place), url))


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)}
