"""A store is a dictionary whose entries never change, whatever happens in between."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from sos.errors import Conflict, Mismatch, NotFound
from sos.interfaces import SMALL_BODY
from sos.model.digest import PartitionDigest, hash_of, record_sum
from sos.model.ids import partition, sort_key
from sos.model.metadata import encode
from sos.scrub import Report, scrub
from sos.stores.local import LocalStore
from sos.stores.memory import MemoryStore
from tests.support.blobs import body_of, content, content_id, put

bodies = st.builds(
    body_of, st.sampled_from([0, 1, 500, SMALL_BODY, SMALL_BODY + 1, 150_000]), st.integers(0, 2)
)
names = st.sampled_from([None, None, "a", "holiday", "x" * 128])
metadata = st.sampled_from([{}, {"X-A": "1"}, {"X-A": "2", "X-Mime-Type": "text/plain"}])
steps = st.one_of(
    st.tuples(st.just("put"), names, bodies, metadata),
    st.tuples(st.just("put"), names, bodies, metadata),
    st.tuples(st.just("put_wrong"), bodies),
    st.tuples(st.just("abort"), bodies),
    st.tuples(st.just("look")),
)
local_steps = st.one_of(
    steps,
    st.tuples(st.just("restart")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("damage"), st.integers(0, 99), st.sampled_from(["read", "scrub", "put"])),
)


class Machine:
    """Takes steps with a store and with a dictionary, and compares."""

    def __init__(self, store):
        self.store = store
        self.model: dict[str, tuple[bytes, dict[str, str]]] = {}

    async def put(self, name, body, metadata):
        id = name or content_id(body)
        if id in self.model and self.model[id][0] != body:
            with pytest.raises(Conflict):
                await put(self.store, body, name, metadata)
            return
        assert (await put(self.store, body, name, metadata)).id == id
        self.model.setdefault(id, (body, metadata))

    async def put_wrong(self, body):
        with pytest.raises(Mismatch):
            await put(self.store, body + b"!", content_id(body))

    async def abort(self, body):
        writer = self.store.writer(content_id(body))
        await writer.write(body or b"x")
        writer.abort()

    async def look(self):
        ids = sorted(self.model, key=sort_key)
        assert await self.store.listing() == ids
        digests: dict[str, PartitionDigest] = {}
        for id in ids:
            body, kept = self.model[id]
            blob = await self.store.read(id)
            assert (await content(blob), blob.info.metadata) == (body, kept)
            before = digests.get(partition(id), PartitionDigest())
            digests[partition(id)] = before.with_blob(
                len(body), record_sum(id, encode(kept), hash_of(id, body))
            )
        assert await self.store.digests() == digests
        with pytest.raises(NotFound):
            await self.store.read("missing")


class LocalMachine(Machine):
    """The same with a directory, to which things can happen."""

    def __init__(self, directory, reactor):
        super().__init__(LocalStore(directory, reactor))
        self.reactor = reactor
        self.directory = directory
        self.store.open()

    async def restart(self):
        await self.store.close()
        self.store.open()

    async def crash(self):
        """Go on with the directory as it was while the store was open."""
        copy = Path(tempfile.mkdtemp(dir=self.directory.parent)) / "store"
        shutil.copytree(self.directory, copy)
        await self.store.close()
        self.directory, self.store = copy, LocalStore(copy, self.reactor)
        self.store.open()

    async def damage(self, choice, then):
        files = sorted(path for path in (self.directory / "bodies").rglob("*") if path.is_file())
        if not files:
            return
        path = files[choice % len(files)]
        data = bytearray(path.read_bytes())
        data[Random(choice).randrange(len(data))] ^= 1 << choice % 8
        path.write_bytes(data)
        body, metadata = self.model.pop(path.name)
        if then == "read":
            with pytest.raises((Mismatch, NotFound)):
                await content(await self.store.read(path.name))
        elif then == "scrub":
            report = Report()
            await scrub(self.store, report, self.reactor, 0, lambda: 0.0)
            assert (report.checked, report.damaged) == (len(self.model) + 1, 1)
        else:
            await self.put(path.name, body, metadata)


async def run(machine, chosen):
    for name, *arguments in chosen:
        await getattr(machine, name)(*arguments)
    await machine.look()


@given(st.lists(steps, max_size=12))
@ensureDeferred
async def test_a_store_in_memory(chosen):
    """It is one."""
    await run(Machine(MemoryStore()), chosen)


@given(st.lists(local_steps, max_size=12))
@ensureDeferred
async def test_a_store_in_a_directory(reactor, chosen):
    """Through restarts, crashes and damage."""
    with tempfile.TemporaryDirectory() as place:
        machine = LocalMachine(Path(place) / "store", reactor)
        try:
            await run(machine, chosen)
        finally:
            await machine.store.close()
