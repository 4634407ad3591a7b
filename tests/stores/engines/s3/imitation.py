"""A server that speaks as much of S3 as a store asks of it, and can be told to err."""

from __future__ import annotations

from email.utils import formatdate
from hashlib import md5

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.stores.engines.s3.stores import store_at

BUCKET = "imitated"
NO_UPLOADS = b"<ListMultipartUploadsResult/>"
BEGUN = b"<InitiateMultipartUploadResult><UploadId>begun</UploadId></InitiateMultipartUploadResult>"


def error(status, code):
    return status, f"<Error><Code>{code}</Code><Message>as it says</Message></Error>".encode()


class Imitation(Resource):
    """Keeps objects in memory, and looks at no signature.

    :ivar objects: what is kept, by key.
    :ivar uploads: what it answers to who asks for unfinished uploads.
    :ivar aborted: the ids of uploads that were given up.
    :ivar conditional: whether it knows If-None-Match.
    :ivar exists: whether there is the bucket.
    :ivar held: requests for this key and query get no answer, until they are let go of.
    :ivar without: headers that it leaves out.
    """

    isLeaf = True

    def __init__(self, reactor):
        super().__init__()
        self.objects = {}
        self._fields = {}
        self.uploads = NO_UPLOADS
        self.aborted = []
        self.conditional = True
        self.exists = True
        self.held = None
        self.holding = []
        self.without = ()
        site = Site(self)
        site.noisy = False
        self._reactor = reactor
        self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self._stores = []

    def store(self, prefix="x"):
        """Return a store under *prefix*."""
        endpoint = f"http://127.0.0.1:{self._port.getHost().port}"
        store = store_at(f"s3://{BUCKET}/{prefix}?endpoint={endpoint}", self._reactor)
        self._stores.append(store)
        return store

    async def stop(self):
        for store in self._stores:
            await store.close()
        await self._port.stopListening()

    def let_go(self):
        """Answer what was held."""
        self.held, holding = None, self.holding
        self.holding = []
        for request in holding:
            request.write(self.render(request))
            request.finish()

    def render(self, request):
        key = request.path.decode().removeprefix(f"/{BUCKET}").removeprefix("/")
        if request.uri.decode().removeprefix(f"/{BUCKET}/") == self.held:
            self.holding.append(request)
            return NOT_DONE_YET
        fields = {"Date": formatdate(usegmt=True)}
        status, body = self._answer(request, key, request.method.decode(), fields)
        request.setResponseCode(status)
        for name, value in fields.items():
            if name not in self.without:
                request.setHeader(name, value)
        for name in self.without:
            request.responseHeaders.removeHeader(name)
        return body

    def _answer(self, request, key, method, fields):
        asked = {name.decode(): value[0].decode() for name, value in request.args.items()}
        if method == "PUT" and not key:
            self.exists = True
            return 200, b""
        if not self.exists:
            return error(404, "NoSuchBucket")
        if "uploads" in asked or b"uploads" in request.uri.partition(b"?")[2]:
            return 200, BEGUN if method == "POST" else self.uploads
        if "list-type" in asked:
            return 200, self._listing(asked)
        if method == "DELETE":
            if "uploadId" in asked:
                self.aborted.append(asked["uploadId"])
            self.objects.pop(key, None)
            return 204, b""
        if method == "PUT":
            return self._put(request, key)
        if key not in self.objects:
            return error(404, "NoSuchKey")
        fields["ETag"] = f'"{md5(self.objects[key]).hexdigest()}"'
        fields |= self._fields.get(key, {})
        fields["Last-Modified"] = formatdate(usegmt=True)
        return 200, self.objects[key]

    def _put(self, request, key):
        if self.conditional and request.getHeader("if-none-match") and key in self.objects:
            return error(412, "PreconditionFailed")
        if request.getHeader("x-amz-copy-source"):
            return 200, b""
        self.objects[key] = request.content.read()
        self._fields[key] = {
            name.decode(): value.decode()
            for name, (value,) in request.requestHeaders.getAllRawHeaders()
            if name.lower().startswith(b"x-amz-meta-")
        }
        return 200, b""

    def _listing(self, asked):
        most, after = int(asked["max-keys"]), asked.get("start-after", "")
        keys = [
            key for key in sorted(self.objects) if key.startswith(asked["prefix"]) and key > after
        ]
        entries = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys[:most])
        more = "true" if len(keys) > most else "false"
        text = f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{entries}</ListBucketResult>"
        return text.encode()
