"""Objects that expire, through an API server, as real processes."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from tests.support.blobs import body_of
from tests.support.http import ask, fetch
from tests.support.waiting import wait_until
from tests.tap.test_deleting import Api


def upload(api, body, expires, path="/upload", **headers):
    answer = ask(f"{api.up}{path}?expires={quote(expires)}", body, headers)
    assert answer.status in (200, 201), answer
    return answer


def status_of(api, id):
    return ask(f"{api.down}/fetch/{id}").status


@pytest.mark.parametrize(("options", "blob_servers"), [("--store data", 0), ("", 2)])
@pytest.mark.parametrize("size", [100, 300_000])
def test_an_object_expires(place, options, blob_servers, size):
    """After its time it is gone from all answers, and caches may keep it for no longer."""
    api = Api(place, f"--chunk-size 64K {options}", blob_servers)
    body = body_of(size)
    before = time.time()
    found = upload(api, body, "4s").json
    assert 4 <= found["expires_at"] - before < 10
    id = found["id"]
    answer = ask(f"{api.down}/fetch/{id}")
    assert (answer.status, answer.body) == (200, body)
    public, _, age = answer.headers["Cache-Control"].partition(", max-age=")
    assert (public, int(age) in range(4)) == ("public", True)
    assert answer.headers["Sunset"].endswith(" GMT")
    assert wait_until(lambda: status_of(api, id) == 410)
    assert time.time() >= found["expires_at"]
    for asked in ("GET", "HEAD"):
        gone = ask(f"{api.down}/fetch/{id}", headers={"If-None-Match": f'"{id}"'}, method=asked)
        assert (gone.status, gone.headers["Cache-Control"]) == (410, "no-store")
    assert ask(f"{api.up}/upload/{id}", b"", method="POST").status == 410
    assert api.upload(body) == id
    answer = ask(f"{api.down}/fetch/{id}")
    assert (answer.body, answer.headers.get("Sunset")) == (body, None)
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_the_last_end_counts(place):
    """And none is the last of all, whether it was sent again or renewed."""
    api = Api(place, "", 2)
    ids = [upload(api, name, "3s").json["id"] for name in (b"a", b"b", b"c", b"d")]
    upload(api, b"a", "1h")
    longer = ask(f"{api.up}/upload/{ids[1]}?expires=1h", b"", method="POST")
    assert longer.json["expires_at"] > time.time() + 3500
    assert ask(f"{api.up}/upload/{ids[2]}", b"", method="POST").status == 200
    for id in ids[:2]:  # not earlier
        assert ask(f"{api.up}/upload/{id}?expires=1s", b"", method="POST").status == 200
    assert wait_until(lambda: status_of(api, ids[3]) == 410)
    assert [status_of(api, id) for id in ids[:3]] == [200, 200, 200]


@pytest.mark.parametrize("expires", ["", "soon", "0s", "1999-12-31T00:00:00Z", "2030-01-01"])
def test_what_is_no_end_is_refused(place, expires):
    """By all ways of uploading; nothing is stored."""
    api = Api(place, "--store data --unfinished-dir unfinished")
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    for path, headers in (("/upload", {}), ("/upload/a", {}), ("/form", {}), ("/tus", tus)):
        refused = ask(f"{api.up}{path}?expires={expires}", b"abc", headers, method="POST")
        assert refused.status == 400, path
    assert ask(f"{api.up}/upload?expires=1h&expires=2h", b"abc").status == 400


def test_all_ways_of_uploading(place):
    """A file with its name, a form, and in parts."""
    api = Api(place, "--store data --unfinished-dir unfinished")
    named = ask(f"{api.up}/upload/a.txt?expires=1h", b"one", method="PUT")
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="b"\r\n\r\ntwo\r\n--x--\r\n'
    type = "multipart/form-data; boundary=x"
    filled = upload(api, form, "1h", "/form", **{"Content-Type": type})
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    tus["Content-Type"] = "application/offset+octet-stream"
    in_parts = upload(api, b"three", "2099-01-01T00:00:00Z", "/tus", **tus)
    for id in (named.json["id"], filled.json["id"], in_parts.headers["X-Sos-Id"]):
        assert "Sunset" in ask(f"{api.down}/fetch/{id}").headers


def test_sos_put_and_stat(place):
    """``sos put --expires`` also prolongs what is there, and ``sos stat`` says until when."""
    api = Api(place, "--store data")
    (place.directory / "file").write_bytes(b"for a while")
    put = f"put file --to {api.up} --from {api.down} --json --expires"
    id = json.loads(place.sos(f"{put} 1h").stdout)["id"]
    stat = f"stat {id} --from {api.down}"
    ends = [json.loads(place.sos(f"{stat} --json").stdout)["expires_at"]]
    place.sos(f"{put} 2099-12-31T23:59:59Z")
    ends.append(json.loads(place.sos(f"{stat} --json").stdout)["expires_at"])
    assert 3590 < ends[0] - time.time() <= 3600
    assert ends[1] == 4102444799
    assert "expires: 2099-12-31T23:59:59Z" in place.sos(stat).stdout.decode()
    assert fetch(f"{api.down}/fetch/{id}") == b"for a while"
