"""Requests to a bucket, and what is made of the answers of a server that has a script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from email.utils import formatdate
from uuid import UUID

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from sos.errors import Conflict, NoSpace, NotFound, StoreUnusable, Unavailable
from sos.stores.engines.s3.client import TRIES, Answer, Client, Denied
from sos.stores.engines.s3.multipart import abort_forgotten
from sos.stores.engines.s3.records import document
from tests.stores.engines.s3.stores import client_of, let_in, store_at, store_in
from tests.support.blobs import content, put
from tests.support.processes import ROOT

STORE = document(str(UUID(int=1)))


class _Script(Protocol):
    """Answers each request with what is next in the script, and hangs up."""

    def __init__(self, answers, requests):
        self._answers = answers
        self._requests = requests
        self._request = b""

    def dataReceived(self, data):
        self._request += data
        head, _, body = self._request.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: ([0-9]+)", head)
        if length is not None and len(body) < int(length[1]):
            return
        self._requests.append(self._request)
        answer = self._answers.pop(0) if self._answers else _error(500, "InternalError")
        if b"\r\nDate: " not in answer:
            date = f"\r\nDate: {formatdate(usegmt=True)}\r\n".encode()
            answer = answer.replace(b"\r\n", date, 1)
        self.transport.write(answer)
        self.transport.loseConnection()


def _answer(status, body=b"", *fields):
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", "Connection: close"]
    lines += fields
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _error(status, code, text="as it says"):
    return _answer(status, f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode())


def _listed(contents, truncated="false"):
    truncated = f"<IsTruncated>{truncated}</IsTruncated>"
    return f"<ListBucketResult>{truncated}{contents}</ListBucketResult>".encode()


class Scripted:
    """A server with a script, and a client of it."""

    def __init__(self, reactor):
        self.answers = []
        self.requests = []
        factory = Factory.forProtocol(lambda: _Script(self.answers, self.requests))
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.url = f"s3://scripted/x?endpoint=http://127.0.0.1:{self.port.getHost().port}"
        self.client = client_of(self.url, reactor)


@async_yield_fixture
async def scripted(reactor):
    scripted = Scripted(reactor)
    await let_in(scripted.client)
    yield scripted
    await scripted.client.close()
    await scripted.port.stopListening()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@ensureDeferred
async def test_what_passes_is_tried_again(scripted, status):
    """A server that is to be asked more slowly is, and the request succeeds."""
    scripted.answers += [_error(status, "SlowDown"), _answer(200, b"well")]
    answer = await scripted.client.ask("GET", "key")
    assert answer.body == b"well"
    assert len(scripted.requests) == 2


@ensureDeferred
async def test_it_is_not_tried_for_ever(scripted):
    """After the last try it is Unavailable, and the error says what the server says."""
    scripted.answers += [_error(503, "SlowDown")] * 9
    with pytest.raises(Unavailable, match=r"503 SlowDown \(as it says\)"):
        await scripted.client.ask("PUT", "key", body=b"body")
    assert len(scripted.requests) == TRIES
    assert all(request.endswith(b"\r\n\r\nbody") for request in scripted.requests)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_error(507, "InsufficientStorage"), NoSpace),
        (_error(403, "QuotaExceeded"), NoSpace),
        (_error(403, "AccessDenied"), Denied),
        (_error(401, "Unknown"), Denied),
        (_answer(301, b"", "Location: http://elsewhere/"), Unavailable),
        (_answer(307, b"", "Location: http://elsewhere/"), Unavailable),
        (_error(400, "InvalidRequest"), Unavailable),
        (_error(404, "NoSuchBucket"), Unavailable),
        (_answer(418, b"\x00\x1b[31m<Code>"), Unavailable),
    ],
)
@ensureDeferred
async def test_what_does_not_pass_is_told_at_once(scripted, answer, error):
    """As what it means, and in one printable line."""
    scripted.answers.append(answer)
    with pytest.raises(error) as caught:
        await scripted.client.ask("PUT", "key", body=b"body")
    assert len(scripted.requests) == 1
    assert str(caught.value).isprintable()


@ensureDeferred
async def test_an_error_behind_a_status_of_200_is_an_error(scripted, reactor):
    """S3 begins to answer some requests before it knows how they end."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    error = _answer(200, b"<Error><Code>InternalError</Code></Error>")
    scripted.answers += [error, error, error]
    with pytest.raises(Unavailable, match="InternalError"):
        await store._bucket.copy("a", "b", None, '"etag"')
    with pytest.raises(Unavailable, match="InternalError"):
        await store.listing()
    await store.close()


