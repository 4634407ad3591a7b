"""The URL of ``--store``, and what is told of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from psycopg.conninfo import conninfo_to_dict

from sos.stores.engines.postgres.address import address
from sos.stores.factories import factory


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://h/db", "postgresql://h/db?table=sos"),
        ("postgresql://u@h:5433/db?table=blobs", "postgresql://u@h:5433/db?table=blobs"),
        ("postgresql://u:secret@h/db", "postgresql://u@h/db?table=sos"),
        ("postgresql:///db?host=/run/pg&table=x", "postgresql:///run/pg/db?table=x"),
        ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db?table=sos"),
        ("postgresql://", "postgresql:///?table=sos"),
    ],
)
def test_a_store_is_named_by_where_it_is(url, name):
    """And by nothing that opens it."""
    assert address(url).name == name
    assert "secret" not in repr(address(url))


def test_libpq_is_given_all_but_what_is_for_the_store():
    """Its own settings are as it has them; those that are missing bound every wait."""
    found = address("postgresql://u:p%26w@h/db?table=x&sslmode=require&connect_timeout=3")
    given = conninfo_to_dict(found.conninfo)
    assert (given["user"], given["password"], given["sslmode"]) == ("u", "p&w", "require")
    assert (given["connect_timeout"], given["tcp_user_timeout"]) == ("3", "10000")
    assert "table" not in given
    assert found.table == "x"
    assert not found.relaxed
    assert address("postgresql://h/db?durability=relaxed").relaxed


@pytest.mark.parametrize(
    "wrong",
    [
        "?table=",
        "?table=Sos",
        "?table=1",
        "?table=a-b",
        "?table=a%22b",
        "?table=a%0a",
        "?table=" + "a" * 42,
        "?durability=none",
        "?nonsense=1",
        ":port/db",
        ":70000/db",
    ],
)
def test_what_is_no_url_of_a_store_is_refused(wrong):
    """Without a word of the password."""
    with pytest.raises(ValueError, match=r"table|durability|URL") as caught:
        factory("postgresql").make("postgresql://user:secret@h" + wrong, "sha1", None)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_its_library_it_says_what_to_install():
    """In one line, which names the extra."""
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from sos.stores.factories import factory\n"
        "try: factory('postgresql').make('postgresql://h/db', 'sha1', None)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.endswith(b"pip install 'sos-storage[postgresql]'\n")
    assert done.stdout.count(b"\n") == 1


def test_making_a_store_starts_and_connects_nothing():
    """For daemons are made before they fork."""
    program = (
        "import threading\n"
        "from twisted.internet import reactor\n"
        "from sos.stores.factories import factory\n"
        "factory('postgresql').make('postgresql://127.0.0.1:1/db', 'sha1', reactor)\n"
        "print(threading.active_count(), len(reactor.getDelayedCalls()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"1 0\n"
