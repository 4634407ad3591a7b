"""Clients that upload, fetch and delete all the time, and note what they were told."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.support.blobs import body_of, content_id
from tests.support.http import Answer, ask

_UPLOADERS = 3
_FETCHERS = 3
_DELETERS = 1
#: Most bytes of all bodies of a round together: three disks have to hold those of ten.
_MOST_BYTES = 50 << 20
#: What may be answered while servers fail: it is unavailable, or there is no room.
_REFUSALS = (503, 507)


class Load:
    """Uploads, fetches and deletions through *ports*, pairs of an upload and a download port.

    :param acknowledged: what makes the body of each id that was acknowledged:
        its size and seed.
    :param deleted: the same of what was deleted since.  What may have been deleted is in neither.
    :ivar counts: what happened, by name.
    :ivar wrong: what must never have happened, in words.
    """

    def __init__(
        self,
        ports: list[list[int]],
        acknowledged: dict[str, tuple[int, int]],
        deleted: dict[str, tuple[int, int]],
        counts: Counter[str],
        seed: int,
    ) -> None:
        self.acknowledged = acknowledged
        self.deleted = deleted
        #: All that somebody has tried to delete.
        self.doomed = set(deleted)
        self._doubtful: dict[str, tuple[int, int]] = {}
        self._changing: set[str] = set()
        self.counts = counts
        self.wrong: list[str] = []
        self._ports = ports
        self._left = _MOST_BYTES
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, Random(f"{seed} {number}")))
            for number, work in enumerate(
                [self._upload] * _UPLOADERS + [self._fetch] * _FETCHERS + [self._delete] * _DELETERS
            )
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work, random: Random) -> None:
        while not self._ended.is_set():
            try:
                work(random)
            except (OSError, http.client.HTTPException):
                self.counts["broken off"] += 1
            except Exception as error:
                self.wrong.append(f"the client failed: {error!r}")
            time.sleep(random.uniform(0, 0.05))

    def _upload(self, random: Random) -> None:
        size = random.choice([0, 1, 100, 1000, 60_000, 70_000, 300_000, 3_000_000, 9_000_000])
        if size > self._left:
            size = random.randrange(1000)
        self._left -= size
        made = size, random.getrandbits(60)
        if self.deleted and random.random() < 0.1:
            made = random.choice(list(self.deleted.copy().values()))
        with self._alone(content_id(body_of(*made))) as id:
            if id is not None:
                self._upload_as(id, made, random)

    @contextmanager
    def _alone(self, id: str) -> Iterator[str | None]:
        """Yield *id*, or None if another client changes it just now: what wins is not known."""
        if id in self._changing:
            yield None
            return
        self._changing.add(id)
        try:
            yield id
        finally:
            self._changing.discard(id)

    def _upload_as(self, id: str, made: tuple[int, int], random: Random) -> None:
        body, size = body_of(*made), made[0]
        was_deleted = self.deleted.pop(id, None)
        if was_deleted:
            self._doubtful[id] = made
        answer = ask(f"http://127.0.0.1:{random.choice(self._ports)[0]}/upload", body)
        if answer.status == 200:
            if (answer.json["id"], answer.json["size"]) != (id, size) or answer.json["copies"] < 2:
                self.wrong.append(f"an upload of {id} was answered with {answer.json}")
            self._doubtful.pop(id, None)
            self.acknowledged[id] = made
            self.counts["acknowledged"] += 1
            self.counts["acknowledged bytes"] += size
        else:
            self._refused("upload", answer)

    def _delete(self, random: Random) -> None:
        known = {**self.acknowledged.copy(), **self._doubtful.copy()}
        if len(known) < 20:
            return
        # Often one of the largest: those are in chunks.
        ids = sorted(known, key=lambda id: known[id], reverse=random.random() < 0.7)
        with self._alone(ids[int(len(ids) * random.random() ** 3)]) as id:
            if id is None:
                return
            made = known[id]
            self.doomed.add(id)
            was_doubtful = self.acknowledged.pop(id, None) is None
            self._doubtful[id] = made
            port = random.choice(self._ports)[0]
            answer = ask(f"http://127.0.0.1:{port}/upload/{id}", method="DELETE")
            if answer.status == 200 or (was_doubtful and answer.status in (404, 410)):
                del self._doubtful[id]
                self.deleted[id] = made
                self.counts["deleted"] += 1
            else:
                self._refused("deletion", answer)

    def _fetch(self, random: Random) -> None:
        if not self.acknowledged:
            return
        id = random.choice(list(self.acknowledged.copy()))
        self.check(id, random.choice(self._ports)[1])

    def check(self, id: str, port: int) -> bool:
        """Fetch *id* and look at every byte of it; tell whether it came."""
        answer = ask(f"http://127.0.0.1:{port}/fetch/{id}")
        if answer.status == 410 and id in self.doomed:
            return False
        if answer.status != 200:
            self._refused(f"fetch of {id}", answer)
            return False
        if hashlib.sha1(answer.body).hexdigest() != id:
            self.wrong.append(f"wrong bytes came for {id}")
        self.counts["fetched"] += 1
        self.counts["fetched bytes"] += len(answer.body)
        return True

    def _refused(self, what: str, answer: Answer) -> None:
        self.counts[f"answered {answer.status}"] += 1
        if answer.status not in _REFUSALS:
            self.wrong.append(f"an {what} was answered {answer.status}: {answer.body[:200]!r}")