@pytest.mark.parametrize(
    "page",
    [
        b"<ListBucketResult><Contents><Key>x/index/a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>",
        _listed("<Contents/>"),
        _listed("<Contents><Size>1</Size></Contents><Contents><Key>x/index/a</Key></Contents>"),
        _listed("<Contents><Key/></Contents>"),
        _listed("<Contents><Key>x/index/a</Key></Contents>" * 2),
        _listed("<Contents><Key>x/blobs/a</Key></Contents>"),
        _listed("<Contents><Key>y/index/a</Key></Contents>"),
        _listed(
            "<Contents><Key>x/index/b</Key></Contents><Contents><Key>x/index/a</Key></Contents>"
        ),
        b"<ListBucketResult><Contents><Key>x/index/b</Key></Contents>"
        b"<Contents><Key>x/index/a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult>",
        b"junk",
        b"<Other/>",
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + _listed(""),
        b'<!DOCTYPE x [<!ENTITY e "false">]>' + _listed("", truncated="&e;"),
        '<!DOCTYPE x [<!ENTITY e "false">]>'.encode("utf-16")
        + _listed("").decode().encode("utf-16"),
    ],
)
@ensureDeferred
async def test_a_listing_that_makes_no_sense_is_never_taken_for_one(scripted, reactor, page):
    """A replication that believed it would copy everything, or nothing."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    scripted.answers += [_answer(200, page)] * TRIES
    with pytest.raises(Unavailable):
        await store.listing()
    await store.close()


@ensureDeferred
async def test_what_entities_stand_for_is_never_made(scripted):
    """A document of some megabytes would become one of gigabytes, in one step."""
    made = f"<ListBucketResult>{1000 * '&e;'}</ListBucketResult>"
    bomb = f'<!DOCTYPE x [<!ENTITY e "{1000 * "x"}">]>{made}'.encode()
    scripted.answers.append(_answer(200, bomb))
    with pytest.raises(Unavailable, match="sent invalid XML"):
        await scripted.client.document("GET", "", "ListBucketResult")


@pytest.mark.parametrize("tags", [b"<a>" * 100_001, b"<a/>" * 100_001])
@ensureDeferred
async def test_a_document_of_too_many_tags_is_not_parsed(scripted, tags):
    """Of eight megabytes it would take five hundred of memory, and seconds of everybody."""
    scripted.answers.append(_answer(200, b"<x>" + tags + b"</x>"))
    with pytest.raises(Unavailable, match="over 100000 tags"):
        await scripted.client.document("GET", "", "x")


@ensureDeferred
async def test_keys_without_end(scripted, reactor):
    """Of one blob there are a few: who lists ever more is given up."""
    bucket = store_at(scripted.url, reactor)._bucket
    await let_in(bucket.client)
    for page in range(20):
        keys = "".join(
            f"<Contents><Key>x/index/{page:02}{n:04}</Key></Contents>" for n in range(1000)
        )
        scripted.answers.append(_answer(200, _listed(keys, truncated="true")))
    with pytest.raises(Unavailable, match="where few are expected"):
        await bucket.keys("index/")
    await bucket.client.close()


@pytest.mark.parametrize("key", ["../../other/x", "a b", "a?x=y", "a#b", "&#233;", "&#10;"])
@ensureDeferred
async def test_a_key_that_leads_elsewhere_is_left_alone(scripted, reactor, key):
    """We would sign the removal of what the server makes of it: a key of another bucket."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    key = f"<Contents><Key>x/index/86f/a/{key}</Key></Contents>"
    scripted.answers += [_answer(200, _listed(key)), _error(404, "NoSuchKey")]
    await store._blobs._unmark("a")
    assert [request.split(b" ")[0] for request in scripted.requests] == [b"GET"]
    await store.close()


