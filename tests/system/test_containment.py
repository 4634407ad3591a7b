"""Daemons without privileges, and in a directory of their own: real processes, started as root."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import Place
from tests.support.waiting import eventually, wait_until

NOBODY = pwd.getpwnam("nobody")
DROP = "--uid nobody --gid nogroup --umask 027"


@pytest.fixture
def place():
    """Where processes are started, in a directory that everybody may enter."""
    if os.geteuid() != 0:
        pytest.skip("root alone can drop privileges, or enter a chroot")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        place = Place(Path(directory))
        place.forked = False  # what is imported after a chroot matters
        yield place
        place.stop()


def owned(path: Path) -> Path:
    """Return the new directory *path*, of the user without privileges."""
    path.mkdir(parents=True)
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return path


def privileges(process: int) -> tuple[set[str], set[str], str]:
    """Return the users, the groups and the capabilities that *process* has."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return set(fields["Uid"].split()), set(fields["Gid"].split()), fields["CapEff"]


def assert_nobody(process: int) -> None:
    user = {str(NOBODY.pw_uid)}
    # It listens a moment before it drops them, and then serves.
    assert wait_until(lambda: privileges(process)[0] == user)
    users, groups, capabilities = privileges(process)
    assert users == user
    assert groups == {str(NOBODY.pw_gid)}
    assert int(capabilities, 16) == 0


def assert_theirs(store: Path) -> None:
    """All of the *store* belongs to nobody, and is as the umask lets it be."""
    found = [path for path in store.rglob("*") if not path.is_symlink()]
    assert found
    for path in found:
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), path
        assert status.st_mode & 0o027 == 0, path


def low_port() -> int:
    """Return a free port that root alone may listen on."""
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
    return next(port for port in range(900, 1024) if f":{port} " not in listening)


def assert_serves(url: str) -> None:
    """What is small and what is large can be stored, and fetched back."""
    for size in (1000, 300_000):
        body = body_of(size)
        fetch(f"{url}/blob/{content_id(body)}", body)
        assert fetch(f"{url}/blob/{content_id(body)}") == body


def test_a_blob_server_drops_its_privileges(place):
    """The port is root's, the process and what it writes are the user's, and the umask holds."""
    port = low_port()
    store = owned(place.directory / "data")
    daemon = place.twistd(f"{DROP} sos-blob --port {port} --store {store}", port)
    assert_nobody(daemon.process.pid)
    assert_serves(f"http://127.0.0.1:{port}")
    assert_theirs(store)


def test_a_blob_server_in_an_empty_directory(place):
    """It needs nothing there but what it makes: not even the file that tells of users."""
    port = low_port()
    jail = owned(place.directory / "jail")
    daemon = place.twistd(f"--chroot {jail} {DROP} sos-blob --port {port} --store /data", port)
    assert_nobody(daemon.process.pid)
    assert os.readlink(f"/proc/{daemon.process.pid}/root") == str(jail)
    assert_serves(f"http://127.0.0.1:{port}")
    assert ask(f"http://127.0.0.1:{port}/nowhere").status == 404
    assert sorted(os.listdir(jail)) == ["data", "tmp"]
    assert_theirs(jail / "data")
    daemon.stop()
    assert "Traceback" not in daemon.log
    assert "No module" not in daemon.log


def test_an_api_server_in_an_empty_directory(place):
    """It uploads, cuts, replicates and fetches by addresses alone, with a server missing."""
    first, second, gone, up, down, admin = free_ports(6)
    for port in (first, second):
        place.twistd(f"sos-blob --port {port} --store data{port}", port)
    jail = place.directory / "jail"
    jail.mkdir()
    servers = ",".join(f"http://127.0.0.1:{port}" for port in (first, second, gone))
    daemon = place.twistd(
        f"--chroot {jail} {DROP} sos-api --blob-server {servers} --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down} --admin-port {admin} --replicate-every 1",
        up,
        down,
        admin,
    )
    assert_nobody(daemon.process.pid)
    for size in (1000, 300_000, 9_000_000):
        body = body_of(size)
        fetch(f"http://127.0.0.1:{up}/upload", body)
        assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body
    assert ask(f"http://127.0.0.1:{down}/fetch/nothing").status == 503
    eventually(lambda: daemon.log, lambda log: "replication: " in log)
    assert fetch(f"http://127.0.0.1:{admin}/healthz") == b"alive"
    daemon.stop()
    assert "Traceback" not in daemon.log
    assert "No module" not in daemon.log


def test_an_api_server_keeps_everything_itself_in_a_directory(place):
    """With a store in it, which is opened when the privileges are gone."""
    up, down = free_ports(2)
    jail = owned(place.directory / "jail")
    daemon = place.twistd(
        f"--chroot {jail} {DROP} sos-api --store /data --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down}",
        up,
        down,
    )
    assert_nobody(daemon.process.pid)
    body = body_of(300_000)
    fetch(f"http://127.0.0.1:{up}/upload", body)
    assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body
    assert_theirs(jail / "data")


def test_the_users_groups_are_those_of_the_user(place):
    """Root's own are given up, although they cannot be looked up inside."""
    (port,) = free_ports(1)
    jail = owned(place.directory / "jail")
    daemon = place.twistd(
        f"--chroot {jail} --uid {NOBODY.pw_uid} sos-blob --port {port} --store /data", port
    )
    assert_nobody(daemon.process.pid)
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    (groups,) = (line.split()[1:] for line in lines if line.startswith("Groups:"))
    assert set(groups) == {str(each) for each in os.getgrouplist("nobody", NOBODY.pw_gid)}


def test_a_directory_that_is_not_there(place):
    """And a user without a group: one line, exit status 2."""
    for arguments, named in (
        (f"--chroot {place.directory}/none", b"--chroot"),
        (f"--chroot {place.directory} --uid 54321", b"--gid"),
    ):
        done = place.run_twistd(f"-n {arguments} sos-blob")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(b"sos-blob: ")
        assert named in line


def test_a_store_that_the_user_may_not_write_to(place):
    """The daemon says so and ends: it does not open it while it is still root."""
    (port,) = free_ports(1)
    (place.directory / "data").mkdir(mode=0o755)
    done = place.run_twistd(f"-n {DROP} sos-blob --port {port} --store {place.directory}/data")
    assert done.returncode == 1
    assert b"cannot start: " in done.stdout
    assert b"Permission denied" in done.stdout
    assert os.listdir(place.directory / "data") == []
