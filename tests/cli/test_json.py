"""What commands print for programs: JSON, and nothing else on standard output."""

from __future__ import annotations

import json
import os

import pytest

from sos.cli import main
from tests.support.blobs import body_of, content_id
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.processes import SOS

BODY = body_of(1000)
#: Those that find something out.
COMMANDS = {"put", "rm", "stat", "status", "replicate", "balance", "drain", "scrub", "import"}
COMMANDS |= {"check", "rebuild", "backup", "compact"}


def test_every_command_that_finds_something_out_can():
    """What is missing here gives what it was asked for: bytes, a program, a show."""
    takes = {
        name
        for name, command in main.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert takes >= COMMANDS


@pytest.fixture
def servers(place):
    """Two blob servers in the configuration, of which the first has a blob."""
    ports = free_ports(2)
    for port in ports:
        place.twistd(f"sos-blob --port {port} --store data{port}", port)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    (place.home / ".sos.conf").write_text("\n".join(urls))
    fetch(f"{urls[0]}/blob/{content_id(BODY)}", BODY)
    return urls


def printed(done, status: int = 0) -> dict:
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_passes_over_the_servers(place, servers):
    """What was planned; what was done, with a line for each copy elsewhere; who has how much."""
    planned = printed(place.sos("replicate --json --dry-run"))
    assert (planned["planned"], planned["copied"]) == (1, 0)
    done = place.sos("replicate --json --verbose")
    document = printed(done)
    assert (document["ok"], document["copied"], document["bytes"], document["unlisted"]) == (
        True,
        1,
        1000,
        [],
    )
    assert content_id(BODY).encode() in done.stderr
    document = printed(place.sos("balance --json"))
    assert document["ok"]
    assert [(row["server"], row["size"], row["part"]) for row in document["balance"]] == [
        (url, 1000, 0.5) for url in servers
    ]
    (place.home / ".sos.conf").write_text(f"{servers[0]} readonly\n{servers[1]}\n")
    document = printed(place.sos(f"drain --json --min-copies 1 {servers[0]}"))
    assert (document["ok"], document["empty"], document["moved"]) == (True, True, 1)


def test_objects(place):
    """A line for each that is uploaded, whatever it is called; what is known of one."""
    up, down = free_ports(2)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down}",
        up,
        down,
    )
    names = ["plain", "two\nlines", os.fsdecode(b"\xff")]
    for name in names:
        (place.directory / name).write_bytes(name.encode(errors="surrogateescape"))
    place.environment.update(
        SOS_UPLOAD=f"http://127.0.0.1:{up}", SOS_DOWNLOAD=f"http://127.0.0.1:{down}"
    )
    done = place.run([*SOS, "put", "--json", "-H", "X-Name: a b", *names, "missing"], "")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == names
    id = content_id(b"plain")
    assert lines[0] == {"id": id, "file": "plain"}
    assert b"missing: No such file or directory" in done.stderr
    assert printed(place.sos(f"stat --json {id}")) == {
        "id": id,
        "size": 5,
        "metadata": {"X-Name": "a b"},
        "expires_at": None,
    }


def test_a_store_on_this_machine(place):
    """What was taken over, and what a scrub found."""
    old = place.directory / "old"
    old.mkdir()
    (old / content_id(BODY)).write_bytes(BODY)
    (old / content_id(b"other")).write_bytes(BODY)
    document = printed(place.sos("import --json old --store data"), 1)
    assert document == {"ok": False, "taken": 1, "there": 0, "failed": 1}
    document = printed(place.sos("scrub --json --store data"))
    assert (document["ok"], document["checked"], document["damaged"]) == (True, 1, 0)
    document = printed(place.sos("backup --json --store data --to copy"))
    assert (document["ok"], document["blobs"], document["left_out"]) == (True, 1, [])
    document = printed(place.sos("compact --json --store data"))
    assert (document["blobs"], document["after"] <= document["before"]) == (1, True)
    os.truncate(place.directory / "data/index/data.mdb", 0)
    document = printed(place.sos("check --json --store data"), 1)
    assert document["findings"] == [{"kind": "index", "of": "index", "reason": "it is empty"}]
    document = printed(place.sos("rebuild --json --store data"), 1)
    assert document["faults"] == ["the index: it is empty"]
    document = printed(place.sos("check --json --store copy"))
    assert (document["ok"], document["checked"], document["findings"]) == (True, 1, [])