@pytest.mark.parametrize(
    "field",
    ["sos-at: ../../../other?x=y", "sos-at: \xe9", "sos-sha256: zz", "sos-sha256: " + 64 * "G"],
)
@ensureDeferred
async def test_a_hash_that_is_none_leads_nowhere(scripted, reactor, field):
    """One is part of a path, and both of keys."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    scripted.answers.append(_answer(200, b"", f"x-amz-meta-{field}"))
    with pytest.raises(Unavailable, match="an invalid hash"):
        assert (await store._blobs.held("a")).marker
    assert len(scripted.requests) == 1
    await store.close()


@pytest.mark.parametrize("size", [1 << 63, 10**19])
@ensureDeferred
async def test_a_size_that_is_none(scripted, reactor, size):
    """No number of bytes passes 2**63."""
    bucket = store_at(scripted.url, reactor)._bucket
    await let_in(bucket.client)
    scripted.answers += [f"HTTP/1.1 200 Text\r\nContent-Length: {size}\r\n\r\n".encode()] * TRIES
    with pytest.raises(Unavailable, match="sent an invalid size"):
        await bucket.entry("a")
    await bucket.client.close()


@pytest.mark.parametrize(
    "lease",
    [
        b"[" * 100_000,
        b'{"token": "a", "until": NaN}',
        b'{"token": "a", "until": Infinity}',
        b'{"token": "a", "until": 1%s}' % (400 * b"0"),
        b'{"token": "a"}',
        b"[]",
    ],
    ids=lambda lease: repr(lease[:30]),
)
@ensureDeferred
async def test_a_lease_that_is_none_is_no_free_one(scripted, reactor, lease):
    """Who believed that would drop what another does, too."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    store._bucket.conditional = True
    held = _listed("<Contents><Key>x/lease/0000000000000001</Key></Contents>")
    scripted.answers += [_answer(200, held), _answer(200, lease)]
    with pytest.raises(Unavailable, match="is not a lease"):
        await store.lease(10)
    await store.close()


@ensureDeferred
async def test_an_error_is_told_so_that_it_can_be_shown(scripted):
    """To a terminal, or in a log."""
    scripted.answers.append(_error(400, "\x1b[2J", "\n<script>"))
    with pytest.raises(Unavailable) as caught:
        await scripted.client.ask("GET")
    assert str(caught.value).isprintable()


@ensureDeferred
async def test_a_store_document_that_is_a_trap(scripted, reactor):
    """It is none, whatever Python thinks of it."""
    store = store_at(scripted.url, reactor)
    scripted.answers.append(_answer(200, b"[" * 100_000))
    with pytest.raises(StoreUnusable, match="cannot be used"):
        await store.open()
    await store.close()


