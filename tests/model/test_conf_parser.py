"""sos.conf, in both formats."""

from __future__ import annotations

import pytest

from sos.errors import ConfigError
from sos.model import conf_parser
from sos.model.conf_parser import Server, parse


def test_plain_lines_are_the_default_group():
    """As the original's quick start writes them."""
    found = parse("http://localhost:4001\nhttp://localhost:4002\n", "sos.conf")
    assert found.groups == {
        "default": (Server("http://localhost:4001"), Server("http://localhost:4002"))
    }


def test_sections_are_groups():
    """In the order of the text, with comments and marks."""
    found = parse(
        """
        # all of them
        [new]
        -: http://a:1      # the first
        -: http://b:1/ readonly
        [old]
        -:http://c:1 preferred weight=2.5
        """,
        "sos.conf",
    )
    assert list(found.groups) == ["new", "old"]
    assert found.groups["new"] == (Server("http://a:1"), Server("http://b:1", readonly=True))
    assert found.groups["old"] == (Server("http://c:1", preferred=True, weight=2.5),)


def test_a_server_can_have_a_name_of_its_own():
    """Which can be the URL that it had; without one its URL is its name."""
    found = parse("http://a:1 name=b1 readonly\nhttp://b:1 name=HTTP://Old:1/\nhttp://c:1", "x")
    assert found.groups["default"] == (
        Server("http://a:1", readonly=True, name="b1"),
        Server("http://b:1", name="http://old:1"),
        Server("http://c:1"),
    )
    assert [each.name for each in found.groups["default"]] == ["b1", "http://old:1", "http://c:1"]


def test_settings_have_a_section():
    """Each is converted as the option of its name."""
    found = parse("http://a:1\n[sos]\nmin-copies = 3\nmax-size = 5G # enough\n", "sos.conf")
    assert found.settings == {"min-copies": 3, "max-size": 5 * 1024**3}


