"""``sos init``, ``sos scrub`` and ``sos import``, with real directories."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.support.blobs import body_of, colliding, content_id
from tests.support.ports import free_ports


@pytest.fixture
def original(place):
    """What a blob server of the original system has kept."""
    directory = place.directory / "old"
    directory.mkdir()
    for n, size in enumerate((0, 10, 65_536, 65_537, 1_000_000)):
        body = body_of(size, seed=n)
        (directory / content_id(body)).write_bytes(body)
    kept = {"X-Mime-Type": "image/png", "X-File-Name": "caf\u00e9.png", "X-Note": "\u009b2Jred"}
    (directory / f"{content_id(body)}.json").write_text(json.dumps(kept | {"X-Real-Ip": "::1"}))
    (directory / "named").write_bytes(b"by name")
    return directory


def test_a_directory_is_taken_over(place, original):
    """Bodies and metadata, as a blob server then serves them."""
    done = place.sos("import old --store new")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"6 blobs imported, 0 already stored, 0 failed\n"
    done = place.sos("import old --store new")
    assert done.stdout == b"0 blobs imported, 6 already stored, 0 failed\n"
    up, down = free_ports(2)
    ports = f"--upload-port {up} --download-port {down}"
    place.twistd(f"sos-api --store new --api-host 127.0.0.1 {ports}", up, down)
    for path in original.iterdir():
        if path.suffix != ".json":
            got = place.sos(f"get {path.name} --from http://127.0.0.1:{down}")
            assert got.stdout == path.read_bytes()
    id = content_id(body_of(1_000_000, seed=4))
    shown = place.sos(f"stat {id} --from http://127.0.0.1:{down}").stdout.decode()
    assert "X-Mime-Type: image/png\n" in shown
    assert "X-File-Name: caf\u00e9.png\n" in shown
    assert "X-Note: \\x9b2Jred\n" in shown  # and no terminal obeys it
    assert "X-Real-Ip" not in shown


def test_another_body_of_the_same_hash_is_not_taken(place):
    """It is not passed over as one that was there, and what is there stays."""
    for name, body in zip(("one", "two"), colliding(100_000), strict=True):
        (place.directory / name).mkdir()
        (place.directory / name / content_id(body)).write_bytes(body)
    assert place.sos("import one --store new").returncode == 0
    done = place.sos("import two --store new")
    assert (done.returncode, done.stdout) == (
        1,
        b"0 blobs imported, 0 already stored, 1 failed\n",
    )
    assert b"another body with the id" in done.stderr
    done = place.sos("import one --store new")
    assert done.stdout == b"0 blobs imported, 1 already stored, 0 failed\n"


def test_what_cannot_be_taken_is_told(place, original):
    """The rest is taken all the same, and the exit status is 1."""
    (original / ("0" * 40)).write_bytes(b"not of this hash")
    (original / "NOTES.TXT").write_text("x")
    (original / "subdirectory").mkdir()
    (original / "named.json").write_text('{"X-A": 1}')
    done = place.sos("import old --store new")
    assert done.returncode == 1
    assert done.stdout == b"5 blobs imported, 0 already stored, 4 failed\n"
    errors = done.stderr.decode()
    for text in (
        "0" * 40,
        "NOTES.TXT: the name of the file is not an id",
        "subdirectory",
        "named.json",
    ):
        assert text in errors
    assert len(errors.splitlines()) == 4


def test_an_import_into_a_store_in_use(place, original):
    """It is refused."""
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store new", port)
    done = place.sos("import old --store new")
    assert done.returncode == 1
    assert b"in use" in done.stderr


def test_scrub_finds_damage(place, original):
    """It says what, sets it aside, and ends with 1; then all is well."""
    place.sos("import old --store new")
    done = place.sos("scrub --store new")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"6 blobs checked" in done.stdout
    id = content_id(body_of(1_000_000, seed=4))
    path = place.directory / "new/bodies" / id[:2] / id[2:4] / id
    damaged = path.read_bytes()[::-1]
    path.write_bytes(damaged)
    done = place.sos("scrub --store new")
    assert done.returncode == 1
    assert id.encode() in done.stderr
    assert b"1 damaged" in done.stdout
    kept = [
        path for path in (place.directory / "new/quarantine").iterdir() if path.suffix != ".json"
    ]
    assert [path.read_bytes() for path in kept] == [damaged]
    assert place.sos("scrub --store new --rate 100M").returncode == 0


def test_a_store_is_backed_up_checked_and_rebuilt(place, original):
    """While its daemon runs it is backed up alone; a line tells of each thing that is not well."""
    place.sos("import old --store new")
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store new", port)
    done = place.sos("backup --store new --to copy")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"6 blobs, ")
    for command in ("check", "rebuild", "compact"):
        done = place.sos(f"{command} --store new")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"in use by another process" in done.stderr
    daemon.stop()
    done = place.sos("compact --store new")
    assert done.stdout.startswith(b"6 blobs; the index has ")
    assert b"no problems found" in place.sos("check --store new").stdout
    shutil.rmtree(place.directory / "new/index")
    done = place.sos("check --store new")
    assert (done.returncode, done.stderr) == (1, b"index index: it is missing\n")
    done = place.sos("rebuild --store new")
    assert (done.returncode, done.stderr) == (1, b"the index: it is missing\n")
    assert done.stdout.startswith(b"0 blobs from the old index, 2 from files")
    done = place.sos("backup --store new --to copy")
    assert done.returncode == 0
    assert place.sos("check --store copy").returncode == 0


def test_wrong_directories(place):
    """A missing one is a wrong argument, a foreign one cannot be opened."""
    (place.directory / "foreign").mkdir()
    (place.directory / "foreign/file").write_text("")
    assert place.sos("scrub --store none").returncode == 2
    assert place.sos("scrub --store foreign --rate fast").returncode == 2
    assert place.sos("import none --store new").returncode == 2
    (place.directory / "empty").mkdir()
    for directory in ("foreign", "empty"):
        done = place.sos(f"scrub --store {directory}")
        assert done.returncode == 1
        assert b"is not a store" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not list((place.directory / "empty").iterdir())  # it has not been made one


def test_a_store_is_made_once(place):
    """Which a daemon that has to find one finds then."""
    (port,) = free_ports(1)
    refused = place.sos("init --store none/store")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"is its disk mounted?" in refused.stderr
    made = place.sos("init --store store")
    assert (made.returncode, made.stdout, made.stderr) == (
        0,
        b"created a new store in store\n",
        b"",
    )
    before = (place.directory / "store/store.json").read_bytes()
    again = place.sos("init --store store")
    assert again.returncode == 1
    assert again.stderr.endswith(b"store already contains a store\n")
    assert (place.directory / "store/store.json").read_bytes() == before
    place.twistd(f"sos-blob --port {port} --store store --require-store", port)
