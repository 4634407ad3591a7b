"""What the daemons are told on the command line."""

from __future__ import annotations

import os

import pytest
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins

from sos import __version__
from sos.daemon.services import ListeningService
from sos.errors import ConfigError
from sos.tap import api, blob, cluster
from tests.support.options import parsed, refusal

pytestmark = pytest.mark.usefixtures("home")


def test_twistd_finds_the_daemons():
    """By the names under which they are known."""
    found = {plugin.tapname: plugin for plugin in getPlugins(IServiceMaker)}
    assert found["sos-blob"].module == "sos.tap.blob"
    assert found["sos-api"].module == "sos.tap.api"


def test_a_blob_server_by_default(home):
    """Port 3001 of the loopback interface, the directory ``data``."""
    options = parsed(blob)
    assert options["endpoints"] == ["tcp:3001:interface=127.0.0.1:backlog=1024"]
    assert options["store"] == str(home / "data")


def test_paths_mean_what_they_meant_when_typed(home):
    """They are absolute before twistd goes elsewhere."""
    assert parsed(blob, "--store", "here", "--access-log", "log")["store"] == str(home / "here")
    options = parsed(api, "--store", "here", "--access-log", "log")
    assert (options["store"], options["access-log"]) == (str(home / "here"), str(home / "log"))


def test_ports_hosts_and_endpoints():
    """Endpoint strings take the place of host and port."""
    assert parsed(blob, "--port", "4001", "--host", "::1")["endpoints"] == [
        "tcp:4001:interface=\\:\\:1:backlog=1024"
    ]
    listen = ["--listen", "tcp:4002", "--listen", "unix:sock", "--no-auth"]
    assert parsed(blob, *listen)["endpoints"] == ["tcp:4002", "unix:sock"]
    options = parsed(api, "--store", "x", "--upload-port", "1", "--listen-download", "unix:sock")
    assert options["uploads"] == ["tcp:1:interface=0.0.0.0:backlog=1024"]
    assert options["downloads"] == ["unix:sock"]


def test_the_status_is_told_on_this_machine_alone(home):
    """On port 9993 or another, or on none; endpoints take the place of it."""
    assert parsed(api, "--store", "x")["admins"] == ["tcp:9993:interface=127.0.0.1:backlog=1024"]
    assert parsed(api, "--store", "x", "--admin-port", "0")["admins"] == []
    listen = ["--listen-admin", "tcp:1", "--listen-admin", "unix:sock"]
    assert parsed(api, "--store", "x", *listen, "--admin-port", "2")["admins"] == [
        "tcp:1",
        "unix:sock:mode=660",
    ]
    (home / ".sos.conf").write_text("[sos]\nadmin-port = 7\n")
    assert parsed(api, "--store", "x")["admins"] == ["tcp:7:interface=127.0.0.1:backlog=1024"]


def test_servers_come_from_both_files_or_from_one(home):
    """/etc/sos.conf then ~/.sos.conf, or the one that is named."""
    (home / "sos.conf").write_text("http://a:1\n[sos]\nmin-copies = 3\n")
    (home / ".sos.conf").write_text("http://b:1\n")
    (home / "other.conf").write_text("http://c:1\n")
    servers = parsed(api)["cluster"].groups["default"]
    assert [server.url for server in servers] == ["http://a:1", "http://b:1"]
    (server,) = parsed(api, "--config", "other.conf")["cluster"].groups["default"]
    assert server.url == "http://c:1"
    options = parsed(api, "--blob-server", "http://d:1,http://e:1")
    assert [server.url for server in options["cluster"].groups["default"]] == [
        "http://d:1",
        "http://e:1",
    ]
    assert options["min-copies"] == 3


def test_a_file_that_was_there_has_to_be_there_when_it_is_read_again(home):
    """What it listed would else be forgotten; one that comes is read."""
    (home / "sos.conf").write_text("http://a:1\n")
    (home / ".sos.conf").write_text("http://b:1\n")
    options = parsed(api)
    (home / ".sos.conf").rename(home / "aside")
    with pytest.raises(ConfigError, match=r"\.sos\.conf: there is no such file"):
        cluster.load(None, None, options["config-files"])
    options = parsed(api)
    (home / "aside").rename(home / ".sos.conf")
    found = cluster.load(None, None, options["config-files"])
    assert [server.url for server in found.groups["default"]] == ["http://a:1", "http://b:1"]


