"""Blobs in an object store with an S3 API: Amazon S3, Swift, Ceph, MinIO, Garage and others."""

from __future__ import annotations

from functools import partial
from typing import Any

from sos.aio.threads import threads_of
from sos.http.client.agent import Agent
from sos.interfaces import IEngineStore
from sos.stores.engines.s3.address import s3_address

# Most connections to an endpoint; further requests wait.
_MOST_CONNECTIONS = 64


def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
    """Return the store at *url*, see :mod:`sos.stores.engines.s3.address`; raises ValueError."""
    address = s3_address(url)
    try:
        from sos.stores.engines.s3.signing import find_identity
    except ImportError:
        raise ValueError("an s3: store needs botocore: pip install 'sos-storage[s3]'") from None
    from sos.stores.engines.s3.bucket import Bucket
    from sos.stores.engines.s3.client import Client
    from sos.stores.engines.s3.store import S3Store

    threads = threads_of(reactor)
    identify = partial(find_identity, address.region)
    client = Client(address, Agent(reactor, _MOST_CONNECTIONS), reactor, threads, identify)
    return S3Store(Bucket(client, address.prefix), algorithm, threads, reactor)
