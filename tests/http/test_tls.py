"""Files of certificates and keys, and what is wrong with them."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sos.errors import ConfigError
from sos.http.tls import client_tls, server_tls
from sos.tap import api, blob
from tests.support.certificates import Authority, private_pem
from tests.support.options import parsed, refusal


@pytest.fixture(autouse=True)
def files(home):
    authority = Authority(home, "ca")
    for name in ("mine", "other"):
        authority.issue(name)
    both = home / "both.pem"
    both.write_bytes((home / "mine.pem").read_bytes() + (home / "mine.key").read_bytes())
    both.chmod(0o600)
    (home / "open.key").write_bytes((home / "mine.key").read_bytes())
    (home / "open.key").chmod(0o644)
    key = load_pem_private_key((home / "mine.key").read_bytes(), None)
    (home / "locked.key").write_bytes(private_pem(key, b"password"))
    (home / "locked.key").chmod(0o600)
    (home / "junk.pem").write_text("-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n")
    (home / "junk.pem").chmod(0o600)


def test_files_that_are_right(home):
    """The key may be in the same file, and the chain follow the certificate."""
    server_tls("mine.pem", "mine.key", None)
    server_tls("both.pem", None, "ca.pem")
    client_tls(None, None, None)("a.example")
    client_tls("ca.pem", "mine.pem", "mine.key")("127.0.0.1")
    (home / "chain.pem").write_bytes(
        (home / "mine.pem").read_bytes() + (home / "ca.pem").read_bytes()
    )
    server_tls("chain.pem", "mine.key", "chain.pem")
    client_tls("ca.pem", "chain.pem", "mine.key")("a.example")


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "message"),
    [
        ("none.pem", "mine.key", None, "cannot read .*none.pem"),
        ("mine.pem", "none.key", None, "cannot read .*none.key"),
        ("mine.pem", "mine.key", "none.pem", "cannot read .*none.pem"),
        ("junk.pem", "mine.key", None, "junk.pem contains no usable certificate"),
        ("mine.key", "mine.key", None, "mine.key contains no usable certificate"),
        ("mine.pem", "mine.key", "junk.pem", "junk.pem contains no usable certificate"),
        ("mine.pem", "junk.pem", None, "junk.pem: the file contains no usable private key"),
        ("mine.pem", "other.key", None, "other.key does not match the certificate in .*mine.pem"),
        ("mine.pem", "open.key", None, "other users can access .*open.key"),
        ("mine.pem", None, None, "mine.pem.*; if the key is in another file"),
        ("mine.pem", "locked.key", None, "locked.key: the key is encrypted"),
    ],
)
def test_files_that_are_wrong(certificate, key, ca, message):
    """The one that is, is named, on either side."""
    with pytest.raises(ConfigError, match=message):
        server_tls(certificate, key, ca)
    with pytest.raises(ConfigError, match=message):
        client_tls(ca, certificate, key)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (blob, "--tls-certificate none.pem", "none.pem: No such file"),
        (blob, "--tls-certificate mine.pem --tls-key other.key", "does not match the certificate"),
        (blob, "--tls-key mine.key", "needs --tls-certificate"),
        (blob, "--tls-client-ca ca.pem", "needs --tls-certificate"),
        (blob, "--host 0.0.0.0 --tls-certificate both.pem", "--no-auth"),
        (
            blob,
            "--listen ssl:1:interface=127.0.0.1:privateKey=mine.key:certKey=mine.pem "
            "--tls-certificate both.pem",
            "ssl:",
        ),
        (api, "--store x --tls-certificate mine.pem --tls-key locked.key", "locked.key"),
        (api, "--store x --tls-ca junk.pem", "junk.pem contains no usable certificate"),
        (api, "--store x --tls-client-key mine.key", "needs --tls-client-certificate"),
    ],
)
def test_options_that_are_wrong(capsys, module, arguments, message):
    """One line, exit status 2."""
    assert message in refusal(capsys, module, *arguments.split())


def test_options_that_are_right(home):
    """A certificate that is asked for is as good as a secret; paths are absolute."""
    options = parsed(
        blob, "--host", "0.0.0.0", "--tls-certificate", "both.pem", "--tls-client-ca", "ca.pem"
    )
    assert options["tls-certificate"] == str(home / "both.pem")
    (home / ".sos.conf").write_text("http://a:1\n[sos]\ntls-ca = ~/ca.pem\n")
    assert parsed(api)["tls-ca"] == str(home / "ca.pem")


def test_a_pipe_is_not_waited_for(home):
    """Whichever of the files it is in the place of."""
    os.mkfifo(home / "pipe", 0o600)
    for files in (
        ("pipe", None, None),
        ("mine.pem", "pipe", None),
        ("mine.pem", "mine.key", "pipe"),
    ):
        with pytest.raises(ConfigError, match=r"cannot read .*pipe: it is a pipe"):
            server_tls(*files)
