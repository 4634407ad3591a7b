"""Deleting objects through an API server, as real processes."""

from __future__ import annotations

import json

import pytest

from sos.auth.tokens import format_tokens, make_token
from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Api:
    """An API server over blob servers, or over a store of its own."""

    def __init__(self, place, options, blob_servers=0):
        ports = free_ports(3 + blob_servers)
        up, down, admin, *blobs = ports
        self.blobs = [
            place.twistd(f"sos-blob --port {port} --store data{port}", port) for port in blobs
        ]
        urls = ",".join(f"http://127.0.0.1:{port}" for port in blobs)
        where = f"--blob-server {urls} --write-copies {blob_servers}" if blobs else ""
        self.daemon = place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--admin-port {admin} {where} {options}",
            up,
            down,
            admin,
        )
        self.place = place
        self.up, self.down, self.admin = (f"http://127.0.0.1:{port}" for port in (up, down, admin))

    def upload(self, body, **headers):
        return json.loads(fetch(f"{self.up}/upload", body, headers))["id"]

    def delete(self, id, token=None, port=None):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return ask(f"{port or self.up}/upload/{id}", headers=headers, method="DELETE")

    def is_on_disk(self, marker):
        files = [path for path in self.place.directory.rglob("*") if path.is_file()]
        return any(marker in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("options", "blob_servers"), [("--store data", 0), ("", 2), ("--chunk-size 64K", 2)]
)
@pytest.mark.parametrize("size", [100, 300_000])
def test_a_deleted_object_is_gone(place, options, blob_servers, size):
    """From all answers.

    The bytes are gone from the disks, unless they are in chunks, which sos gc removes, or in the
    index: later writes overwrite what is free there, and sos compact removes it.
    """
    api = Api(place, f"--allow-delete {options}", blob_servers)
    marker = b"a secret that nobody else knows"
    body = marker + body_of(size)
    id = api.upload(body)
    assert api.is_on_disk(marker)
    answer = api.delete(id)
    assert (answer.status, answer.json) == (
        200,
        {"id": id, "status": "OK", "deleted": blob_servers or 1},
    )
    for asked in ("GET", "HEAD"):
        gone = ask(f"{api.down}/fetch/{id}", method=asked)
        assert (gone.status, gone.headers["Cache-Control"]) == (410, "no-store")
    assert api.delete(id).status == 410
    assert api.delete(content_id(b"never there")).status == 404
    if size > 65536 and "chunk" not in options:
        assert not api.is_on_disk(marker)
    assert ask(f"{api.up}/upload/{id}", b"", method="POST").status == 410
    assert api.upload(body) == id
    assert fetch(f"{api.down}/fetch/{id}") == body
    renewed = ask(f"{api.up}/upload/{id}", b"", method="POST")
    copies = blob_servers or 1
    expected = {"id": id, "size": len(body), "status": "OK", "copies": copies}
    assert (renewed.status, renewed.json) == (200, expected)


def test_nothing_is_deleted_unless_that_is_allowed(place):
    """As in the original system."""
    api = Api(place, "--store data")
    id = api.upload(b"kept")
    answer = api.delete(id)
    assert (answer.status, "--allow-delete" in answer.json["error"]) == (403, True)
    assert fetch(f"{api.down}/fetch/{id}") == b"kept"


def test_who_deletes_needs_the_scope_and_is_logged(place):
    """In the access log, the audit log and the daemon's own."""
    tokens = {
        name: make_token(name, scopes, 1, None)
        for name, scopes in (("alice", ["upload"]), ("bob", ["delete"]))
    }
    file = place.directory / "tokens"
    file.write_text(format_tokens(entry for _, entry in tokens.values()))
    file.chmod(0o600)
    alice, bob = tokens["alice"][0], tokens["bob"][0]
    api = Api(
        place,
        "--store data --allow-delete --token-file tokens --access-log access.log "
        "--audit-log audit.log --cache-max-age 15m",
    )
    id = api.upload(b"mine", Authorization=f"Bearer {alice}")
    fetched = ask(f"{api.down}/fetch/{id}")
    assert fetched.headers["Cache-Control"] == "public, max-age=900"
    for port in (api.up, api.admin):
        assert api.delete(id, port=port).status == 401
        assert api.delete(id, alice, port).status == 403
    upload = ask(f"{api.up}/upload", b"x", {"Authorization": f"Bearer {bob}"})
    assert upload.status == 403
    assert api.delete(id, bob, api.admin).status == 200
    audit = place.directory / "audit.log"
    assert wait_until(lambda: audit.read_text().count("\n") == 5)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(each["token"], each["status"]) for each in lines] == [
        (None, 401),
        ("alice", 403),
        (None, 401),
        ("alice", 403),
        ("bob", 200),
    ]
    assert {each["id"] for each in lines} == {id}
    assert {each["peer"] for each in lines} == {"127.0.0.1"}
    access = (place.directory / "access.log").read_text()
    assert f"- bob [{''}" in access
    assert "deleted an object" in api.daemon.log
    assert "token=bob" in api.daemon.log
    assert bob not in access + api.daemon.log + audit.read_text()


def test_a_young_object_stays(place):
    """403 that says for how long."""
    api = Api(place, "--store data --allow-delete --min-retention 1d")
    answer = api.delete(api.upload(b"new"))
    assert (answer.status, "min-retention" in answer.json["error"]) == (403, True)
