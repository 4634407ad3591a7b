"""Stores in the bucket of a test, in the test's own process."""

from __future__ import annotations

from botocore.credentials import Credentials

from sos.aio.threads import threads_of
from sos.http.client.agent import Agent
from sos.stores.engines.s3.address import s3_address
from sos.stores.engines.s3.bucket import PAGE, Bucket
from sos.stores.engines.s3.client import Client, Timeouts
from sos.stores.engines.s3.multipart import PART_SIZE
from sos.stores.engines.s3.signing import Identity
from sos.stores.engines.s3.store import S3Store
from tests.support.engines.swift import ACCESS_KEY, REGION, SECRET_KEY

BUCKET = "contract"


def client_of(url, reactor, secret=SECRET_KEY, timeouts=None):
    address = s3_address(url)
    identity = Identity(Credentials(ACCESS_KEY, secret), REGION)
    return Client(
        address,
        Agent(reactor),
        reactor,
        threads_of(reactor),
        lambda: identity,
        timeouts or Timeouts(),
    )


async def let_in(client):
    """Let *client* ask what is not opened as a store."""
    client.open(await client.identified())


def store_at(url, reactor, page=PAGE, part_size=PART_SIZE, **options):
    bucket = Bucket(client_of(url, reactor, **options), s3_address(url).prefix, page)
    return S3Store(bucket, "sha1", threads_of(reactor), reactor, part_size)


def store_in(server, prefix, reactor, **options):
    return store_at(server.url(BUCKET, prefix), reactor, **options)
