"""What ``sos put`` does with a file, against a server in the test's own process."""

from __future__ import annotations

import os
from hashlib import sha1, sha256

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred

from sos.aio.threads import threads_of
from sos.cli import files
from sos.cli.put import put_all
from sos.cli.stored_objects import Unsupported
from sos.cli.uploads import MOST_UNANSWERED, Uploader
from sos.errors import Conflict, Deleted, Mismatch, NotFound, Unavailable
from sos.http.client.agent import Agent
from sos.model.metadata import EMPTY, EXPIRES_AT
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.web.public_api import UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, colliding, content_id, shown
from tests.support.servers import serving


class Stored:
    """What a download server knows: all that *store* has, each question remembered."""

    name = "http://stored"

    def __init__(self, store):
        self.store = store
        self.asked = []

    async def stat(self, id):
        self.asked.append(id)
        return await self.store.stat(id)

    async def read(self, id):
        return await self.store.read(id)


class Keeper:
    """What renews objects: all that there are, unless there is a *failure*."""

    failure = None

    async def renew(self, id, expires=None):
        if self.failure is not None:
            raise self.failure
        return 1


class Api:
    """An API server, and how often it was sent what.

    :ivar renewals: what was to be renewed.
    :ivar before: called before that is answered.
    :ivar instead: answers that in its place.
    """

    def __init__(self, reactor, url, store, agent):
        self.reactor, self.url, self.store, self.agent = reactor, url, store, agent
        self.stored, self.keeper = Stored(store), Keeper()
        self.uploads, self.renewals = [], []
        self.advanced = []
        self.before = lambda: None
        self.instead = None
        self.answer = handler(UploadServer(store, keeper=self.keeper).app)

    def handle(self, request):
        _, _, name = request.path[1:].partition(b"/")
        if not name:
            self.uploads.append(request.headers)
            self.answer(request)
            return
        self.renewals.append(name.decode())
        self.before()
        (self.instead or self.answer)(request)

    def answer_instead(self, *answers):
        """Answer the next renewals so, the last of *answers* for ever: statuses and bodies."""
        rest = list(answers)

        def answer(request):
            status, body = rest.pop(0) if len(rest) > 1 else rest[0]
            request.setResponseCode(status)
            request.finish(body)

        self.instead = answer

    def uploader(self, ask=True, metadata=EMPTY, expires=None):
        exchange = Exchange(self.url, self.agent, self.reactor)
        stored = self.stored if ask else None
        threads = threads_of(self.reactor)
        return Uploader(exchange, threads, metadata, stored, expires=expires)

    async def put(self, path, uploader=None):
        return await (uploader or self.uploader()).put(str(path), self.advanced.append)


async def _api(reactor, algorithm):
    agent = Agent(reactor)
    store = MemoryStore(algorithm=algorithm)
    api = Api(reactor, None, store, agent)
    async with serving(api.handle, reactor, agent) as face:
        api.url = face.name
        yield api


@async_yield_fixture
async def api(reactor):
    async for each in _api(reactor, "sha1"):
        yield each


@async_yield_fixture
async def api_of_sha256(reactor):
    async for each in _api(reactor, "sha256"):
        yield each


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    return path


@pytest.mark.parametrize("size", [0, 10, 70_000, 3_000_000])
@ensureDeferred
async def test_a_file_is_sent_once(api, file, size):
    """With its digest; and when it is there, not again."""
    body = body_of(size)
    file.write_bytes(body)
    assert await api.put(file) == content_id(body)
    (headers,) = api.uploads
    digest = _hash(file, _Never()).repr_digest.encode()
    assert headers[b"repr-digest"] == digest
    assert headers[b"content-length"] == b"%d" % size
    assert api.store.blobs[content_id(body)].body == body
    assert shown(api.store.blobs[content_id(body)].info.metadata) == {}
    assert sum(api.advanced) == size
    assert await api.put(file) == content_id(body)
    assert len(api.uploads) == 1
    assert sum(api.advanced) == 2 * size


@pytest.mark.parametrize("ask", [True, False])
@ensureDeferred
async def test_a_server_that_ignores_the_end(api, file, monkeypatch, ask):
    """As one of 0.1.0: the file is there, but is not said to expire."""
    id = await api.put(file, api.uploader(ask, expires="1h"))
    assert EXPIRES_AT in api.store.blobs[id].info.metadata
    monkeypatch.setattr(UploadServer, "_expiry", lambda self, request: EMPTY)
    file.write_bytes(b"other bytes")
    with pytest.raises(Unsupported, match=f"has stored {content_id(b'other bytes')}, but for ever"):
        await api.put(file, api.uploader(ask, expires="1h"))


def _hash(path, stopped):
    with path.open("rb") as file:
        return files._hash(file, stopped)


class _Never:
    def is_set(self):
        return False


