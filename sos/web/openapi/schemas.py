"""The types of parameters and headers, and the documents in JSON that servers send and receive."""

from __future__ import annotations

from sos.model.lease import MAX_SECONDS
from sos.monitoring import server_health
from sos.web.openapi.parts import Shared, array, boolean, count, mapping, number, records, string

_ID = "40 hex digits are the SHA-1 of the content, 64 its SHA-256; any other id is an opaque name."
ID = Shared("schemas", "Id", string(_ID, pattern="^[0-9a-z]{1,128}$"))
BINARY = string(format="binary")

_FINGERPRINT = string(pattern="^[0-9a-f]{32}$")
_VERSION = string(pattern="^[012][0-9a-f]{64}$")
_STATES = (
    server_health.UP,
    server_health.TAKES_NO_BLOBS,
    server_health.UNREACHABLE,
    server_health.LEFT_ALONE,
)
_SIMPLE = {
    "boolean": boolean(),
    "string": string(),
    "number": number(),
    "amount": number(minimum=0),
    "count": count(),
    "positive": count(minimum=1),
    "text": string(minLength=1),
    "binary": BINARY,
    "base64": string(contentEncoding="base64"),
    "OK": {"const": "OK"},
    "Id": ID,
    "Partition": string(pattern="^[0-9a-f]{3}$"),
    "Fingerprint": _FINGERPRINT,
    "Version": _VERSION,
    "Sha256": string(pattern="^[0-9a-f]{64}$"),
    "Lease": string(pattern="^[0-9a-f]+$"),
    "Seconds": count(minimum=1, maximum=MAX_SECONDS),
    "ErrorStatus": count(minimum=400, maximum=599),
    "Ignored": array(string(), minItems=1, uniqueItems=True),
    "Speakers": array(string(), maxItems=5),
    "State": {"enum": _STATES},
    # Of a partition and of a blob.
    "Digest": array({"anyOf": [count(), _FINGERPRINT]}, minItems=3, maxItems=3),
    "BlobDigest": array(
        {"anyOf": [count(), _VERSION, string(pattern="^([0-9a-f]{64})?$"), {"type": "null"}]},
        minItems=2,
        maxItems=7,
    ),
}

_STORED = """
        id Id
        size count Bytes of the body.
        status OK"""
_DAEMON = """
        version string
        time amount Seconds since 1970, by the server's clock.
        uptime amount Seconds since the daemon started.
        settings Settings
        requests? Requests"""
_FILE_ERRORS = "errors [string] Files of tokens or keys that cannot be loaded, and why."

