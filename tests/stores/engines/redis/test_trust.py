"""Which Redis is trusted with blobs, when it is opened and whenever it is connected to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import PrivateCertificate

from sos.errors import Conflict, NotFound, StoreUnusable, Unavailable
from sos.model.ids import partition
from sos.stores.engines.redis import make
from tests.stores.engines.redis.test_faults import LARGE, asks, recovered
from tests.support.blobs import body_of, content, put
from tests.support.engines.forwarding import Forwarding
from tests.support.engines.redis import started

UNSAFE = [
    ("appendonly", "no"),
    ("appendfsync", "everysec"),
    ("no-appendfsync-on-rewrite", "yes"),
    ("maxmemory-policy", "allkeys-lru"),
]


@pytest.mark.parametrize(("name", "value"), UNSAFE)
@ensureDeferred
async def test_a_redis_that_may_lose_blobs_is_refused(engine, stores, name, value):
    """The error names the setting, and what it should be."""
    with engine.client() as client:
        client.config_set(name, value)
    with pytest.raises(StoreUnusable, match=f"its {name} is {value}; set it to"):
        await stores(engine.url).open()


@pytest.mark.parametrize(("name", "value"), UNSAFE)
@ensureDeferred
async def test_who_does_not_care_can_say_so(engine, stores, logged, name, value):
    """It is logged; but one that forgets blobs while it runs is refused all the same."""
    with engine.client() as client:
        client.config_set(name, value)
    store = stores(f"{engine.url}?durability=relaxed")
    if name == "maxmemory-policy":
        with pytest.raises(StoreUnusable):
            await store.open()
        return
    await store.open()
    assert logged("a crash can lose acknowledged blobs")
    await put(store, b"scratch")


@pytest.mark.parametrize(("name", "value"), UNSAFE)
@ensureDeferred
async def test_a_redis_started_again_with_other_settings_is_not_trusted(engine, store, name, value):
    """Nothing is stored there, nor believed, until they are as they were."""
    id = (await put(store, b"kept")).id
    right = engine.client().config_get(name)[name]
    engine.restart(**{name: value})
    await asks(store, id)
    assert await asks(store, id) == {Unavailable}
    engine.restart(**{name: right})
    assert await recovered(store) == [id]


@ensureDeferred
async def test_settings_that_change_under_way_are_found(engine, store):
    """By the next look at its status, which is asked for all the time."""
    id = (await put(store, b"kept")).id
    with engine.client() as client:
        client.config_set("appendfsync", "no")
        with pytest.raises(Unavailable, match="its appendfsync is no"):
            await store.status()
        assert await asks(store, id) == {Unavailable}
        client.config_set("appendfsync", "always")
    assert (await store.status()).writable


@ensureDeferred
async def test_who_may_not_see_the_settings_is_told_what_to_do(engine, stores):
    """Such a Redis can be vouched for."""
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "sos", "on", ">secret", "~*", "+@all", "-config")
    url = engine.url.replace("//", "//sos:secret@")
    with pytest.raises(StoreUnusable, match=r"CONFIG GET.*durability=relaxed"):
        await stores(url).open()
    store = stores(f"{url}?durability=relaxed")
    await store.open()
    await put(store, b"body")


@ensureDeferred
async def test_a_user_of_a_redis_needs_these_permissions(engine, stores):
    """Those that the README tells of."""
    rights = (
        "~sos:* +select +info +config|get +get +set +del +unlink +exists +expire +pexpire +persist "
        "+pttl +rename +hget +hmget +hgetall +hset +hdel +hlen +hincrby +zadd +zrem +zscore "
        "+zrangebylex +eval +evalsha"
    )
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "sos", "on", ">secret", *rights.split())
    store = stores(engine.url.replace("//", "//sos:secret@"))
    await store.open()
    id = (await put(store, body_of(LARGE))).id
    await store.reconcile(id, {"X-A": "1"})
    assert await content(await store.read(id)) == body_of(LARGE)
    assert list(await store.blob_digests(partition(id))) == [id]
    engine.client().hset(f"sos:blob:{id}", "head", "?")
    with pytest.raises(NotFound):
        await store.stat(id)
    token = await store.lease(10)
    await store.lease(20, token)
    await store.drop((await put(store, b"body")).id, token)
    await store.release(token)
    writer = store.writer()
    await writer.write(body_of(LARGE))
    writer.abort()
    await put(store, b"another")
    assert len(await store.listing()) == 1
    assert (await store.status()).writable
    await store.close()
    assert len(engine.client().keys("sos:body:*")) == 0


@pytest.mark.parametrize("secret", ["", ":wr0ng@", "sos:wr0ng@"])
@ensureDeferred
async def test_a_wrong_password_is_told_without_it(tmp_path, stores, secret):
    """As is one that is missing."""
    with started(tmp_path / "redis", password="right") as engine:
        store = stores(f"redis://{secret}127.0.0.1:{engine.port}")
        with pytest.raises(StoreUnusable, match="password") as raised:
            await store.open()
        assert "wr0ng" not in str(raised.value) + store.name + repr(vars(store))


@ensureDeferred
async def test_a_file_with_the_password_is_read_whenever_it_is_wanted(tmp_path, stores):
    """A missing one is an error that names it."""
    path = tmp_path / "password"
    with started(tmp_path / "redis", password="right") as engine:
        store = stores(f"redis://127.0.0.1:{engine.port}?password-file={path}")
        with pytest.raises(StoreUnusable, match=f"{path} cannot be read"):
            await store.open()
        path.write_text("right\n")
        await store.open()
        engine.password = "another"
        engine.restart(requirepass="another")
        assert await asks(store, "name") == {Unavailable}
        path.write_text("another")
        assert await recovered(store) == []


@ensureDeferred
async def test_a_database_that_is_not_there_is_told(engine, stores):
    """There are 16 of them."""
    with pytest.raises(StoreUnusable, match="database 99"):
        await stores(f"{engine.url}/99").open()


@ensureDeferred
async def test_a_redis_that_is_not_there_is_unavailable(engine, stores):
    """It can be opened as soon as it is."""
    engine.kill()
    store = stores(engine.url)
    with pytest.raises(Unavailable):
        await store.open()
    assert await asks(store, "name") == {Unavailable}
    engine.start()
    assert await asks(store, "name") == {Unavailable}
    await store.open()
    assert await store.listing() == []


@ensureDeferred
async def test_another_format_is_refused(engine, stores):
    """Nothing of it is changed; another prefix is another store."""
    with engine.client() as client:
        client.set("sos:format", "sos redis 2")
    with pytest.raises(StoreUnusable, match="format"):
        await stores(engine.url).open()
    other = stores(f"{engine.url}?prefix=other")
    await other.open()
    await put(other, b"body", "name")
    assert engine.client().get("sos:format") == b"sos redis 2"
    assert {key.partition(b":")[0] for key in engine.client().keys("*")} == {b"sos", b"other"}


@ensureDeferred
async def test_an_emptied_redis_is_not_taken_for_an_empty_store(engine, store, stores):
    """Whether it was emptied under way or has come back without its data."""
    id = (await put(store, b"kept")).id
    with engine.client() as client:
        client.flushall()
    for ask in (store.stat(id), store.listing(), store.digests(), store.blob_digests("abc")):
        with pytest.raises(Unavailable, match="emptied"):
            await ask
    assert await asks(store, id) - {True} == {Unavailable}
    with pytest.raises(Unavailable, match="no longer holds the store"):
        await store.stat(id)
    engine.kill()
    (engine.directory / "appendonly.aof").unlink()
    engine.start()
    await asks(store, id)
    assert await asks(store, id) == {Unavailable}
    again = stores(engine.url)
    await again.open()
    assert again.identity != store.identity
    for ask in (store.listing(), store.status(), put(store, b"body")):
        with pytest.raises(Unavailable, match="another store"):
            await ask
    assert await again.listing() == []


@ensureDeferred
async def test_a_new_store_is_made_where_there_is_nothing(engine, stores, logged):
    """That is logged, with its id, by which it is known from then on."""
    made = [stores(engine.url) for _ in range(4)]
    assert {store.identity for store in made} == {None}
    await gatherResults([deferred(store.open()) for store in made])
    (id,) = {store.identity for store in made}
    assert str(UUID(id)) == id
    assert logged("created a new store") == [f"created a new store in {made[0].name}, id={id}"]
    other = stores(f"{engine.url}?prefix=other")
    await other.open()
    assert other.identity != id


@ensureDeferred
async def test_a_store_that_has_to_be_there_is_not_made(engine, stores):
    """One that is there is opened."""
    with pytest.raises(StoreUnusable, match="contains no store"):
        await stores(engine.url).open(require=True)
    assert engine.client().keys("*") == []
    await stores(engine.url).open()
    await stores(engine.url).open(require=True)


@pytest.mark.parametrize("lost", [{"format"}, {"format", "id"}, {"format", "id", "ids"}])
@ensureDeferred
async def test_a_part_of_a_store_is_no_new_one(engine, store, stores, lost):
    """It is left as it is."""
    await put(store, b"kept")
    with engine.client() as client:
        client.delete(*(f"sos:{name}" for name in lost))
        before = sorted(client.keys("*"))
        with pytest.raises(StoreUnusable, match="holds part of a store"):
            await stores(engine.url).open()
        assert sorted(client.keys("*")) == before
        client.set("sos:format", "sos redis 1")
        client.set("sos:id", "what is no id")
    with pytest.raises(StoreUnusable, match="does not contain a store id"):
        await stores(engine.url).open()


@ensureDeferred
async def test_a_store_from_before_stores_had_ids_gets_one(engine, stores, logged):
    """When it can be written to; what it holds stays, and is there before, too."""
    first = stores(engine.url)
    await first.open()
    id = (await put(first, b"kept")).id
    with engine.client() as client:
        client.delete("sos:id")
        client.config_set("maxmemory", 1)
        full = stores(engine.url)
        await full.open(require=True)
        assert full.identity is None
        assert await content(await full.read(id)) == b"kept"
        assert (await full.status()).reason is not None
        client.config_set("maxmemory", 0)
    again = stores(engine.url)
    await again.open()
    assert again.identity not in (None, first.identity)
    assert len(logged("gave an id to the store")) == 1
    await put(full, b"another")
    assert len(await again.listing()) == 2


@ensureDeferred
async def test_nothing_is_taken_before_the_store_is_open(engine, store, stores):
    """Though it is there, and has been opened by others."""
    id = (await put(store, b"kept")).id
    early = stores(engine.url)
    assert await asks(early, id) == {Unavailable}
    with pytest.raises(Unavailable, match="not open"):
        await put(early, b"early")
    assert await store.listing() == [id]


@ensureDeferred
async def test_another_store_in_its_place_is_seen_on_the_same_connection(engine, store, stores):
    """Whatever is asked: nothing goes into it, and it is not believed."""
    id = (await put(store, b"kept")).id
    other = stores(engine.url)
    await other.open()
    with engine.client() as client:
        client.set("sos:id", str(UUID(int=7)))
    assert await asks(store, id) - {True} == {Unavailable}
    with engine.client() as client:
        assert client.get("sos:id") == str(UUID(int=7)).encode()
        client.set("sos:id", store.identity)
    assert await asks(store, id) - {True, Unavailable} != set()


def certificate_of(host):
    """Return a key, and a certificate that it has signed itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return secret + certificate.public_bytes(pem)