def test_an_option_wins_over_a_setting_and_that_over_the_default(home):
    """In this order."""
    (home / ".sos.conf").write_text("http://a:1\n[sos]\nupload-port = 7\ndownload-port = 8\n")
    options = parsed(api, "--upload-port", "9")
    assert options["uploads"] == ["tcp:9:interface=0.0.0.0:backlog=1024"]
    assert options["downloads"] == ["tcp:8:interface=0.0.0.0:backlog=1024"]
    assert (options["min-copies"], options["replicate-every"], options["hash"]) == (2, 60, "sha1")


@pytest.mark.parametrize("module", [blob, api])
def test_the_version_is_ours(module, capsys):
    """Not Twisted's."""
    with pytest.raises(SystemExit) as caught:
        parsed(module, "--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{module.Options.program} {__version__}\n"


def test_dump_prints_settings_too_and_says_when_there_is_nothing(home, capsys):
    """What the daemon would go by."""
    warning = (
        "warning: group default can keep 1 of the 3 copies of each object that min-copies asks "
        "for: add servers to it, or lower min-copies\n"
    )
    for text, arguments, expected in (
        ("", [], "no servers\n"),
        (
            "http://a:1\n[sos]\nmin-copies = 3\n",
            [],
            f"default:\n  http://a:1\nsettings:\n  min-copies = 3\n{warning}",
        ),
        ("http://a:1\n", ["--store", "x"], "no servers\n"),
    ):
        (home / ".sos.conf").write_text(text)
        with pytest.raises(SystemExit):
            parsed(api, *arguments, "--dump")
        assert capsys.readouterr().out == expected


def test_the_password_of_the_cache_is_not_shown(home, capsys):
    """Neither by --dump nor where an option is wrong."""
    (home / ".sos.conf").write_text(
        "http://a:1\nhttp://b:1\n[sos]\ncache = redis://me:hush@b:1/2\n"
    )
    assert parsed(api)["cache"].password == "hush"
    assert parsed(api, "--cache", "memcached://c")["cache"].kind == "memcached"
    with pytest.raises(SystemExit):
        parsed(api, "--dump")
    assert capsys.readouterr().out.endswith("settings:\n  cache = redis://b:1/2\n")
    assert "hush" not in refusal(capsys, api, "--cache", "redis://me:hush@b:x")


def test_dump_prints_the_servers_by_group_and_ends(home, capsys):
    """With their marks."""
    (home / ".sos.conf").write_text("http://a:1\n[b]\n-: http://b:1 readonly weight=3 name=b1\n")
    with pytest.raises(SystemExit) as caught:
        parsed(api, "--min-copies", "1", "--dump")
    assert caught.value.code == 0
    assert capsys.readouterr().out == (
        "default:\n  http://a:1\nb:\n  http://b:1 readonly weight=3 name=b1\n"
    )


class TestWhatIsRefused:
    """One line, exit status 2."""

    def test_nowhere_to_keep_anything(self, capsys):
        """It says what to do."""
        line = refusal(capsys, api)
        assert "sos.conf" in line
        assert "--blob-server" in line
        assert "--store" in line

    def test_a_wrong_line_of_a_file(self, home, capsys):
        """File and line are named."""
        (home / ".sos.conf").write_text("http://a:1\nnonsense\n")
        line = refusal(capsys, api)
        assert line.startswith(f"sos-api: {home}/.sos.conf, line 2: ")

    def test_a_file_that_cannot_be_read(self, home, capsys):
        """One that was named has to be there."""
        assert "no such file" in refusal(capsys, api, "--config", "none.conf")
        (home / "dir.conf").mkdir()
        assert "cannot read" in refusal(capsys, api, "--config", "dir.conf")
        (home / "binary.conf").write_bytes(b"\xff\xfe")
        assert "cannot read" in refusal(capsys, api, "--config", "binary.conf")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--port", "x"],
            ["--port", "65536"],
            ["--port", "-1"],
            ["--max-size", "much"],
            ["--max-size", "0"],
            ["--store", ""],
            ["--reserve", "100%"],
            ["--max-bytes", "0"],
            ["--max-bytes", "many"],
            ["--max-blobs", "0"],
            ["--max-blobs", "1K"],
            ["--max-blobs", "5", "--store", "redis://localhost/0"],
            ["--max-bytes", "5G", "--store", "redis://localhost/0"],
            ["--scrub-every", "weekly"],
            ["--listen", "bogus"],
            ["--listen", "tcp:x"],
            ["--listen", "systemd:domain=INET:index=0"],
            ["--colour"],
            ["--store"],
            ["extra"],
        ],
    )
    def test_a_wrong_option_of_the_blob_server(self, capsys, arguments):
        """A bad value, one unknown, one without its value, a word too many."""
        assert refusal(capsys, blob, *arguments).startswith("sos-blob: ")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--blob-server", "localhost:4001"],
            ["--blob-server", "http://u:p@a:1"],
            ["--blob-server", "http://a:1", "--store", "x"],
            ["--store", "x", "--cache", "memcached://a"],
            ["--blob-server", "http://a:1", "--cache", "http://a:1"],
            ["--blob-server", "http://a:1", "--cache", "redis://a/x"],
            ["--store", "x", "--min-copies", "0"],
            ["--store", "x", "--replicate-every", "-1"],
            ["--store", "x", "--hash", "md5"],
            ["--store", "x", "--upload-port", "http"],
            ["--store", "x", "--admin-port", "70000"],
            ["--store", "x", "--listen-admin", "bogus"],
            ["--store", "x", "--kept-headers", "Content-Type"],
            ["--store", "x", "--kept-headers", "X-Api-Key"],
        ],
    )
    def test_a_wrong_option_of_the_api_server(self, capsys, arguments):
        """The same."""
        assert refusal(capsys, api, *arguments).startswith("sos-api: ")


