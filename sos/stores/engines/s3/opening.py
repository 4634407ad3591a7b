"""Opening the store in a bucket, or making a new one in an empty bucket.

Several processes may make the store at the same moment. If the server does not honour conditions,
or evaluates them early as Swift does, the last process sets the id of the store. So each status
request reads the id again.
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
    """Return the document of the store in *bucket*; make a new store if the bucket is empty.

    The document has no id if the store is older than ids and the server is full.

    :param require: whether the store must exist already.
    :raises StoreUnusable: if there is no store and none can be made, or *require* forbids it.
    """
    document = await _existing(bucket) or await _create(bucket, require)
    return document if records.id_in(document) else await _adopt(bucket, document)


async def look(bucket: Bucket) -> bytes | None:
    """Return the document of the store in *bucket*; None if there is none.

    Raises StoreUnusable if it is not a document of a store, or of another format.
    """
    found, _ = await bucket.small(records.STORE_KEY)
    if found is not None:
        try:
            records.id_in(found)
        except (ValueError, RecursionError) as error:
            raise StoreUnusable(
                f"{bucket.client.name} is not a store, or has an unknown format: its "
                f"{records.STORE_KEY} cannot be used: {error}"
            ) from None
    return found


async def _existing(bucket: Bucket) -> bytes | None:
    try:
        document = await look(bucket)
        # Look again: another process may have made the store since the first look.
        if document is None and await _holds_anything(bucket):
            document = await look(bucket)
            if document is None:
                raise StoreUnusable(
                    f"{bucket.client.name} is not empty, but has no {records.STORE_KEY}: restore "
                    "that if it was a store, or choose another prefix"
                )
        return document
    except NoBucket:
        return None


async def _holds_anything(bucket: Bucket) -> bool:
    # Tools that show prefixes as directories create an object named as the prefix: ignore it.
    async with aclosing(bucket.pages("", limit=1)) as pages:
        async for page in pages:
            if any(page):
                return True
    return False


async def _create(bucket: Bucket, require: bool) -> bytes:
    name = bucket.client.name
    if require:
        raise StoreUnusable(f"{name} contains no store, and --require-store forbids creating one")
    await bucket.create()
    id = str(uuid4())
    new = records.document(id)
    try:
        await bucket.probe(records.STORE_KEY, new)
        found = await look(bucket)
        if found is None:  # the server rejects conditions
            await bucket.put(records.STORE_KEY, new)
            found = await look(bucket)
    except NoSpace as error:
        raise Unavailable(f"cannot create a new store: {error}") from error
    if found is None:
        raise Unavailable(f"{name} does not return the object that was just stored")
    if found == new:
        _log.info("created a new store in {store}, id={id}", store=name, id=id)
    return found


async def _adopt(bucket: Bucket, document: bytes) -> bytes:
    """Give an id to a store that has none."""
    try:
        await bucket.put(records.STORE_KEY, records.document(str(uuid4())))
    except NoSpace:
        return document
    found = await look(bucket)
    if found is None:
        raise Unavailable(f"{bucket.client.name} does not return the object that was just stored")
    id = records.id_in(found)
    _log.info("gave an id to the store {store}, id={id}", store=bucket.client.name, id=id)
    return found
