"""Counting a bucket, of which the listings do not all come."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from sos.errors import Unavailable
from sos.stores.engines.s3.accounts import Accounts


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
    counted = Deferred.fromCoroutine(Accounts(bucket).count())
    begun = [len(bucket.asked)]
    while not counted.called:
        next(page for page in bucket.asked if not page.called).callback([])
        begun.append(len(bucket.asked))
    assert begun == [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16, 16]


def test_one_that_fails_ends_the_count(bucket):
    """The others are given up, and none is begun but the one that had its turn already."""
    counted = Deferred.fromCoroutine(Accounts(bucket).count())
    bucket.asked[1].errback(Unavailable("it does not answer"))
    assert counted.result.check(Unavailable)
    counted.addErrback(lambda failure: None)
    assert (len(bucket.asked), bucket.given_up) == (5, 4)
