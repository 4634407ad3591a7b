"""``python -m benchmarks peers``: SOS beside what else one could use, in the same run.

The programs are not downloaded: whoever has them names them.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from benchmarks import large, report
from benchmarks.bench import Bench, measured
from benchmarks.processes import Process, free_urls, started
from benchmarks.rows import BODY, YARDSTICK, Row
from benchmarks.servers import Service, ask, blob_server, blobs, cluster, nginx

_CONNECTIONS = (1, 32, 128)
_START_SECONDS = 30.0
_PROGRAM = click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True)


@measured
@click.option("--original", type=_PROGRAM, help="The program of the original system, in Go.")
@click.option("--seaweedfs", type=_PROGRAM, help="SeaweedFS: weed.")
@click.option("--rest-server", type=_PROGRAM, help="The server of restic: rest-server.")
@click.option("--minio", type=_PROGRAM, help="MinIO: minio.  Needs botocore.")
@click.option("--large/--no-large", "large_too", default=True, help="Bodies of 64 and 256 MiB.")
def peers(
    bench: Bench,
    original: Path | None,
    seaweedfs: Path | None,
    rest_server: Path | None,
    minio: Path | None,
    large_too: bool,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Rates, latencies, CPU and memory of other systems, doing the same work.

    SOS, rest-server and MinIO sync what they acknowledge.  The original and SeaweedFS do not, nor
    does nginx.  The original's API server stores one copy before it answers.
    """
    place, stack = bench.place, bench.stack
    yardstick = nginx(place / "nginx", stack)
    services = {
        "SOS blob server": blob_server(place / "blob", stack),
        "SOS, 1 copy": cluster(place / "one-copy", stack, "--min-copies", "1"),
        "SOS, 2 copies": cluster(place / "two-copies", stack),
    }
    if original is not None:
        services["original blob server"] = _original_blob_server(original, place / "o", stack)
        services["original, 1 copy"] = _original(original, place / "original", stack)
    if seaweedfs is not None:
        services["SeaweedFS volume"] = _seaweedfs(seaweedfs, place / "seaweedfs", stack)
    if rest_server is not None:
        services["rest-server"] = _rest_server(rest_server, place / "rest", stack)
    if minio is not None:
        services["MinIO"] = _minio(minio, place / "minio", stack)
    body = bytes(BODY)
    rows = [Row(YARDSTICK, yardstick, yardstick.keep(body))]
    rows += [Row(f"{name} get", each, each.keep(body)) for name, each in services.items()]
    rows += [Row(f"{name} put", each, each.upload, uploads=True) for name, each in services.items()]
    results: dict[str, Any] = bench.results()
    results["rates"] = bench.rates(rows, _CONNECTIONS)
    if large_too:
        bench.announce("large bodies")
        results["large"] = large.transfers({"nginx": yardstick, **services}, place / "large")
    report.show(results)
    report.save(results, output, picture)


def _run(
    name: str, command: list[str], place: Path, stack: contextlib.ExitStack, *urls: str, **more: str
) -> Process:
    place.mkdir(parents=True, exist_ok=True)
    environment = {"HOME": str(place), "PATH": os.environ["PATH"], **more}
    return stack.enter_context(started(name, command, place, environment, *urls))


def _port(url: str) -> str:
    return str(urlsplit(url).port)


def _original_blob_server(
    program: Path, place: Path, stack: contextlib.ExitStack, name: str = "original-blob"
) -> Service:
    (url,) = free_urls(1)
    command = [str(program), "blob-server", "-port", _port(url), "-store", str(place / name)]
    return blobs(url, _run(name, command, place, stack, url))


def _original(program: Path, place: Path, stack: contextlib.ExitStack) -> Service:
    """Start its API server over two blob servers."""
    behind = [_original_blob_server(program, place, stack, name) for name in ("one", "two")]
    servers = ",".join(each.download.removesuffix("/blob/") for each in behind)
    upload, download = free_urls(2)
    command = [str(program), "api-server", "-blob-server", servers, "-api-host", "127.0.0.1"]
    command += ["-upload-port", _port(upload), "-download-port", _port(download)]
    front = _run("original-api", command, place, stack, upload, download)
    processes = (front, *(process for each in behind for process in each.processes))
    return Service("POST", f"{upload}/upload", False, f"{download}/fetch/", processes)


def _seaweedfs(program: Path, place: Path, stack: contextlib.ExitStack) -> Service:
    """Start a master and a volume server, and let it make a volume."""
    master, volume = free_urls(2)
    data = place / "data"
    data.mkdir(parents=True)
    # The ports of gRPC are other ones by default, at a fixed distance.
    ports = [_port(url) for url in free_urls(2)]
    command = [str(program), "master", "-ip=127.0.0.1", f"-port={_port(master)}"]
    command += [f"-port.grpc={ports[0]}", f"-mdir={place}", "-volumeSizeLimitMB=30000"]
    front = _run("weed-master", command, place, stack, master)
    address = f"127.0.0.1:{_port(master)}.{ports[0]}"
    command = [str(program), "volume", "-ip=127.0.0.1", f"-port={_port(volume)}"]
    command += [f"-port.grpc={ports[1]}", f"-dir={data}", f"-mserver={address}", "-max=4"]
    command += ["-fileSizeLimitMB=1024"]
    back = _run("weed-volume", command, place, stack, volume)
    number = _assigned(master).partition(",")[0]
    # A file's name is the number of its volume, a key of up to 16 hex digits, and 8 more.
    path = f"{volume}/{number},"
    return Service("POST", path, True, path, (front, back), suffix="00000001")


def _assigned(master: str) -> str:
    """Return the name of a file, as soon as the volume server has told the master of itself."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(click.ClickException):
            found = json.loads(ask("GET", f"{master}/dir/assign"))
            if "fid" in found:
                return str(found["fid"])
        if time.monotonic() > deadline:
            raise click.ClickException(f"{master} assigns no file")
        time.sleep(0.2)


def _rest_server(program: Path, place: Path, stack: contextlib.ExitStack) -> Service:
    (url,) = free_urls(1)
    command = [str(program), "--path", str(place / "data"), "--listen", urlsplit(url).netloc]
    command += ["--no-auth", "--no-verify-upload"]  # names that are no hashes of their bodies
    process = _run("rest-server", command, place, stack, url)
    ask("POST", f"{url}/?create=true", b"")
    path = f"{url}/data/"
    return Service("POST", path, True, path, (process,), suffix="0" * 48)


def _minio(program: Path, place: Path, stack: contextlib.ExitStack) -> Service:
    """Start it, with a bucket that everybody may use: signing would be measured as well."""
    import botocore.session

    url, console = free_urls(2)
    keys = {"MINIO_ROOT_USER": "benchmark", "MINIO_ROOT_PASSWORD": "benchmark"}
    command = [str(program), "server", str(place / "data"), "--address", urlsplit(url).netloc]
    command += ["--console-address", urlsplit(console).netloc]
    process = _run("minio", command, place, stack, url, **keys)
    client = botocore.session.get_session().create_client(
        "s3",
        "us-east-1",
        endpoint_url=url,
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
    )
    client.create_bucket(Bucket="all")
    client.put_bucket_policy(Bucket="all", Policy=_FOR_ALL)
    return Service("PUT", f"{url}/all/", True, f"{url}/all/", (process,))


_FOR_ALL = """{"Version": "2012-10-17", "Statement": [{
    "Effect": "Allow", "Principal": {"AWS": ["*"]},
    "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::all/*"]
}]}"""
