"""``sos token`` and ``sos sign``: files of tokens, and links."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from click.testing import CliRunner

from sos.auth.request_signing import make_secret, parse_keys
from sos.auth.signed_urls import check_signed
from sos.auth.tokens import parse_tokens
from sos.cli import main

ID = "b" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sos.tap.cluster.CONFIG_FILES", ("~/.sos.conf",))
    return tmp_path


def sos(*arguments):
    return CliRunner().invoke(main, arguments)


def token(*arguments):
    return sos("token", "--token-file", "tokens", *arguments)


def tokens(home):
    return parse_tokens((home / "tokens").read_text())


def test_a_token_is_printed_once_and_kept_as_a_hash(home):
    """In a file that nobody else can read."""
    done = token("add", "backup", "--scope", "upload", "--scope", "read", "--expires", "30d")
    assert done.exit_code == 0, done.output
    secret = done.output.strip()
    found = tokens(home).find(secret.encode())
    assert (found.name, found.scopes) == ("backup", ("upload", "read"))
    assert found.expires == found.created + 30 * 86400
    assert abs(found.created - time.time()) < 100
    text = (home / "tokens").read_text()
    assert secret not in text
    assert json.loads(text)["name"] == "backup"
    assert (home / "tokens").stat().st_mode & 0o777 == 0o600
    assert os.listdir(home) == ["tokens"]


def test_tokens_are_listed_and_taken_back(home):
    """By their names; the others stay."""
    token("add", "a", "--scope", "admin")
    token("add", "b", "--scope", "read", "--expires", "1h")
    assert "a token named a exists already" in token("add", "a", "--scope", "read").output
    listed = token("list").output
    assert "never" in listed
    assert "admin" in listed
    assert token("revoke", "a").exit_code == 0
    assert [each.name for each in tokens(home).all] == ["b"]
    assert "there is no token named a" in token("revoke", "a").output
    assert token("revoke", "b").exit_code == 0
    assert (home / "tokens").read_text() == ""
    assert token("list").exit_code == 0


def test_the_file_keeps_its_mode_and_its_link(home):
    """Who could read it before can do so after."""
    token("add", "a", "--scope", "admin")
    (home / "tokens").rename(home / "elsewhere")
    (home / "elsewhere").chmod(0o640)
    (home / "tokens").symlink_to("elsewhere")
    token("add", "b", "--scope", "admin")
    assert (home / "tokens").is_symlink()
    assert (home / "elsewhere").stat().st_mode & 0o777 == 0o640
    assert len(tokens(home).all) == 2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["add", "a"], 2),
        (["add", "a", "--scope", "write"], 2),
        (["add", "a b", "--scope", "read"], 2),
        (["add", "a", "--scope", "read", "--expires", "soon"], 2),
        (["add", "a", "--scope", "read", "--expires", "0d"], 2),
        (["add", "twice", "--scope", "read"], 2),
        (["revoke", "nobody"], 1),
    ],
)
def test_what_is_refused_changes_nothing(home, arguments, status):
    """A name that is taken, a scope that there is not, no time span."""
    token("add", "twice", "--scope", "read")
    before = (home / "tokens").read_bytes()
    done = token(*arguments)
    assert done.exit_code == status
    assert (home / "tokens").read_bytes() == before
    assert os.listdir(home) == ["tokens"]


@pytest.mark.parametrize("command", [["list"], ["add", "x", "--scope", "read"], ["revoke", "a"]])
def test_a_file_that_is_wrong_is_not_changed(home, command):
    """Open to others, or no list of tokens."""
    for text, mode in (("nonsense\n", 0o600), ("", 0o644)):
        (home / "tokens").write_text(text)
        (home / "tokens").chmod(mode)
        done = token(*command)
        assert done.exit_code == 1
        assert "tokens" in done.output
        assert (home / "tokens").read_text() == text


def test_the_file_is_that_of_the_settings(home):
    """Or it has to be named."""
    assert "--token-file" in sos("token", "list").output
    (home / ".sos.conf").write_text("[sos]\ntoken-file = ~/mine\n")
    assert sos("token", "add", "a", "--scope", "read").exit_code == 0
    assert (home / "mine").exists()


def test_two_who_add_at_the_same_time(place):
    """Do so one after the other: no token is lost."""
    adding = [
        place.start_sos(
            f"token --token-file tokens add n{number} --scope read", stdout=subprocess.PIPE
        )
        for number in range(4)
    ]
    secrets = [each.communicate(timeout=60)[0].strip() for each in adding]
    found = parse_tokens((place.directory / "tokens").read_text())
    assert all(found.find(secret) for secret in secrets)


def test_a_secret_is_made(home):
    """As a secret file has it."""
    done = sos("secret")
    assert len(parse_keys(done.output).all) == 1


def test_a_link_is_signed(home):
    """By the key in the secret file, with what goes before it."""
    (home / "secret").write_text(make_secret())
    (home / "secret").chmod(0o600)
    keys = parse_keys((home / "secret").read_text())
    done = sos("sign", f"{ID}.jpg", "--secret-file", "secret", "--base", "https://a.example/")
    assert done.exit_code == 0, done.output
    link = done.output.strip()
    assert link.startswith(f"https://a.example/fetch/{ID}?expires=")
    path = link.removeprefix("https://a.example").encode()
    check_signed(keys, path, time.time() + 3500, "")
    (home / ".sos.conf").write_text("[sos]\nsecret-file = ~/secret\n")
    assert sos("sign", ID, "--expires", "1d").output.startswith(f"/fetch/{ID}?")


@pytest.mark.parametrize(
    "arguments",
    [
        [ID],
        [ID, "--secret-file", "none"],
        [ID, "--secret-file", "open"],
        [ID, "--secret-file", "secret", "--expires", "1"],
        [ID, "--secret-file", "secret", "--base", "a.example"],
        ["A", "--secret-file", "secret"],
    ],
)
def test_a_link_that_cannot_be_signed(home, arguments):
    """Without a key, or for what is no id."""
    for name, mode in (("secret", 0o600), ("open", 0o644)):
        (home / name).write_text(make_secret())
        (home / name).chmod(mode)
    done = sos("sign", *arguments)
    assert done.exit_code == 2
    assert done.output.strip()
