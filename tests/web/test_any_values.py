"""Whatever a client writes into a header, a query or a path, it is answered as a client."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogLevel, capturedLogs

from sos.auth.guards import SignedRequests, TokenGuard
from sos.auth.request_signing import Key, Keys, Verifier
from sos.auth.tokens import Tokens, make_token
from sos.http.server.access_log_lines import as_json, combined
from sos.stores.memory import MemoryStore
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation

NOW = 1_800_000_000
KEYS = Keys((Key(b"k" * 32),))
BODY = b"hello"
ID = content_id(BODY).encode("ascii")
SECRET, TOKEN = make_token("all", ["upload", "read"], NOW, None)

# Of each header that is read somewhere: what values of it are made of.
FRAGMENTS = {
    b"Authorization": b"Bearer|bearer |SOS1 |key=|date=|nonce=|signature=|, |%b|%b"
    % (SECRET.encode(), b"0" * 16),
    b"Range": b"bytes|=|-|,|0|5|99999999999999999999|none| ",
    b"If-Range": b'"|W/|%b|,|*|Sat, 01 Jan 2000 00:00:00 GMT' % ID,
    b"If-None-Match": b'"|W/|%b|,|*| |\\' % ID,
    b"If-Modified-Since": b"Sat|, |01|Jan|2000|99999999999999999999| |00:00:00|:|-|+|GMT|+999999"
    b"|-9999999999999999999999|9999|0001|Dec|31|23|EST|Saturday|(",
    b"Want-Repr-Digest": b'sha-256|sha-512|=|10|,|;|:|"|(|)|@|99999999999999|?1|%%|.5| ',
    b"Repr-Digest": b'sha-256|sha-512|=|:|AAAA|"|,|;|@|99999999999999|?1|(|)|.|%%|-',
    b"Content-Digest": b'sha-256|sha-512|=|:|AAAA|"|,|;|@|99999999999999|?1|(|)|.|%%|-',
    b"Content-MD5": b"XUFAKrxLKna5cZ2REBfFkg==|=|A|-| ",
    b"X-Sos-Lease": b"0|a| |,",
    b"X-Sos-Members": b"%b| |host|/|," % (b"0" * 32),
    b"X-Sos-Store": b"c8ba8452-cabb-4d64-a369-5f92a0a1c5d6|-|0|, ",
    b"X-Sos-Set-At": b"0|9|-|99999999999999999999| ",
    b"X-Sos-Manifest": b"0|5|1|-|99999999999999999999| ",
    b"X-Mime-Type": b'text|/|html|;|charset|=|"|\\|, |*',
    b"X-Orig-Filename": b'a|/|\\|"|%%|..|;|\xc3\xa9|\xff|\t',
    b"X-Request-Id": b"a|-|9|=|,| ",
    b"Connection": b"close|keep-alive|upgrade|,| |;",
    b"Upgrade": b"h2c|websocket|,",
    b"Expect": b"100-continue|, |x",
    b"Host": b"x|.|:|80|[|]|::1|%%|@",
    b"Sec-Fetch-Site": b"same-origin|none|cross-site|, ",
    b"Origin": b"null|http|://|x|:80|/",
    b"User-Agent": b'a|"|\\|\t|\xff',
    b"Referer": b'http://x|?|&|=|token|sig|%%|"|\xff|;',
}
ANNOUNCER = {b"X-Sos-Members": b"%b host" % (b"0" * 32)}
JSON = (
    b'{|}|[|]|"|:|,|null|1|%b|"copies":|"groups":|"metadata":|"body":|"aGVsbG8="|e999|\\ud800' % ID
)
PATHS = (
    b"/|//|..|.|%%|%%2f|%%00|%%ff|%%c3|%%0d%%0a|*|upload|fetch|blob|blobs|batch|digests|lease|members|"
    b"status|metrics|alive|readyz|healthz|openapi.json|%b|abc|000|fff|.jpg|\xff|;|:|\\|<id>|<" % ID
)
QUERIES = (
    b"after|limit|partition|ids|seconds|size|version|hash|times|expires|signature|"
    b"=|&|;|,|%%|%%ff|%%00|+|0|1|-1|99999999999999999999|%b|abc|fff|%b|\xb2|\xff" % (ID, b"0" * 64)
)
ROUTES = [
    (b"GET", b"/fetch/" + ID),
    (b"HEAD", b"/fetch/" + ID),
    (b"POST", b"/upload"),
    (b"GET", b"/blob/" + ID),
    (b"HEAD", b"/blob/" + ID),
    (b"POST", b"/blob/" + ID),
    (b"PUT", b"/blob/opaque"),
    (b"PATCH", b"/blob/" + ID),
    (b"DELETE", b"/blob/" + ID),
    (b"GET", b"/blobs"),
    (b"GET", b"/digests"),
    (b"GET", b"/digests/000"),
    (b"POST", b"/batch"),
    (b"POST", b"/lease"),
    (b"DELETE", b"/lease/abc"),
    (b"POST", b"/members"),
    (b"DELETE", b"/members"),
    (b"GET", b"/status"),
    (b"GET", b"/readyz"),
    (b"GET", b"/metrics"),
    (b"GET", b"/"),
]


def made_of(fragments, most=8):
    """Make values of *fragments*, and of bytes that nobody would think of."""
    known = st.sampled_from(fragments.replace(b"%%", b"%").split(b"|"))
    return st.lists(known | st.binary(max_size=3), max_size=most).map(b"".join)


def in_line(value):
    """Return *value* without what would end the line that it stands in."""
    return re.sub(rb"[\r\n\0]", b"", value)


values = st.fixed_dictionaries(
    {}, optional={name: made_of(each).map(in_line) for name, each in FRAGMENTS.items()}
)
targets = st.one_of(
    st.sampled_from(ROUTES),
    st.tuples(
        st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"]),
        made_of(PATHS, 4).map(lambda path: b"/" + path),
    ),
)
bodies = st.binary(max_size=20) | made_of(JSON, 30)
queries = st.just(b"") | made_of(QUERIES, 12).map(lambda query: b"?" + query)


def no_spaces(target):
    return re.sub(rb"[\x00-\x20\x7f#]", b"", target)


class Faces:
    """Every face that a daemon has, with guards and without."""

    def __init__(self):
        store = MemoryStore()
        Conversation(handler(BlobServer(store).app)).ask("POST", f"/blob/{ID.decode()}", BODY)
        self.lines = []
        up, down = UploadServer(store), DownloadServer(store)
        self.all = [
            handler(BlobServer(store).app),
            handler(BlobServer(store).app, SignedRequests(Verifier(lambda: KEYS, time), (), time)),
            handler(up.app),
            handler(up.app, bearers("upload")),
            handler(down.app),
            handler(down.app, bearers("read", links=lambda: KEYS)),
            handler(AdminServer(store, no_status, counted, up, down).app),
        ]

    def answers(self, data):
        """Return what each of them answers to *data*."""
        for face in self.all:
            talk = Conversation(face, self._note)
            yield talk.send(data)

    def _note(self, request, seconds):
        self.lines += [combined(request, seconds, NOW), as_json(request, seconds, NOW)]


def bearers(scope, links=None):
    return TokenGuard(lambda: Tokens([TOKEN]), scope, time, time, link_keys=links)


def time():
    return float(NOW)


async def no_status():
    return {}


async def counted():
    return b""


def to_blob(**fields):
    """Return an example of a request for a blob with such *fields*."""
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return example((b"GET", b"/blob/" + ID), b"", named, b"")


@given(targets, queries, values, bodies)
@to_blob(If_Modified_Since=b"Sat, 01 Jan 2000 00:00:00 +99999999999999")
@to_blob(If_Modified_Since=b"1 Jan 99999999999999999999 00:00:00 GMT")
@example(
    (b"POST", b"/members"), b"", ANNOUNCER, b'{"copies":1,"groups":{"g":{"a":1%b}}}' % (b"0" * 400)
)
def test_no_value_is_our_mistake(target, query, fields, body):
    """Of any header that is read, any argument, any path: the answer is none of a server's."""
    method, path = target
    fields.setdefault(b"Host", b"x")
    lines = [b"%b: %b" % field for field in fields.items()]
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, no_spaces(path + query)), *lines])
    data = b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    faces = Faces()
    with capturedLogs() as events:
        answers = list(faces.answers(data))
    assert [each for each in events if each["log_level"] >= LogLevel.error] == []
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 "), data
        assert not re.search(rb"^HTTP/1.1 500", answer, re.MULTILINE), answer
    assert not any("\n" in line for line in faces.lines)