@ensureDeferred
async def test_a_listing_that_begins_anew_does_not_go_on_for_ever(scripted, reactor):
    """As that of a server that does not know where a page is to begin."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    page = _listed("<Contents><Key>x/index/a</Key></Contents>", truncated="true")
    scripted.answers += [_answer(200, page)] * 9
    with pytest.raises(Unavailable, match="out of order"):
        await store.listing()
    assert len(scripted.requests) == 2
    await store.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_answer(403, b"", f"Date: {formatdate(0, usegmt=True)}"), "s ahead of the server's"),
        (_answer(403, b"", f"Date: {formatdate(2**33, usegmt=True)}"), "s behind the server's"),
        (_error(403, "RequestTimeTooSkewed"), "or of the server is wrong"),
        (_error(400, "RequestTimeTooSkewed"), "clock"),
        (
            _answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", "Date: today"),
            "or of the server is wrong",
        ),
    ],
)
@ensureDeferred
async def test_a_clock_that_is_off_is_not_taken_for_wrong_keys(scripted, answer, message):
    """By the code, or by the time that the server tells where there can be no code."""
    scripted.answers.append(answer)
    with pytest.raises(Unavailable, match=message) as error:
        await scripted.client.ask("HEAD" if b"\r\n\r\n<" not in answer else "GET", "key")
    assert not isinstance(error.value, Denied)


class _Elsewhere(Protocol):
    """One connection to a server that answers all on it with the same, and keeps it."""

    def __init__(self, answer):
        self._answer = answer.replace(b"Connection: close\r\n", b"")

    def dataReceived(self, data):
        self.transport.write(self._answer)


@pytest.mark.parametrize("status", [301, 307, 401, 403, 500, 502, 503, 504])
@ensureDeferred
async def test_after_a_refusal_a_new_connection_is_made(reactor, status):
    """Behind the address there may be another server by now, to which a kept one does not lead."""
    answers = [_error(status, "Refused"), _answer(200, b"well")]
    made = []

    def connected():
        made.append(_Elsewhere(answers[min(len(made), 1)]))
        return made[-1]

    factory = Factory.forProtocol(connected)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = client_of(f"s3://bucket/x?endpoint=http://127.0.0.1:{port.getHost().port}", reactor)
    await let_in(client)
    try:
        answer = await client.ask("GET", "key")
    except Unavailable:
        answer = await client.ask("GET", "key")
    assert (answer.body, len(made)) == (b"well", 2)
    await client.close()
    await port.stopListening()


@ensureDeferred
async def test_a_full_server_is_said_to_be_full(scripted, reactor):
    """It takes nothing for a while, and says why."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    store._bucket.conditional = True
    scripted.answers += [_error(507, "InsufficientStorage", "no room"), _answer(200, STORE)]
    with pytest.raises(NoSpace):
        await put(store, b"too much")
    status = await store.status()
    assert not status.writable
    assert "no room" in status.reason
    await store.close()


@ensureDeferred
async def test_nothing_is_acknowledged_before_it_is_listed(scripted, reactor):
    """A body whose marker cannot be written was not stored, as far as anybody is told."""
    store = store_at(scripted.url, reactor)
    await let_in(store._bucket.client)
    store._bucket.conditional = True
    scripted.answers += [_answer(200)] + [_error(503, "SlowDown")] * TRIES
    with pytest.raises(Unavailable):
        await put(store, b"body")
    assert len(scripted.requests) == 1 + TRIES
    await store.close()


class _Ignorant(Client):
    """Of a server that does not know If-None-Match: ignores it, or refuses it with *refusal*."""

    refusal: int | None = None

    async def ask(self, method, key="", query={}, fields={}, body=b"", **options):  # noqa: B006
        if "If-None-Match" in fields and self.refusal is not None:
            return Answer(self.refusal, {})
        fields = {name: value for name, value in fields.items() if name != "If-None-Match"}
        return await super().ask(method, key, query, fields, body, **options)


@pytest.mark.parametrize("refusal", [None, 400, 501])
@ensureDeferred
async def test_a_server_without_conditions_keeps_blobs_and_grants_no_lease(
    server, prefix, reactor, refusal
):
    """Names are looked at before they are given; nothing is ever dropped there."""
    store = store_in(server, prefix, reactor)
    store._bucket.client.__class__ = type("_", (_Ignorant,), {"refusal": refusal})
    await store.open()
    assert not store._bucket.conditional
    await put(store, b"first", "name", {"X-A": "1"})
    await put(store, b"first", "name", {"X-A": "2"})
    with pytest.raises(Conflict):
        await put(store, b"other", "name")
    id = (await put(store, b"content")).id
    assert await content(await store.read(id)) == b"content"
    assert (await store.stat("name")).metadata == {"X-A": "1"}
    with pytest.raises(NotFound, match="If-None-Match"):
        await store.lease(60)
    with pytest.raises(Conflict):
        await store.drop(id, "0" * 32)
    assert len(await store.listing()) == 2
    await store.close()