def test_a_second_file_adds_to_the_first():
    """/etc/sos.conf, then ~/.sos.conf."""
    first = parse("http://a:1\n[sos]\nmin-copies=3", "/etc/sos.conf")
    both = parse("http://b:1\n[sos]\nhash=sha256", "~/.sos.conf", onto=first)
    assert [server.url for server in both.groups["default"]] == ["http://a:1", "http://b:1"]
    assert both.settings == {"min-copies": 3, "hash": "sha256"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("localhost:4001", "not the URL of a server"),
        ("ftp://a:1", "not the URL of a server"),
        ("http://", "not the URL of a server"),
        ("http://me:hush@a:1", "user or a password"),
        ("http://a:1/?x=y", "query"),
        ("http://a:port", "port|Port"),
        ("http://a:99999", "ort"),
        ("http://a:1 read-only", "unknown word 'read-only'"),
        ("http://a:1 weight=0", "above 0"),
        ("http://a:1 weight=nan", "above 0"),
        ("http://a:1 weight=x", "x"),
        ("-:", "missing"),
        ("[", "not a section"),
        ("[a", "not a section"),
        ("[]", "not a section"),
        ("[sos]\nverbose", "not a setting"),
        ("[sos]\ncolour = red", "unknown setting 'colour'"),
        ("[sos]\nmin-copies = 0", "min-copies: 0"),
        ("[sos]\nmin-copies = \u0663", "whole number"),
        ("[sos]\nhash = md5", "md5"),
        ("[sos]\nmax-size = big", "not a size"),
        ("[sos]\nupload-port = 70000", "not a port"),
        ("[sos]\nreplicate-every = -1", "seconds"),
        ("[sos]\nmin-copies = 1\nmin-copies = 2", "second time"),
        ("http://b:1", "listed a second time"),
        ("[other]\nHTTP://B:1/", "listed a second time"),
        ("http://a:1 name=", "not a server name"),
        ("http://a:1 name=a/b", "not a server name"),
        ("http://a:1 name=" + 65 * "x", "not a server name"),
        ("http://a:1 name=http://me:hush@a:1", "user or a password"),
        ("http://a:1 name=http://b:1/", "http://b:1 already has the name http://b:1"),
        ("me:hush@a:1", "not the URL of a server"),
        ("http:/me:hush@a:1", "not the URL of a server"),
        ("http://m e:hush@a:1", "user or a password"),
        ("http://a?me:hush@b", "query"),
        ("http://\u00e9/me:hush@b", "characters"),
        ("[http://me:hush@a", "not a section"),
        ("[sos]\nhttp://me:hush@a/?a=b", "unknown setting"),
        ("[sos]\nsecret-file = hush", "path that starts with"),
        ("[sos]\nsecret-file = /a\0b", "path that starts with"),
        ("[sos]\napi-host = a\x1b[2J", "not a host name or an IP address"),
        ("[sos]\nmin-copies = 1" + 400 * "0", "too large"),
        ("[sos]\nmin-copies = 1001", "1 to 1000"),
        ("[sos]\nmax-size = 1" + 5000 * "0", "not a size"),
        ("[sos]\nmax-size = 8388608T", "too large"),
        ("[sos]\nmax-size = \u0663", "not a size"),
        ("[sos]\nreplicate-every = 1e300", "0 to 1000000000"),
        ("http://a:1 weight=1e300", "below 1e18"),
        ("http://a:1 weight=\u0663", "above 0"),
        ("http://a:1 weight=\x1b[2J", "above 0"),
        ("http://a:1 \x1b[2J", "unknown word"),
        ("[\x1b[2J]", "not a section"),
        ("[\u2028]", "not a section"),
        ("[" + 201 * "g" + "]", "not a section"),
        ("[" + 100_000 * "g" + "]", "not a section"),
        ("http://a/" + 2000 * "x", "too long"),
        ("http://a:1 name=x\n[other]\n-: http://c:1 name=x", "http://a:1 already has the name x"),
    ],
)
def test_a_wrong_line_is_named(line, complaint):
    """File, line and reason; never a secret."""
    last = 2 + line.count("\n") + 1
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse(f"# servers\nhttp://b:1\n{line}\n", "/etc/sos.conf")
    assert str(caught.value).startswith(f"/etc/sos.conf, line {last}: ")
    assert "hush" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_lines_end_where_an_editor_ends_them():
    """What Unicode has besides would let a comment hide a server, and numbers be wrong."""
    assert not parse("# a\u2028http://b:1\x0chttp://c:1\x85http://d:1", "x").groups


def test_urls_of_an_option():
    """Separated by commas; an error names the option."""
    found = conf_parser.from_urls("http://a:1, http://b:1/", "--blob-server")
    assert [server.url for server in found.groups["default"]] == ["http://a:1", "http://b:1"]
    for text in ("", "http://a:1,", "http://a:1,http://a:1", "a"):
        with pytest.raises(ConfigError, match="--blob-server: "):
            conf_parser.from_urls(text, "--blob-server")


@pytest.mark.parametrize(
    ("text", "copies", "named"),
    [
        ("http://a:1\n", 1, []),
        ("http://a:1\n", 2, ["default"]),
        ("http://a:1\nhttp://b:1\n", 2, []),
        ("http://a:1\nhttp://b:1 readonly\n", 2, ["default"]),
        ("http://a:1 readonly\nhttp://b:1 readonly\n", 2, []),
        (
            "http://a:1\n[x]\n-: http://b:1\n-: http://c:1\n[y]\n-: http://d:1\n",
            2,
            ["default", "y"],
        ),
        ("http://a:1\n", 0, []),
        ("", 3, []),
    ],
)
def test_groups_that_are_too_small_are_named(text, copies, named):
    """Those with too few servers that can be written to, unless none of theirs can."""
    messages = conf_parser.too_small(conf_parser.parse(text, "sos.conf").groups, copies)
    assert [each.split()[1] for each in messages] == named
