"""A model cluster under everything that happens to one, in any order."""

from __future__ import annotations

import math
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sos.errors import Deleted, NotFound
from sos.model.merge import times
from sos.model.metadata import is_tombstone
from tests.collection.cluster import CHUNK, GRACE, TOMBSTONE_AGE, Cluster
from tests.support.blobs import body_of, content_id

# Clocks differ by at most so many seconds, and a check takes less than a second.
SKEW = 241

# Two of them share chunks, and one is a chunk of another.
BODIES = [body_of(250), body_of(250)[:200] + b"other", body_of(250)[:CHUNK]]
IDS = [content_id(body) for body in BODIES]

offsets = st.lists(st.integers(-240, 240), min_size=2, max_size=2)
which, door, server = st.integers(0, len(BODIES) - 1), st.integers(0, 1), st.integers(0, 2)
# None lets all that is under way end.
pace = st.none() | st.lists(st.integers(0, 30), max_size=20)
age = st.sampled_from([1, 300, GRACE, TOMBSTONE_AGE])
lives = st.sampled_from([None, None, 400, GRACE, 2 * GRACE])
events = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), door, which, pace),
        st.tuples(st.just("delete"), door, which, pace),
        st.tuples(st.sampled_from(["upload", "delete", "renew", "break off"]), door, which, pace),
        st.tuples(st.sampled_from(["upload", "renew"]), door, which, pace, lives),
        st.tuples(st.just("away"), server, st.booleans(), pace),
        st.tuples(st.sampled_from(["pass", "collect"]), door, which, pace),
        st.tuples(st.just("crash"), st.integers(0, 5), which, pace),
        st.tuples(st.just("wait"), age, which, pace),
    ),
    min_size=6,
    max_size=30,
)


class Ledger:
    """What clients know of each object.

    An operation that has failed, or is under way, may take effect or not.  So after it only the
    next acknowledged one says what is there.

    :ivar expected: of each object, the body, or None if it is deleted; unknown ones are left out.
    :ivar until: how long an object that is expected lives at least, in seconds since the epoch.
    :ivar most: how long it can live, if all operations took effect but for the deletions.
    """

    def __init__(self):
        self.expected = dict.fromkeys(IDS)
        self.until = dict.fromkeys(IDS, 0.0)
        self.most = dict.fromkeys(IDS, 0.0)
        self._under_way = dict.fromkeys(IDS, 0)
        self._doubtful = set()

    def begin(self, id, body, until=math.inf):
        """Note that an operation begins; return what to call at its end.

        :param until: when the object expires, after an upload.
        """
        if body is not None:
            self.most[id] = max(self.most[id], until)
        alone = self._under_way[id] == 0
        self._under_way[id] += 1
        if not alone:
            self._doubtful.add(id)
        before = self.expected.pop(id, ...)

        def ended(outcome):
            self._under_way[id] -= 1
            refused = isinstance(getattr(outcome, "value", None), (Deleted, NotFound))
            failed = hasattr(outcome, "raiseException")
            if id in self._doubtful:
                if not self._under_way[id]:
                    self._doubtful.discard(id)
            elif not failed:
                known = self.until[id] if before not in (None, ...) else 0.0
                self.expected[id], self.until[id] = body, max(known, until)
            elif refused and before is None:
                self.expected[id] = None

        return ended


def happen(cluster, ledger, event):
    kind, first, second, steps, *life = event
    if kind in ("upload", "delete", "renew"):
        id, body = IDS[second], BODIES[second]
        expires = cluster.time + life[0] if life and life[0] is not None else None
        until = math.inf if expires is None else expires
        if kind == "upload":
            ended = ledger.begin(id, body, until)
            cluster.begin(cluster.upload(first, body, expires), ended)
        elif kind == "delete":
            cluster.begin(cluster.delete(first, id), ledger.begin(id, None))
        else:
            cluster.begin(cluster.renew(first, id, expires), ledger.begin(id, body, until))
    elif kind == "break off":
        cluster.begin(cluster.break_off(first, BODIES[second]))
    elif kind == "away":
        cluster.servers[first].away = second
    elif kind == "pass":
        cluster.begin(cluster.replicate())
    elif kind == "collect":
        cluster.begin(cluster.collect(first))
    elif kind == "crash" and cluster.works:
        cluster.works[first % len(cluster.works)].crash()
    elif kind == "wait":
        cluster.wait(first)
    if steps is None:
        cluster.finish()
    for number in steps or ():
        cluster.step(number)


def check(cluster, ledger):
    """Nothing acknowledged is lost, and nothing deleted or expired comes back."""
    for id in IDS:
        for door in range(len(cluster.doors)):
            found, now = cluster.fetch(door, id), cluster.time
            if ledger.most[id] + SKEW < now:
                assert found is None, IDS.index(id)
            elif id in ledger.expected:
                body = ledger.expected[id]
                may_be_gone = ledger.until[id] <= now + SKEW
                assert found == body or (found is None and may_be_gone), IDS.index(id)


def check_rest(cluster):
    """All members agree, and no garbage is left."""
    cluster.rest()
    cluster.wait(2 * max(GRACE, TOMBSTONE_AGE))
    cluster.rest()
    # The first leaves the chunks of expired objects, and the second tombstones of chunks.
    for _ in range(3):
        summary = cluster.run(cluster.collect())
        assert summary.ok, summary
        cluster.rest()
    held = [dict(each.blobs) for each in cluster.servers]
    named = {
        id
        for blobs in held
        for stored in blobs.values()
        if "X-Sos-Manifest" in stored.info.metadata
        for id in blobs
        if id.encode() in stored.body
    }
    for blobs in held:
        for id, stored in blobs.items():
            assert not is_tombstone(stored.info.metadata)
            assert times(stored.info.metadata).is_object or id in named
    for id in {id for blobs in held for id in blobs}:
        found = [blobs[id].digest() for blobs in held if id in blobs]
        assert len(found) == cluster.copies
        assert len(set(found)) == 1


def go_through(offsets, events):
    cluster, ledger = Cluster(offsets), Ledger()
    for event in events:
        happen(cluster, ledger, event)
    cluster.rest()
    check(cluster, ledger)
    check_rest(cluster)
    check(cluster, ledger)


@settings(max_examples=10_000 if "--long" in sys.argv else 300)
@given(offsets, events)
# The second upload would be in vain: its clock is behind that of the deletion.
@example(
    [-37, 233],
    [
        ("upload", 0, 1, None),
        ("delete", 1, 1, None),
        ("upload", 1, 1, None, 400),
        ("upload", 0, 1, None),
    ],
)
def test_what_is_acknowledged_stays_and_what_is_deleted_goes(offsets, events):
    """Whatever crosses, breaks off, is cut off or comes back after weeks."""
    go_through(offsets, events)
