"""The units for systemd, as its own tools see them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.processes import ROOT, Place
from tests.support.waiting import wait_until

UNITS = ROOT / "etc" / "systemd"
#: The worst that "systemd-analyze security" may say, of 10.
MOST_EXPOSED = 1.5


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install systemd")
    return found


@pytest.fixture
def units(tmp_path):
    """The units with a program that is there, and an instance of those that are templates."""
    program = tmp_path / "twistd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in sorted(UNITS.iterdir()):
        text = path.read_text()
        assert path.suffix != ".service" or "/opt/sos/bin/twistd" in text
        copy = tmp_path / path.name.replace("@.", "@disk1.")
        copy.write_text(text.replace("/opt/sos/bin/twistd", str(program)))
    return tmp_path


def names(kind: str) -> list[str]:
    return [path.name.replace("@.", "@disk1.") for path in UNITS.glob(f"*.{kind}")]


def test_systemd_understands_them(units):
    """Without a word of complaint."""
    command = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=one"]
    paths = [units / name for name in (*names("service"), *names("socket"))]
    assert len(paths) == 7
    done = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", names("service"))
def test_they_may_do_little(units, name):
    """As systemd reckons it: 10 is anything, 0 is nothing."""
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    done = subprocess.run([*command, units / name], capture_output=True, text=True)
    (score,) = re.findall(rf"exposure level for {re.escape(name)}: ([0-9.]+)", done.stdout)
    assert float(score) <= MOST_EXPOSED


@pytest.mark.parametrize("name", names("service"))
def test_their_command_is_one_of_ours(units, name):
    """What twistd is given it takes: the options are parsed as the daemon would."""
    text = (units / name).read_text()
    (line,) = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    instance = "9993" if "sos-api" in name else "disk1"
    _, *arguments = line.replace("%i", instance).replace("$OPTIONS", "").split()
    (units / "home").mkdir()
    place = Place(units / "home")
    more = ["--blob-server", "http://127.0.0.1:1", "--dump"] if "sos-api" in name else ["--version"]
    done = place.run_twistd(" ".join([*arguments, *more]))
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_user_is_made_as_systemd_wants_it(tmp_path):
    """In a system of its own."""
    (tmp_path / "etc").mkdir()
    command = [
        tool("systemd-sysusers"),
        f"--root={tmp_path}",
        str(ROOT / "etc/sysusers.d/sos.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/passwd").read_text().startswith("sos:x:")


def test_a_blob_server_on_a_socket_that_systemd_opened(place):
    """It is started by the first connection, and answers it; the socket's name is in the unit."""
    (port,) = free_ports(1)
    (listening,) = re.findall("--listen (.*)$", (UNITS / "sos-blob@.socket").read_text(), re.M)[:1]
    listening = listening.split()[0].rstrip(",")
    activate = (
        tool("systemd-socket-activate"),
        f"--listen=127.0.0.1:{port}",
        "--fdname=blob",
        *(f"--setenv={name}" for name in place.environment),
    )
    daemon = place.twistd(f"sos-blob --listen {listening} --store data", within=activate)
    assert wait_until(lambda: f"Listening on 127.0.0.1:{port}" in daemon.log)
    assert "SOS blob server" not in daemon.log
    body = body_of(100_000)
    url = f"http://127.0.0.1:{port}/blob/{content_id(body)}"
    fetch(url, body)
    assert fetch(url) == body
    assert f"listens on {listening}" in daemon.log


def test_an_api_server_on_three_sockets(place):
    """Each by its name, as the file of its options has it."""
    ports = free_ports(3)
    text = (ROOT / "etc/default/sos-api").read_text()
    (options,) = re.findall('^#OPTIONS="(--listen-.*)"$', text, re.MULTILINE)
    activate = (
        tool("systemd-socket-activate"),
        *(f"--listen=127.0.0.1:{port}" for port in ports),
        "--fdname=upload:download:admin",
        *(f"--setenv={name}" for name in place.environment),
    )
    daemon = place.twistd(f"sos-api {options} --store data", within=activate)
    assert wait_until(lambda: daemon.log.count("Listening on ") == 3)
    up, down, admin = (f"http://127.0.0.1:{port}" for port in ports)
    body = body_of(100_000)
    fetch(f"{up}/upload", body)
    assert fetch(f"{down}/fetch/{content_id(body)}") == body
    assert fetch(f"{admin}/healthz") == b"alive"


def test_sockets_carry_the_names_that_are_documented():
    """Each unit of a socket says what to give the daemon, and that is the name it has."""
    for path in UNITS.glob("*.socket"):
        text = path.read_text()
        (name,) = re.findall("^FileDescriptorName=(.*)$", text, re.MULTILINE)
        assert f"systemd:domain=INET:name={name}" in text


def test_logrotate_understands_its_file(tmp_path):
    """And rotates what it names."""
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if logrotate is None:
        pytest.skip("logrotate is not installed: apt-get install logrotate")
    log = tmp_path / "log" / "api.log"
    log.parent.mkdir()
    log.write_text("a line\n")
    hung_up = tmp_path / "hung-up"
    text = (ROOT / "etc/logrotate.d/sos").read_text()
    text = re.sub("^ +(su|create) .*\n", "", text, flags=re.MULTILINE)
    text = text.replace("/var/log/sos/", f"{log.parent}/")
    text = re.sub("systemctl kill.*", f"touch {hung_up}", text)
    file = tmp_path / "sos"
    file.write_text(text)
    command = [logrotate, "--force", "--state", str(tmp_path / "state"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (log.parent / "api.log.1").read_text() == "a line\n"
    assert hung_up.exists()