@ensureDeferred
async def test_a_lease_ends_by_the_clock_of_the_server(store):
    """Then another is given, and the first is of no use any more."""
    first = await store.lease(1)
    id = (await put(store, b"dropped")).id
    second = None
    while second is None:
        try:
            second = await store.lease(60)
        except Conflict:
            continue  # each time it is asked takes the server some milliseconds
    with pytest.raises(Conflict):
        await store.drop(id, first)
    await store.drop(id, second)
    assert len(await store._bucket.keys("lease/")) == 1


@ensureDeferred
async def test_uploads_that_were_forgotten_are_given_back(store):
    """Those that were begun a day ago; not those of a minute ago, nor of another prefix."""
    bucket = store._bucket
    for key in (f"{bucket.prefix}blobs/x", "other/x"):
        await bucket.client.document(
            "POST", key, "InitiateMultipartUploadResult", query={"uploads": ""}
        )

    async def uploads():
        found = await bucket.client.document(
            "GET", "", "ListMultipartUploadsResult", query={"uploads": ""}
        )
        keys = [each.findtext("Key") for each in found.findall("Upload")]
        return [key for key in keys if key.endswith("/x")]

    await abort_forgotten(bucket)
    assert len(await uploads()) == 2
    # Told in whole seconds: when one was begun is rounded up, the time of an answer down.
    await abort_forgotten(bucket, seconds=-1)
    assert await uploads() == ["other/x"]


_FIND = """
import sys
from sos.errors import StoreUnusable
from sos.stores.engines.s3.signing import find_identity
try:
    identity = find_identity(None)
except StoreUnusable as error:
    sys.exit(str(error))
keys = identity.credentials.get_frozen_credentials()
print(identity.region, keys.access_key, keys.secret_key, repr(identity))
"""


def _python(code, **environment):
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    kept["AWS_EC2_METADATA_DISABLED"] = "true"
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True
    )


def test_keys_and_region_are_found_where_all_programs_find_them(tmp_path):
    """In the environment first, then in the files; no secret is in what is shown."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = filesecret\n"
        "[other]\naws_access_key_id = B\naws_secret_access_key = othersecret\n"
    )
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-north-1\n")
    home = {"HOME": str(tmp_path)}
    done = _python(_FIND, **home)
    assert done.stdout.startswith("eu-north-1 A filesecret "), done.stderr
    assert done.stdout.count("secret") == 1
    assert _python(_FIND, **home, AWS_PROFILE="other").stdout.startswith("us-east-1 B othersecret")
    keys = {"AWS_ACCESS_KEY_ID": "C", "AWS_SECRET_ACCESS_KEY": "envsecret"}
    assert _python(_FIND, **home, **keys).stdout.startswith("eu-north-1 C envsecret")


def test_without_keys_the_store_can_never_be_opened():
    """What is told says what to do."""
    done = _python(_FIND)
    assert done.returncode == 1
    assert done.stderr.startswith("no S3 keys found: set AWS_ACCESS_KEY_ID")


def test_without_botocore_it_says_what_to_install():
    """In one line; every other kind of store works without it."""
    code = (
        "import sys; sys.modules['botocore'] = None\n"
        "from sos.stores.factories import factory\n"
        "factory('memory').make('memory:', 'sha1', None)\n"
        "try: factory('s3').make('s3://bucket', 'sha1', None)\n"
        "except ValueError as error: print(error)\n"
    )
    done = _python(code)
    assert done.stdout == "an s3: store needs botocore: pip install 'sos-storage[s3]'\n", (
        done.stderr
    )
