"""A bucket is opened as the store that it is, or becomes a new one where there is nothing.

Where the server knows no conditions, or as Swift looks at them early, of several processes
that make the store at the same moment the last gives it its id: so that is looked at again
whenever the status is asked for.
"""

from __future__ import annotations

from contextlib import aclosing
from uuid import uuid4

from twisted.logger import Logger

from sos.errors import NoSpace, StoreUnusable, Unavailable
from sos.stores.engines.s3 import records
from sos.stores.engines.s3.bucket import Bucket, NoBucket

_log = Logger()


async def open_store(bucket: Bucket, require: bool) -> bytes:
    """Return the document of the store in *bucket*.

    It tells no id when it is from before stores had ids, and the server is full.

    :param require: whether there has to be a store; else a new one is made where there is none.
    :raises StoreUnusable: when there is no store, and cannot or is not to be one.
    """
    document = await _existing(bucket) or await _create(bucket, require)
    return document if records.id_in(document) else await _adopt(bucket, document)


async def look(bucket: Bucket) -> bytes | None:
    """Return the document of the store in *bucket*, None where there is none.

    Raises StoreUnusable when it is none of ours.
    """
    found, _ = await bucket.small(records.STORE_KEY)
    if found is not None:
        try:
            records.id_in(found)
        except (ValueError, RecursionError) as error:
            raise StoreUnusable(
                f"{bucket.client.name} holds what is no store, or one of another format: its "
                f"{records.STORE_KEY} cannot be used: {error}"
            ) from None
    return found


async def _existing(bucket: Bucket) -> bytes | None:
    try:
        document = await look(bucket)
        # Of what another process has just made there can be more than there was a moment ago.
        if document is None and await _holds_anything(bucket):
            document = await look(bucket)
            if document is None:
                raise StoreUnusable(
                    f"{bucket.client.name} is not empty, and holds no {records.STORE_KEY}: it is "
                    "another's, or was a store; bring that back, or choose another prefix"
                )
        return document
    except NoBucket:
        return None


async def _holds_anything(bucket: Bucket) -> bool:
    # What shows prefixes as directories makes an object of the prefix itself.
    async with aclosing(bucket.pages("", limit=1)) as pages:
        async for page in pages:
            if any(page):
                return True
    return False


async def _create(bucket: Bucket, require: bool) -> bytes:
    name = bucket.client.name
    if require:
        raise StoreUnusable(f"{name} is no store, and a new one is not to be made")
    await bucket.create()
    id = str(uuid4())
    new = records.document(id)
    try:
        await bucket.probe(records.STORE_KEY, new)
        found = await look(bucket)
        if found is None:  # the server refuses conditions
            await bucket.put(records.STORE_KEY, new)
            found = await look(bucket)
    except NoSpace as error:
        raise Unavailable(f"a new store cannot be made: {error}") from error
    if found is None:
        raise Unavailable(f"{name} does not give back what was stored just now")
    if found == new:
        _log.info("created a new store in {store}, id={id}", store=name, id=id)
    return found


async def _adopt(bucket: Bucket, document: bytes) -> bytes:
    """Give a store from before stores had ids its own."""
    try:
        await bucket.put(records.STORE_KEY, records.document(str(uuid4())))
    except NoSpace:
        return document
    found = await look(bucket)
    if found is None:
        raise Unavailable(f"{bucket.client.name} does not give back what was stored just now")
    id = records.id_in(found)
    _log.info("{store} has an id now, id={id}", store=bucket.client.name, id=id)
    return found