TYPES = records(
    f"""
    Error Why the request failed.
        error string What happened, to what, and what to do next.
        status ErrorStatus The status of the response.

    StoredBlob {_STORED}
        store? string The id of the store that has the blob, a UUID.

    StoredObject {_STORED}
        copies positive The copies that exist by now; others may follow.
        ignored? Ignored The X-* headers that the server does not store, if there are any:
            credentials, headers that proxies add, and headers that steer proxies or browsers; or
            all headers that `--kept-headers` does not list.
        hint? string What the client may have meant: the body is a form, and is stored unparsed.
        expires_at? number When the client wants it to expire, in seconds since 1970. Another
            upload can have asked for later, or for never.

    Deleted The answer to the deletion of an object.
        id Id
        status OK
        deleted positive The servers that have recorded it; others hear of it by replication.

    Upload The state of a resumable upload.
        offset count Bytes that have arrived.
        length count Bytes of the whole upload.
        id Id? The id of the object, once it is stored.

    Done
        status OK

    BlobDone
        id Id
        status OK

    GrantedLease
        lease Lease
        seconds Seconds

    Membership The servers that an API server uses.
        copies positive Copies of each blob.
        groups <<amount>> The weight of each server, by group and name; 0 if it is read-only.

    StoreStatus The state of a store.
        writable boolean Whether the store accepts blobs now.
        reason string? Why it accepts none.
        blobs count? The number of blobs, tombstones included; null if unknown.
        size count? Bytes of their bodies together.
        capacity count? Bytes of its disk or engine.
        free count? Bytes of the capacity that are free.
        lost count? Blobs that it held and cannot serve any more, because they are damaged or
            unreadable; null if it does not report them.
        lost_ids [Id] Some of these.
        id string? A UUID, which the store keeps whatever its address; null if it has none.
        tombstones boolean Whether the store remembers deletions.

    Scrub The progress and findings of a scrub.
        position string? All ids up to this one have been read; null between two passes.
        started_at number? When the pass began, in seconds since 1970.
        finished_at number? When the last complete pass ended.
        checked count Blobs read.
        bytes count Bytes of their bodies.
        damaged count Blobs that are not what was stored, and are quarantined.
        unreadable count Blobs that the disk cannot read.

    Route The requests by one method for one route.
        route string The rule, never a path; `other` for paths without a rule.
        method string
        count count Requests that were answered, or given up by the client.
        statuses <count> How many by status; 499 if the client left before the answer.
        bytes_in count Bytes of the requests' bodies.
        bytes_out count Bytes of the responses' bodies.
        seconds amount Their durations together.
        p50_ms amount? Their median duration.
        p99_ms amount? The 99th percentile.

    Requests The requests since the process started.
        connections count Open connections, on the ports that serve.
        routes [Route]

    Settings The settings that matter to clients.
        max-size? count? Most bytes of a body.
        allow-delete? boolean Whether clients may delete objects.

    Sighting A view of the cluster, and the API servers that have it.
        fingerprint Fingerprint
        seconds_ago amount When the server last heard of one of them.
        speakers Speakers Some of them: the host, the process and a random number.
        members Membership? Null until one of them sends it.

    BlobServer {_DAEMON}
        scrub Scrub? Null if the store has no scrub.
        members [Sighting] The views of the cluster that API servers had in the last three minutes.
            While there are several, no API server drops anything.
        {_FILE_ERRORS}

    ServerHealth The health of a server.
        url string
        name string The name that placement uses: from sos.conf, or else the URL.
        id string? The id of its store, a UUID, if it reports one.
        state State
        reason string? Why it is not up.
        asked_again number? Seconds until the next request, if it is not up.
        readonly boolean
        preferred boolean
        weight amount
        blobs count?
        size count?
        capacity count?
        free count?
        requests count Requests sent to it.
        errors count Requests that failed.
        last_error string?
        last_error_ago number? Seconds since then.
        p50_ms amount? The median latency of its recent answers, in milliseconds.
        p95_ms amount? The 95th percentile.
        scrub Scrub?

    Summary The results of an anti-entropy pass.
        servers count Servers that sent their inventories.
        blobs count Blobs on these servers, each counted once per group.
        differing count Partitions to compare blob by blob.
        compared count Those of them that have been compared.
        planned count Copies to make.
        wanting count Copies that were missing before; a copy on any server counts.
        copied count Copies made.
        bytes count Bytes of the copies made.
        settled count Copies whose metadata was reconciled.
        moved count Surplus copies dropped.
        staying count Surplus copies that could not be dropped yet.
        failed count Copies, metadata updates, drops and checks that failed.
        short count Blobs that need more servers than can be written to.
        disputed count Ids under which servers hold different bytes.
        broken count Objects with a chunk that no server has, and lost blobs.
        unlisted [string] Servers that did not send their inventories.
        errors [string] Problems with the set of servers; while there are any, nothing is dropped.

    Pass An anti-entropy pass that has ended.
        started_at number When it began, in seconds since 1970.
        seconds amount Its duration.
        summary Summary?
        error string?

    Replication
        running_since number? When the current pass began, in seconds since 1970.
        last Pass?

    CollectionSummary What a garbage collection did.
        objects count That are neither deleted nor expired.
        expired count Objects that have expired.
        manifests count Copies of manifests that were read.
        chunks count
        garbage count Chunks that no object needs.
        copies count Copies of expired objects and garbage that were removed.
        bytes count Bytes of these copies.
        tombstones count Old tombstones that were removed.
        kept count Copies that were stored again meanwhile.
        refused string? Why nothing, or nothing more, was removed.

    CollectionEnd A garbage collection that has ended.
        started_at number When it began, in seconds since 1970.
        seconds amount Its duration.
        summary CollectionSummary

    Collection The garbage collection.
        interval amount Seconds from the end of one to the next, about.
        running_since number? When the current one began, in seconds since 1970.
        last CollectionEnd?
        lag amount Seconds since the last one that removed all garbage, or since the start.

    Background Copies that are made after the answer.
        copies count
        bytes count

    ClusterStatus The status of an API server with blob servers. {_DAEMON}
        errors [string] Problems with the set of servers.
        collection? Collection
        groups <[ServerHealth]> The servers, by group.
        background Background
        replication Replication? Null if the server does not replicate.

    OwnStatus The status of an API server with a store of its own (`--store`). {_DAEMON}
        store StoreStatus
        scrub Scrub? Null if the store has no scrub.
        collection? Collection
        {_FILE_ERRORS}
    """,
    _SIMPLE,
    closed={
        *("Error", "StoredBlob", "StoredObject", "Deleted", "Upload"),
        *("Done", "BlobDone", "GrantedLease", "Membership", "Sighting"),
    },
)

#: The digests of partitions by name, and of the blobs of a partition by id.
DIGESTS = mapping(TYPES["Digest"], propertyNames=TYPES["Partition"])
BLOB_DIGESTS = mapping(TYPES["BlobDigest"], propertyNames=ID)
#: ``/status`` of a blob server, and of an API server.
BLOB_STATUS = Shared("schemas", "Status", {"allOf": [TYPES["StoreStatus"], TYPES["BlobServer"]]})
API_STATUS = {"anyOf": [TYPES["ClusterStatus"], TYPES["OwnStatus"]]}
