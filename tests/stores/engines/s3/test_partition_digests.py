"""Counting a bucket, of which the listings do not all come."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from sos.errors import Unavailable
from sos.stores.engines.s3.partition_digests import PartitionDigests
from sos.stores.engines.s3.records import marker
from tests.support.blobs import content_id

ID = content_id(b"hello")


class Listings:
    """A bucket whose listings come, or fail, when they are told to."""

    def __init__(self):
        self.asked = []
        self.given_up = 0

    async def pages(self, prefix):
        page = Deferred()
        self.asked.append(page)
        try:
            yield await page
        except CancelledError:
            self.given_up += 1
            raise


@pytest.fixture
def bucket():
    return Listings()


def test_a_few_are_listed_at_once(bucket):
    """Of the sixteen that there are; the next begins when one has come."""
    counted = Deferred.fromCoroutine(PartitionDigests(bucket).count())
    begun = [len(bucket.asked)]
    while not counted.called:
        next(page for page in bucket.asked if not page.called).callback([])
        begun.append(len(bucket.asked))
    assert begun == [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16, 16]


def test_one_that_fails_ends_the_count(bucket):
    """The others are given up, and none is begun but the one that had its turn already."""
    counted = Deferred.fromCoroutine(PartitionDigests(bucket).count())
    bucket.asked[1].errback(Unavailable("it does not answer"))
    assert counted.result.check(Unavailable)
    counted.addErrback(lambda failure: None)
    assert (len(bucket.asked), bucket.given_up) == (5, 4)


@pytest.fixture
def digests(bucket):
    """Counted accounts, in which one partition is stale."""
    digests = PartitionDigests(bucket)
    counted = Deferred.fromCoroutine(digests.count())
    while not counted.called:
        next(page for page in bucket.asked if not page.called).callback([])
    with digests.change(ID):
        pass
    bucket.asked.clear()
    return digests


def test_callers_that_come_at_once_list_a_stale_partition_once(bucket, digests):
    """Requests cost money."""
    answers = [Deferred.fromCoroutine(digests.digests(Clock())) for _ in range(3)]
    (page,) = bucket.asked
    page.callback([])
    assert [each.result for each in answers] == [{}] * 3
    assert len(bucket.asked) == 1


def test_what_changes_meanwhile_is_listed_again(bucket, digests):
    """The one who comes after the change gets what is there by then."""
    first = Deferred.fromCoroutine(digests.digests(Clock()))
    with digests.change(ID):
        pass
    second = Deferred.fromCoroutine(digests.digests(Clock()))
    bucket.asked[0].callback([])
    assert first.called
    assert not second.called
    bucket.asked[1].callback([marker(ID, 5, {}, None).key])
    assert second.result[ID[:3]].bytes == 5


def test_the_caller_that_lists_may_be_given_up(bucket, digests):
    """The next one lists."""
    first, second = (Deferred.fromCoroutine(digests.digests(Clock())) for _ in range(2))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    bucket.asked[1].callback([])
    assert second.result == {}