def test_a_hash_is_that_of_the_content(file):
    """By both algorithms, and as an example of RFC 9530 has it (B.1)."""
    body = b'{"hello": "world"}\n'
    file.write_bytes(body)
    found = _hash(file, _Never())
    assert found.size == len(body)
    assert found.ids == {"sha1": sha1(body).hexdigest(), "sha256": sha256(body).hexdigest()}
    assert found.repr_digest == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


@ensureDeferred
async def test_what_is_there_under_the_other_hash_is_there(api_of_sha256, tmp_path):
    """Both are tried until an answer tells which of them the server uses.

    The first 404 is about the object only if the server knows the request.
    """
    api = api_of_sha256
    uploader = api.uploader()
    ids = []
    for number in (1, 2):
        path = tmp_path / str(number)
        path.write_bytes(path.name.encode())
        ids.append((sha1(path.read_bytes()).hexdigest(), sha256(path.read_bytes()).hexdigest()))
        assert await api.put(path, uploader) == ids[-1][1]
    assert len(api.uploads) == 2
    assert api.renewals == [ids[0][0], "-", ids[0][1], ids[1][1]]
    assert await api.put(path) == ids[1][1]
    assert len(api.uploads) == 2


@ensureDeferred
async def test_what_is_there_is_renewed(api, file):
    """In place of a question: a deletion that some server has not heard of cannot undo it."""
    id = await api.put(file)
    api.renewals.clear()
    assert await api.put(file) == id
    assert (api.renewals, api.stored.asked, len(api.uploads)) == ([id], [], 1)


@pytest.mark.parametrize("failure", [Deleted("deleted", EMPTY), NotFound("too few have it")])
@ensureDeferred
async def test_what_cannot_be_renewed_is_sent(api, file, failure):
    """Whatever the download port has, or a cache before it: nobody asks there."""
    id = await api.put(file)
    api.keeper.failure = failure
    assert await api.put(file) == id
    assert (len(api.uploads), api.stored.asked) == (2, [])


@pytest.mark.parametrize(
    "answer",
    [
        (404, b'{"error": "there is nothing at /upload/x"}'),
        (405, b""),
        (400, b""),
        (501, b""),
        (200, b'{"id": "0", "size": 10, "status": "OK"}'),
        (200, b"[]"),
    ],
)
@ensureDeferred
async def test_an_earlier_server_is_only_asked(api, file, tmp_path, answer):
    """As by earlier commands; whether it can renew objects is asked once."""
    other = tmp_path / "other"
    other.write_bytes(b"other")
    uploader = api.uploader()
    api.answer_instead(answer)
    for _ in range(2):
        assert await api.put(file, uploader) == content_id(b"some bytes")
        assert await api.put(other, uploader) == content_id(b"other")
    first, *more = api.renewals
    assert first == content_id(b"some bytes")
    assert more == ["-"] * (answer[0] == 404)
    assert content_id(b"other") in api.stored.asked
    assert len(api.uploads) == 2


@ensureDeferred
async def test_a_token_for_uploads_alone_is_enough(api, tmp_path):
    """What cannot be compared is sent; after a few such files nothing is tried."""

    async def refuse(id):
        raise Unavailable("403")

    api.stored.read = api.stored.stat = refuse
    paths = [tmp_path / str(number) for number in range(2 * MOST_UNANSWERED)]
    for path in paths:
        path.write_bytes(path.name.encode())
        await api.put(path)
    api.renewals.clear()
    uploader = api.uploader()
    for path in paths:
        assert await api.put(path, uploader) == content_id(path.name.encode())
    assert len(api.uploads) == 2 * len(paths)
    assert len(api.renewals) == MOST_UNANSWERED


@ensureDeferred
async def test_a_sha256_is_not_read_back(api_of_sha256, file):
    """So the download port is not needed."""
    api = api_of_sha256

    async def refuse(id):
        raise Unavailable("not now")

    api.stored.read = api.stored.stat = refuse
    for _ in range(2):
        await api.put(file)
    assert len(api.uploads) == 1


@pytest.mark.parametrize("size", [320, 100_000])
@ensureDeferred
async def test_another_file_of_the_same_hash_is_refused(api, file, size):
    """It is not taken for the one that is there: the server is asked to store it."""
    first, second = colliding(size)
    file.write_bytes(first)
    await api.put(file)
    file.write_bytes(second)
    with pytest.raises(Conflict, match="another body with the id"):
        await api.put(file)
    assert len(api.uploads) == 2
    file.write_bytes(first)
    await api.put(file)
    assert len(api.uploads) == 2


@ensureDeferred
async def test_what_is_there_and_cannot_be_read_back_is_sent(api, file):
    """The server looks itself."""
    id = await api.put(file)

    async def refuse(id):
        raise Unavailable("not now")

    api.stored.read = refuse
    assert await api.put(file) == id
    assert len(api.uploads) == 2