@ensureDeferred
async def test_a_redis_behind_tls(engine, stores, reactor, tmp_path):
    """Its certificate is checked, against those in a file where there is one."""
    certificate = PrivateCertificate.loadPEM(text := certificate_of("localhost"))
    (tmp_path / "ca.pem").write_bytes(text)
    way = SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
    port = await way.listen(Forwarding(engine.port))
    url = f"rediss://localhost:{port.getHost().port}"
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await stores(url).open()
    store = stores(f"{url}?ca-file={tmp_path / 'ca.pem'}")
    assert store.name.startswith("rediss://localhost")
    await store.open()
    id = (await put(store, body_of(LARGE))).id
    assert await content(await store.read(id)) == body_of(LARGE)
    await store.close()
    await port.stopListening()


@ensureDeferred
async def test_a_lease_from_before_the_clock_was_set_is_of_no_use(engine, store):
    """It would last for longer than any is given for: it allows nothing, and hinders nobody."""
    token = await store.lease(60)
    with engine.client() as client:
        client.expire("sos:lease", 10_000)
    with pytest.raises(Conflict):
        await store.drop("name", token)
    assert await store.lease(60) != token


def test_a_store_is_made_without_a_connection(reactor):
    """Its name is the address."""
    assert make("redis://:word@host:1234/2?prefix=a", "sha1", reactor).name == (
        "redis://host:1234/2?prefix=a"
    )
