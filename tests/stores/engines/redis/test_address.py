"""The address of a Redis that keeps blobs."""

from __future__ import annotations

import os

import pytest

from sos.stores.engines.redis.address import store_address
from sos.stores.factories import factory, scheme_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("redis://host:1/", "redis://host:1/0"),
        ("redis://[::1]:1/2", "redis://[::1]:1/2"),
        ("rediss://host/2", "rediss://host:6379/2"),
        ("redis:///run/redis.sock", "redis:///run/redis.sock"),
        ("redis:///run/redis.sock?db=2&prefix=a.b", "redis:///run/redis.sock?db=2&prefix=a.b"),
        ("redis://:p%40ss@host?prefix=blobs", "redis://host:6379/0?prefix=blobs"),
        ("redis://user:pass@host?prefix=sos", "redis://host:6379/0"),
    ],
)
def test_an_address_is_shown_without_its_secrets(text, shown):
    """It is normal otherwise."""
    assert str(store_address(text)) == shown
    assert "pass" not in repr(store_address(text)).replace("password_file", "")


def test_an_address_tells_all_there_is():
    """Words in it may be quoted as in any URL; a file's path does not depend on the directory."""
    address = store_address(
        "rediss://us%3Aer@h:1/3?password-file=a%20b&ca-file=/c&durability=relaxed&prefix=x:y"
    )
    assert (address.server.host, address.server.port, address.server.database) == ("h", 1, 3)
    assert (address.tls, address.user, address.password) == (True, "us:er", None)
    assert address.password_file == os.path.abspath("a b")
    assert (address.ca_file, address.durable, address.prefix) == ("/c", False, "x:y")
    assert store_address("redis://:p%40s%3As@host").password == "p@s:s"
    assert store_address("redis://host").durable


@pytest.mark.parametrize(
    "text",
    [
        "redis:",
        "redis://",
        "redis:///",
        "redis://:s3cret@",
        "redis://:s3cret@host:port",
        "redis://:s3cret@host:0",
        "redis://:s3cret@host/one",
        "redis://:s3cret@host/1/2",
        "redis://:s3cret@host?db=1",
        "redis://:s3cret@host#x",
        "redis://:s3cret@host?prefix",
        "redis://:s3cret@host?prefix=",
        "redis://:s3cret@host?prefix=a%20b",
        "redis://:s3cret@host?prefix=a&prefix=a",
        "redis://:s3cret@host?prefix=" + "a" * 65,
        "redis://:s3cret@host?s3cret=1",
        "redis://:s3cret@host?durability=s3cret",
        "redis://:s3cret@host?durability=",
        "redis://:s3cret@host?password-file=/a",
        "redis://:s3cret@host?ca-file=/a",
        "redis://s3cret@host",
        "redis://:s3cret@ho st\n",
        "rediss:///run/s3cret.sock",
        "redis:///run/redis.sock?db=x",
        "memcached://s3cret",
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(text):
    """Whatever is wrong with it."""
    with pytest.raises(
        ValueError, match=r"Redis|prefix|durability|database|password|TLS"
    ) as raised:
        store_address(text)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_redis_is_a_kind_of_store(scheme, reactor):
    """It is found by its scheme."""
    url = f"{scheme}://host"
    assert factory(scheme_of(url)).make(url, "sha1", reactor).name == f"{scheme}://host:6379/0"