@pytest.mark.parametrize("socket", ["name=blob", "index=0"])
def test_a_socket_that_systemd_has_not_opened(capsys, socket):
    """Its unit may be asleep."""
    line = refusal(capsys, blob, "--listen", f"systemd:domain=INET:{socket}")
    assert line.endswith("systemd passed no such socket; is its socket unit started?")


def test_making_a_service_touches_nothing(home):
    """Files are opened when it starts: twistd may yet fork, chroot and drop privileges."""
    for module, arguments in (
        (blob, ["--store", "data"]),
        (api, ["--store", "data"]),
        (api, ["--blob-server", "http://a:1"]),
        (api, ["--blob-server", "http://a:1", "--cache", "redis://a"]),
    ):
        assert IService.providedBy(module.makeService(parsed(module, *arguments)))
    assert os.listdir(home) == []


def test_a_store_of_its_own_and_servers_in_a_file(capsys, home):
    """Only one of them can be meant."""
    (home / "some.conf").write_text("http://localhost:4001\n")
    message = refusal(capsys, api, "--store", "x", "--config", "some.conf")
    assert "or the servers in some.conf" in message
    (home / "some.conf").write_text("[sos]\nhash = sha256\n")
    assert parsed(api, "--store", "x", "--config", "some.conf")["hash"] == "sha256"


def sites(service):
    """Return the sites of all listeners in *service*."""
    if isinstance(service, ListeningService):
        return [service.factory]
    return [site for part in getattr(service, "services", ()) for site in sites(part)]


@pytest.mark.parametrize(
    ("module", "arguments", "ports"),
    [(blob, ["--admin-port=1"], 2), (api, ["--store=x"], 3)],
    ids=["blob", "api"],
)
def test_how_long_connections_may_be_idle(module, arguments, ports):
    """On each port."""
    for options, seconds in (([], 75), (["--idle-timeout=300"], 300)):
        found = sites(module.makeService(parsed(module, *arguments, *options)))
        assert [site.idle_seconds for site in found] == [seconds] * ports


@pytest.mark.parametrize("value", ["0", "0.5", "-1", "x", "nan"])
def test_connections_may_be_idle_for_a_second(capsys, value):
    """Less would close them before their clients send the next request."""
    assert "--idle-timeout" in refusal(capsys, blob, f"--idle-timeout={value}")
