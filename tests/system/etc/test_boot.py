"""The units under a systemd that runs: what the guide leads to."""

from __future__ import annotations

import re

import pytest

from tests.support.certificates import Authority
from tests.support.processes import ROOT
from tests.support.waiting import wait_until
from tests.system.etc.machine import ADDRESS, Machine

API, BLOB = "sos-api.service", "sos-blob@disk1.service"
CONFIGURATION = "/etc/sos.conf"
GUIDE = (ROOT / "docs/howto/run.rst").read_text()

# Asks a server over and over while a command runs, and tells how it went.
_ASK = """
import subprocess, sys, urllib.request
url, *command = sys.argv[1:]
running = subprocess.Popen(command)
count = 0
while running.poll() is None:
    urllib.request.urlopen(url, timeout=60).read()
    count += 1
print(count, running.returncode)
"""


def commands(title: str) -> list[str]:
    """Return the blocks of commands in a section of the guide."""
    section = re.split(r"\n.+\n---+\n", GUIDE.partition(f"\n{title}\n---")[2])[0]
    blocks = re.findall(r"::\n\n((?: {4}.*\n)+)", section)
    return [re.sub("^ {4}", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Where the guide has been followed, but for the installation by pip."""
    directory = tmp_path_factory.mktemp("machine")
    try:
        machine = Machine(directory)
    except OSError as error:
        pytest.skip(f"namespaces with a systemd need root, systemd and iproute2: {error}")
    try:
        (install,) = commands("Install")
        made, rest = install.split("\n", 1)
        assert made == "/usr/bin/python3 -m venv /opt/sos && /opt/sos/bin/pip install ."
        machine.run(rest)
        machine.run(commands("systemd")[0])
        yield machine
    finally:
        machine.stop()


def upload(machine, text):
    """Return the id of *text*, once it was taken: a server that starts is asked again.

    It is the SHA-256, as the guide has it.
    """

    def stored():
        return machine.ask(f"printf '{text}' > /tmp/file; sos put /tmp/file")

    assert wait_until(lambda: re.match("[0-9a-f]{64} ", stored())), stored()
    return stored().split()[0]


@pytest.fixture
def edit(machine):
    """Edits files by sed; at the end of the test they are as they were, and the units run."""
    edited = []

    def edit(path, change):
        machine.run(f"cp -a '{path}' /tmp/kept{len(edited)}; sed -i '{change}' '{path}'")
        edited.append(path)

    yield edit
    for number, path in enumerate(edited):
        machine.run(f"mv /tmp/kept{number} '{path}'")
    machine.run(f"systemctl daemon-reload; systemctl restart {API} {BLOB}")


def test_the_guide_leads_to_servers_that_serve(machine):
    """Behind a secret, confined, without a word of complaint."""
    id = upload(machine, "hello")
    assert machine.run(f"sos get {id}") == "hello"
    output = machine.ask("sos status")
    assert output.count(" up ") == 1
    # For there is one server in the guide.
    assert "warning: group default can keep 1 of the 2 copies" in output
    for unit in (API, BLOB):
        assert machine.property(unit, "ActiveState") == "active"
        assert machine.property(unit, "NRestarts") == "0"
        journal = machine.journal(unit)
        assert unit.removesuffix(".service") + "[" in journal
        assert not re.search("cache|Traceback|denied|rror", journal)
    assert machine.run("stat --format %U:%a /var/lib/sos/disk1 /etc/sos.secret").split() == [
        "sos:750",
        "root:640",
    ]


def test_a_reload_reads_the_configuration_again(machine, edit):
    """And keeps what there is when that has a mistake in it."""
    process = machine.property(API, "MainPID")
    edit(CONFIGURATION, "$a nonsense")
    machine.run(f"systemctl reload {API} {BLOB}")
    assert wait_until(lambda: "keeping the old one: /etc/sos.conf, line " in machine.journal(API))
    machine.run(f"sed -i '$d' {CONFIGURATION}; systemctl reload {API}")
    assert wait_until(lambda: "reloaded the configuration" in machine.journal(API))
    assert machine.property(API, "MainPID") == process
    assert upload(machine, "after a reload")


def test_one_that_hangs_is_started_again(machine, edit):
    """When it was not heard of for as long as the unit says, which is less here."""
    unit = "/etc/systemd/system/sos-blob@.service"
    edit(unit, "s/^WatchdogSec=.*/WatchdogSec=2/; s/^RestartSec=.*/RestartSec=0/")
    machine.run(f"systemctl daemon-reload; systemctl restart {BLOB}")
    machine.run(f"kill -STOP {machine.property(BLOB, 'MainPID')}")
    assert wait_until(lambda: machine.property(BLOB, "NRestarts") == "1")
    assert wait_until(lambda: machine.property(BLOB, "ActiveState") == "active")
    assert "Failed with result 'watchdog'" in machine.journal(BLOB)


def test_a_wrong_option_is_told_and_not_tried_again(machine, edit):
    """It would be as wrong the next time."""
    edit("/etc/default/sos-blob-disk1", 's/ --secret-file [^ "]*//')
    assert "failed" in machine.ask(f"systemctl restart {BLOB}")
    assert machine.property(BLOB, "ActiveState") == "failed"
    assert "any other machine could read and write all blobs" in machine.journal(BLOB)


def test_they_may_speak_tls(machine, edit, tmp_path):
    """To those who come, and to servers."""
    authority = Authority(tmp_path, "ca")
    authority.issue("server", ADDRESS)
    for name in ("ca.pem", "server.pem", "server.key"):
        machine.run(f"cat > /etc/{name}", (tmp_path / name).read_text())
    machine.run("chgrp sos /etc/server.key; chmod 640 /etc/server.key")
    certificate = "--tls-certificate /etc/server.pem --tls-key /etc/server.key"
    edit("/etc/default/sos-blob-disk1", f"s,--port,{certificate} --port,")
    edit(CONFIGURATION, "s,^http:,https:,; $a tls-ca = /etc/ca.pem")
    machine.run(f"systemctl restart {API} {BLOB}")
    assert machine.run(f"sos get {upload(machine, 'over TLS')}") == "over TLS"


def test_with_its_sockets_a_restart_refuses_no_connection(machine):
    """As the guide has it; the first connection starts it."""
    machine.run(commands("systemd")[1])
    machine.run("systemctl stop sos-api")
    assert machine.property(API, "ActiveState") == "inactive"
    machine.run("cat > /tmp/ask.py", _ASK)
    ask = "python3 /tmp/ask.py http://localhost:9993/healthz systemctl restart sos-api"
    count, status = map(int, machine.run(ask).split())
    assert (count > 0, status) == (True, 0)
    assert machine.property(API, "ActiveState") == "active"
    assert machine.run(f"sos get {upload(machine, 'by a socket')}") == "by a socket"
