"""Clients that upload and fetch all the time, and note what they were told."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections import Counter
from random import Random

from tests.support.blobs import body_of
from tests.support.http import Answer, ask

_UPLOADERS = 3
_FETCHERS = 3
#: Most bytes of all bodies of a round together: three disks have to hold those of ten.
_MOST_BYTES = 50 << 20
#: What may be answered while servers fail: it is unavailable, or there is no room.
_REFUSALS = (503, 507)


class Load:
    """Uploads and fetches through *ports*, pairs of an upload and a download port.

    :param acknowledged: what makes the body of each id that was acknowledged:
        its size and seed.
    :ivar counts: what happened, by name.
    :ivar wrong: what must never have happened, in words.
    """

    def __init__(
        self,
        ports: list[list[int]],
        acknowledged: dict[str, tuple[int, int]],
        counts: Counter[str],
        seed: int,
    ) -> None:
        self.acknowledged = acknowledged
        self.counts = counts
        self.wrong: list[str] = []
        self._ports = ports
        self._left = _MOST_BYTES
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, Random(f"{seed} {number}")))
            for number, work in enumerate([self._upload] * _UPLOADERS + [self._fetch] * _FETCHERS)
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
        seed = random.getrandbits(60)
        body = body_of(size, seed)
        answer = ask(f"http://127.0.0.1:{random.choice(self._ports)[0]}/upload", body)
        if answer.status == 200:
            id = hashlib.sha1(body).hexdigest()
            if (answer.json["id"], answer.json["size"]) != (id, size) or answer.json["copies"] < 2:
                self.wrong.append(f"an upload of {id} was answered with {answer.json}")
            self.acknowledged[id] = size, seed
            self.counts["acknowledged"] += 1
            self.counts["acknowledged bytes"] += size
        else:
            self._refused("upload", answer)

    def _fetch(self, random: Random) -> None:
        if not self.acknowledged:
            return
        id = random.choice(list(self.acknowledged.copy()))
        self.check(id, random.choice(self._ports)[1])

    def check(self, id: str, port: int) -> bool:
        """Fetch *id* and look at every byte of it; tell whether it came."""
        answer = ask(f"http://127.0.0.1:{port}/fetch/{id}")
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
