"""The URL of a shared cache."""

from __future__ import annotations

import pytest

from sos.errors import ConfigError
from sos.model.cache_address import CacheAddress, cache_address
from sos.model.conf_parser import parse


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        (
            "memcached://a",
            CacheAddress("memcached", "a", 11211),
            "memcached://a:11211",
        ),
        ("memcached://[::1]:5", CacheAddress("memcached", "::1", 5), "memcached://[::1]:5"),
        (
            "memcached:///run/m.sock",
            CacheAddress("memcached", "", 0, "/run/m.sock"),
            "memcached:///run/m.sock",
        ),
        ("redis://a", CacheAddress("redis", "a", 6379), "redis://a:6379/0"),
        ("redis://a:5/3", CacheAddress("redis", "a", 5, database=3), "redis://a:5/3"),
        (
            "redis://:se%2Fcret@a:5",
            CacheAddress("redis", "a", 5, password="se/cret"),
            "redis://a:5/0",
        ),
        (
            "redis://me:secret@a/1",
            CacheAddress("redis", "a", 6379, None, "me", "secret", 1),
            "redis://a:6379/1",
        ),
        (
            "redis://:secret@/run/r.sock",
            CacheAddress("redis", "", 0, "/run/r.sock", password="secret"),
            "redis:///run/r.sock",
        ),
    ],
)
def test_what_is_understood(text, address, shown):
    """Hosts with what belongs to them, and sockets; shown without the password."""
    assert cache_address(text) == address
    assert str(address) == shown
    assert "cret" not in str(address) + repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "a:11211",
        "http://a:1",
        "memcached://",
        "redis:///",
        "redis://a:x",
        "redis://a:0",
        "redis://a:70000",
        "redis://[::1",
        "redis://a/x",
        "redis://a/1/2",
        "redis://a/-1",
        "redis://a?db=1",
        "redis://a#x",
        "redis://a\x00b",
        "memcached://a/1",
        "redis://me@a",
        "memcached://me:hush@a",
        "redis://me:hush@a:x",
        "rediss://me:hush@a",
        "redis://me:hush@",
    ],
)
def test_what_is_refused(text):
    """Whatever is wrong with it, no password is in the complaint."""
    with pytest.raises(ValueError, match=r"cache|memcached") as caught:
        cache_address(text)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[sos]\ncache = redis://me:hush@a:x",
        "[sos]\ncache redis://me:hush@a",
        "[default]\ncache=redis://me:hush@a",
        "[default]\nhttp://a:1 redis://me:hush@a",
    ],
)
def test_a_mistake_in_the_file_is_told_without_the_password(text):
    """By its line; the message goes to the log when the file is read again."""
    with pytest.raises(ConfigError, match=r"sos\.conf, line 2") as caught:
        parse(text, "sos.conf")
    assert "hush" not in str(caught.value)