@ensureDeferred
async def test_another_size_is_another_file(api, file):
    """Whatever the id says."""
    id = content_id(b"some bytes")
    api.answer_instead((200, b'{"id":"%s","size":9,"status":"OK","copies":1}' % id.encode()))
    assert await api.put(file) == id
    assert len(api.uploads) == 1


@ensureDeferred
async def test_what_cannot_be_asked_is_sent(api, tmp_path):
    """After a few questions in a row without an answer, none is asked."""
    uploader = api.uploader()
    found = (410, b"")
    api.answer_instead((503, b""), found, (503, b""))
    for number in range(8):
        path = tmp_path / str(number)
        path.write_bytes(b"%d" % number)
        await api.put(path, uploader)
    assert len(api.uploads) == 8
    assert len(api.renewals) == 3 + MOST_UNANSWERED - 1


@ensureDeferred
async def test_nothing_is_asked_when_there_is_no_one_to_ask(api, file):
    """The file is sent."""
    for _ in range(2):
        await api.put(file, api.uploader(ask=False))
    assert (api.renewals, api.stored.asked) == ([], [])
    assert len(api.uploads) == 2


@pytest.mark.parametrize("now", [b"other byte", b"some byte", b"some bytes and more", b""])
@pytest.mark.parametrize("size", [10, 3_000_000])
@ensureDeferred
async def test_a_file_that_changes_is_not_stored(api, file, now, size):
    """It is sent as another than it was when it was hashed, and that is told."""
    before = b"some bytes" + body_of(size - 10)
    file.write_bytes(before)
    os.utime(file, ns=(1, 1))
    now += body_of(size - 10) if now else b""
    api.before = lambda: file.write_bytes(now)
    with pytest.raises(Mismatch, match="the file changed during the upload"):
        await api.put(file)
    assert api.store.blobs == {}


@ensureDeferred
async def test_a_change_that_cannot_be_seen_is_found_by_the_server(api, file):
    """By the digest alone: size and time are what they were."""
    status = file.stat()

    def change():
        file.write_bytes(b"other byte")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    api.before = change
    with pytest.raises(Unavailable, match="answered 400: the body's sha-256 is"):
        await api.put(file)
    assert api.store.blobs == {}


@ensureDeferred
async def test_a_server_that_checks_nothing_is_checked(api, file):
    """The id that it answers has to be the hash of the file as it was."""

    def handle_without_digests(request):
        request.headers.pop(b"repr-digest", None)
        api.handle(request)

    api.before = lambda: file.write_bytes(b"other byte")
    async with serving(handle_without_digests, api.reactor) as face:
        api.url = face.name
        with pytest.raises(Mismatch, match="which is not the file's hash"):
            await api.put(file)


@pytest.mark.skipif(not os.path.exists("/proc/uptime"), reason="needs /proc")
@ensureDeferred
async def test_a_file_that_does_not_know_its_size_is_streamed(api):
    """Neither asked for nor announced: it is another one each time it is read."""
    id = await api.put("/proc/uptime")
    assert api.store.blobs[id].body
    (headers,) = api.uploads
    assert b"repr-digest" not in headers
    assert (api.renewals, api.stored.asked) == ([], [])


@ensureDeferred
async def test_a_hash_that_is_given_up_stops_reading(file, reactor):
    """At the next piece."""
    seen = []

    def run_in_thread(function, path, stopped):
        seen.append(stopped)
        return Deferred()

    work = deferred(files.hashed(None, run_in_thread))
    assert not seen[0].is_set()
    work.addErrback(lambda failure: failure.trap(CancelledError))
    work.cancel()
    assert seen[0].is_set()
    assert _hash(file, seen[0]).size == 0


class TestAll:
    """Many files at once."""

    def test_so_many_and_no_more(self):
        """The next begins when one has ended; results are in the order of the names."""
        started = {}

        async def work(name):
            started[name] = Deferred()
            return await started[name]

        done = deferred(put_all("abcde", work, 2))
        for name, so_far in [("b", "abc"), ("a", "abcd"), ("d", "abcde")]:
            started[name].callback(name.upper())
            assert "".join(started) == so_far
        assert not done.called
        for name in "ce":
            started[name].callback(name.upper())
        assert list(done.result.items()) == list(zip("abcde", "ABCDE", strict=True))

    def test_one_that_fails_is_told_and_left_out(self, capsys):
        """The others go on."""

        async def work(name):
            if name == "b":
                raise Unavailable("no\nserver")
            if name == "c":
                raise OSError(5, "Input/output error")
            return name

        done = deferred(put_all("abcd", work, 1))
        assert done.result == {"a": "a", "d": "d"}
        errors = capsys.readouterr().err.splitlines()
        assert errors == [r"Error: b: no\nserver", "Error: c: Input/output error"]

    def test_who_is_cancelled_ends(self):
        """As by Ctrl-C: all of them, and that is what is told."""

        async def work(name):
            await Deferred()

        done = deferred(put_all("abcde", work, 3))
        done.cancel()
        assert done.result.check(CancelledError)
        done.addErrback(lambda _: None)
