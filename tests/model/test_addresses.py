"""Servers' URLs, hosts, proxies and origins, in their normal form."""

from __future__ import annotations

import pytest

from sos.model import addresses


@pytest.mark.parametrize("host", ["a..b", ".a", "blob_server", "a" * 64, "-a", "a-.b", "a.b" * 90])
def test_what_can_be_no_name_of_a_host(host):
    """It is found when the configuration is read, not by each request."""
    with pytest.raises(ValueError, match="not a host name"):
        addresses.server_url(f"http://{host}:4001")


def test_what_can_be_a_name_of_a_host():
    """Also a complete one, with a dot at the end, and one in Punycode."""
    for host in ("a", "a-b.c9", "1.2.3.4", "xn--bcher-kva.example.", "a" * 63):
        assert addresses.server_url(f"http://{host}:4001") == f"http://{host}:4001"


def test_urls_have_one_spelling():
    """The same server is the same text."""
    assert addresses.server_url("HTTP://LocalHost:4001/") == "http://localhost:4001"
    assert addresses.server_url("http://[::1]:4001") == "http://[::1]:4001"
    assert addresses.server_url("http://[FE80::1%25eth0]:1") == "http://[fe80::1%25eth0]:1"
    assert addresses.server_url("https://a/blobs/") == "https://a/blobs"
    assert addresses.server_url("http://a:80") == "http://a"
    assert addresses.server_url("https://a:443/") == "https://a"
    assert addresses.server_url("https://a:80/") == "https://a:80"
