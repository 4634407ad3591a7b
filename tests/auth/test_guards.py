"""Who is let in, at a server without a network."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs, formatEvent

from sos.auth.guards import FETCHES, UPLOADS, AdminGuard, SignedRequests, TokenGuard
from sos.auth.request_signing import Key, Keys, Signer, Verifier
from sos.auth.signed_urls import signed_path
from sos.auth.tokens import Tokens, make_token
from sos.errors import ReadOnly
from sos.stores.memory import MemoryStore
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation, parse_answers, request
from tests.support.doubles import FailingStore

NOW = 1_800_000_000
KEYS = Keys((Key(b"k" * 32),))
BODY = b"hello"
ID = content_id(BODY)
SECRETS, TOKENS = {}, []
for _name, _scopes, _seconds in (
    ("up", ["upload"], None),
    ("down", ["read"], None),
    ("all", ["upload", "read"], None),
    ("late", ["upload", "read"], -1),
):
    SECRETS[_name], _token = make_token(_name, _scopes, NOW, _seconds)
    TOKENS.append(_token)


class Guarded:
    """Servers that let in who has a token, or a link."""

    def __init__(self, links=KEYS, store=None):
        self.store = store or MemoryStore()
        self.now = 0.0
        guards = [
            TokenGuard(
                lambda: Tokens(TOKENS),
                scope,
                lambda: NOW,
                lambda: self.now,
                link_keys=(lambda: links) if links and scope == "read" else None,
            )
            for scope in ("upload", "read")
        ]
        self.seen = []
        self.up = Conversation(handler(UploadServer(self.store).app, guards[0]))
        self.down = Conversation(handler(DownloadServer(self.store).app, guards[1]))
        self.down.site.finished = lambda request: self.seen.append(request.uri)

    def upload(self, token):
        return self.up.ask("POST", "/upload", BODY, Authorization=f"Bearer {token}")

    def fetch(self, path=f"/fetch/{ID}", token=None):
        more = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.down.ask("GET", path, **more)


def test_who_is_turned_away_is_not_heard_any_more():
    """What else has come is not looked at: there is one answer, which the client can read."""
    for token, status in (("none", 401), (SECRETS["down"], 403)):
        talk = Guarded().up
        line = b"Authorization: Bearer " + token.encode()
        (answer,) = talk.answers(request("POST", "/upload", BODY, line) * 3)
        assert answer.status == status
        assert answer.headers[b"connection"] == b"close"
        assert talk.transport.half_closed  # what is still on its way does not reset it


class TestTokens:
    """On an API server."""

    def test_a_right_one(self):
        """Is let in where it is good for what is asked."""
        servers = Guarded()
        assert servers.upload(SECRETS["up"]).json["id"] == ID
        assert servers.fetch(token=SECRETS["down"]).body == BODY
        assert servers.upload(SECRETS["all"]).status == 200
        assert servers.fetch(token=SECRETS["all"]).body == BODY

    def test_one_for_something_else(self):
        """Is known, and not for this."""
        servers = Guarded()
        answer = servers.upload(SECRETS["down"])
        assert answer.status == 403
        assert "lacks the scope upload" in answer.json["error"]
        assert servers.fetch(token=SECRETS["up"]).status == 403
        assert not servers.store.blobs

    def test_none(self):
        """It is told what is asked for."""
        servers = Guarded()
        for answer in (servers.up.ask("POST", "/upload", BODY), servers.fetch()):
            assert answer.status == 401
            assert answer.headers[b"www-authenticate"] == b"Bearer"
            assert answer.json["status"] == 401
        assert not servers.store.blobs

    @pytest.mark.parametrize(
        "value",
        [
            "Bearer",
            "Bearer ",
            "Bearer nonsense",
            f"Bearer {SECRETS['all'][:-1]}",
            f"Bearer {SECRETS['all']}, Bearer {SECRETS['all']}",
            f"Bearer {TOKENS[2].hash}",
            f"Bearer {'a' * 8000}",
            f"Basic {SECRETS['all']}",
            SECRETS["all"],
            "SOS1 key=x",
            "Bearer \xff",
        ],
        ids=(
            [
                "no token",
                "blank",
                "another",
                "truncated",
                "two",
                "hash",
                "oversized",
                "other scheme",
                "not supported",
                "of servers",
                "no ASCII",
            ]
        ),
    )
    def test_a_wrong_one(self, value):
        """Truncated, doubled, oversized, the hash in its place, of another scheme."""
        servers = Guarded()
        answer = servers.up.ask("POST", "/upload", BODY, Authorization=value)
        assert answer.status == 401
        assert answer.headers[b"www-authenticate"] == b'Bearer error="invalid_token"'
        assert not servers.store.blobs

    def test_one_that_has_expired(self):
        """Is told so, for who has it is known."""
        answer = Guarded().upload(SECRETS["late"])
        assert answer.status == 401
        assert "the token late has expired" in answer.json["error"]

    def test_what_there_is_is_not_told_to_strangers(self):
        """They hear the same of every path and method."""
        servers = Guarded()
        for path in ("/", "/fetch/%00", "/nothing", f"/fetch/{ID}"):
            assert servers.fetch(path).status == 401
        assert servers.down.ask("DELETE", "/fetch/x").status == 401

    def test_a_body_is_not_waited_for(self):
        """Who asks first whether to send it is told that he is not known."""
        servers = Guarded()
        sent = servers.up.send(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        (answer,) = parse_answers(sent)
        assert answer.status == 401
        assert servers.up.closed


class TestLinks:
    """In place of a token, for one object."""

    LINK = signed_path(KEYS, ID, NOW + 60)

    def test_one_that_is_good(self):
        """With an extension, and for a HEAD, too."""
        servers = Guarded()
        servers.upload(SECRETS["up"])
        assert servers.fetch(self.LINK).body == BODY
        assert servers.fetch(self.LINK.replace("?", ".txt?")).body == BODY
        assert servers.down.send(
            f"HEAD {self.LINK} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        ).startswith(b"HTTP/1.1 200 ")

    def test_one_that_is_not(self):
        """Of another object, expired, tampered with, or of another cluster."""
        servers = Guarded()
        servers.upload(SECRETS["up"])
        for link in (
            self.LINK.replace(ID, content_id(b"x")),
            signed_path(KEYS, ID, NOW),
            self.LINK[:-1],
            self.LINK + "&a=b",
            signed_path(Keys((Key(b"x" * 32),)), ID, NOW + 60),
        ):
            assert servers.fetch(link).status == 401

    def test_none_are_good_without_a_secret(self):
        """Then there is nothing that they could be signed by."""
        assert Guarded(links=None).fetch(self.LINK).status == 401

    def test_none_are_good_for_uploads(self):
        """They are for fetching one object."""
        servers = Guarded()
        assert servers.up.ask("POST", self.LINK.replace(ID, "x"), BODY).status == 401

    def test_a_token_that_comes_with_one_decides(self):
        """Who sends one wants it to be looked at."""
        assert Guarded().fetch(self.LINK, token="wrong").status == 401

    def test_none_is_shown_to_access_logs(self):
        """Who reads them could fetch by it."""
        servers = Guarded()
        servers.upload(SECRETS["up"])
        servers.fetch(self.LINK)
        servers.fetch(self.LINK[:-1])
        assert len(servers.seen) == 2
        for uri in servers.seen:
            assert uri.endswith(b"&signature=...")

    def test_none_is_shown_to_the_log_of_what_failed(self):
        """Which is read by others than those who may fetch."""
        servers = Guarded(store=FailingStore())
        with capturedLogs() as logged:
            assert servers.fetch(self.LINK).status == 503
        (line,) = map(formatEvent, logged)
        assert f"GET /fetch/{ID} " in line
        assert "signature" not in line


def test_what_is_private_is_not_for_shared_caches():
    """They would serve it to everybody (RFC 9111, 3.5)."""
    servers = Guarded()
    servers.upload(SECRETS["up"])
    for path, token in ((f"/fetch/{ID}", SECRETS["down"]), (TestLinks.LINK, None)):
        control = servers.fetch(path, token).headers[b"cache-control"]
        assert control == b"private, max-age=31536000, immutable"
    current = servers.down.ask(
        "GET",
        f"/fetch/{ID}",
        Authorization=f"Bearer {SECRETS['down']}",
        If_None_Match=f'"{ID}"',
    )
    assert current.status == 304
    assert current.headers[b"cache-control"].startswith(b"private")
    talk = Conversation(handler(DownloadServer(servers.store).app))
    assert talk.ask("GET", f"/fetch/{ID}").headers[b"cache-control"].startswith(b"public")


def test_the_log_tells_who_was_turned_away_a_line_a_second():
    """With the number of those that it does not tell of, and without what they brought."""
    servers = Guarded()
    with capturedLogs() as logged:
        for _ in range(100):
            servers.upload("hunter2")
        servers.now += 1
        servers.upload(SECRETS["down"])
    lines = [formatEvent(event) for event in logged]
    assert len(lines) == 2
    assert "request refused: POST /upload" in lines[0]
    assert "99 others" in lines[1]
    assert "the token down lacks the scope" in lines[1]
    assert "hunter2" not in "".join(lines)
    assert SECRETS["down"] not in "".join(lines)


class TestAnAdminPort:
    """Which may have objects behind it as well."""

    @staticmethod
    def asked(method, path, *guards):
        """Tell which guard was asked about a request, and the status of its answer."""
        asked = []
        names = dict(zip(("uploads", "fetches", "rest"), guards, strict=True))
        made = {
            name: (lambda request, name=name: asked.append(name)) if there else None
            for name, there in names.items()
        }
        store = MemoryStore()
        face = AdminServer(store, store.status, None, UploadServer(store), DownloadServer(store))
        talk = Conversation(handler(face.app, AdminGuard(**made)))
        return asked, talk.ask(method, path).status

    @pytest.mark.parametrize("path", ["/upload", "/%75pload", "/upload?x=1"])
    def test_uploads_need_what_they_need_elsewhere(self, path):
        """However the path is spelt."""
        assert self.asked("POST", path, True, True, True) == (["uploads"], 200)
        assert self.asked("POST", path, True, False, False) == (["uploads"], 200)
        assert self.asked("POST", path, False, True, True) == (["rest"], 200)

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("PUT", "/upload", 200), ("PUT", "/upload/a.txt", 200), ("POST", "/form", 400)],
    )
    def test_whatever_uploads_needs_that(self, method, path, status):
        """A file that is put, and a form, as any body."""
        assert self.asked(method, path, True, True, True) == (["uploads"], status)

    @pytest.mark.parametrize("path", ["/fetch/abc", "/%66etch/abc", "/fetch%2Fabc"])
    def test_fetches_need_what_they_need_elsewhere(self, path):
        """The same."""
        assert self.asked("GET", path, True, True, True) == (["fetches"], 404)
        assert self.asked("GET", path, False, True, False) == (["fetches"], 404)
        assert self.asked("GET", path, True, False, True) == (["rest"], 404)

    @pytest.mark.parametrize(
        ("face", "guard"), [(UploadServer, "uploads"), (DownloadServer, "fetches")]
    )
    def test_no_route_of_the_other_ports_is_forgotten(self, face, guard):
        """Each of them that the admin port has needs the same there."""
        for rule in face.app.url_map.iter_rules():
            if rule.rule != "/alive":
                assert rule.rule.startswith(UPLOADS if guard == "uploads" else FETCHES)
                path = rule.rule.replace("<", "").replace(">", "")
                for method in sorted(rule.methods):
                    assert self.asked(method, path, True, True, True)[0] == [guard]

    @pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json"])
    def test_all_else_needs_what_the_port_needs(self, path):
        """Or nothing."""
        assert self.asked("GET", path, True, True, True) == (["rest"], 200)
        assert self.asked("GET", path, True, True, False) == ([], 200)

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "//healthz", 404),
            ("GET", "/%2fhealthz", 404),
            ("GET", "///healthz", 404),
            ("POST", "//upload", 404),
            ("POST", "/upload/", 404),
            ("GET", "/upload", 405),
            ("GET", "/nothing", 404),
        ],
    )
    def test_what_is_not_there_is_no_way_in(self, method, path, status):
        """Two slashes are not one; and the guard is asked all the same."""
        assert self.asked(method, path, True, True, True) == (["rest"], status)


def test_a_lease_is_not_told_to_the_log():
    """Neither when something goes wrong with it nor when it is turned away."""

    async def refuse(token):
        raise ReadOnly("the disk is read-only")

    store = MemoryStore()
    store.release = refuse
    guard = SignedRequests(Verifier(lambda: KEYS, lambda: NOW), (), lambda: 0.0)
    for each, status in ((None, 503), (guard, 401)):
        talk = Conversation(handler(BlobServer(store).app, each))
        with capturedLogs() as logged:
            assert talk.ask("DELETE", "/lease/5ec4e7c0ffee").status == status
        lines = [formatEvent(event) for event in logged]
        assert any("DELETE /lease/***" in line for line in lines)
        assert not any("5ec4e7c0ffee" in line for line in lines)


class TestSignedRequests:
    """On a blob server."""

    def setup_method(self):
        self.store = MemoryStore()
        self.sign = Signer(lambda: KEYS, lambda: NOW)
        guard = SignedRequests(Verifier(lambda: KEYS, lambda: NOW), (b"/alive",), lambda: 0.0)
        self.talk = Conversation(handler(BlobServer(self.store).app, guard))

    def send(self, method, path, body=b"", sent_path=None, sent_body=None, **headers):
        fields = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        value = self.sign(method.encode(), path.encode(), len(body), fields).decode()
        sent = body if sent_body is None else sent_body
        return self.talk.ask(method, sent_path or path, sent, Authorization=value, **headers)

    def test_what_is_signed_is_answered(self):
        """To each method and path."""
        assert self.send("POST", f"/blob/{ID}", BODY, X_A="1").status == 200
        assert self.send("GET", f"/blob/{ID}").body == BODY
        assert self.send("GET", "/blobs?limit=1").json == [ID]
        assert self.send("GET", "/nothing").status == 404

    def test_the_health_check_is_for_everybody(self):
        """As in the original; but in no other spelling."""
        assert self.talk.ask("GET", "/alive").body == b"alive"
        assert self.talk.ask("GET", "/alive?").body == b"alive"
        for path in ("/%61live", "/alive/", "//alive", "/alive/../blobs", "/blobs?/alive"):
            assert self.talk.ask("GET", path).status == 401

    def test_another_query_or_path_is_refused(self):
        """Though the rest is as it was signed."""
        assert self.send("GET", "/blobs?limit=1", sent_path="/blobs?limit=2").status == 401
        assert self.send("POST", f"/blob/{ID}", BODY, sent_path="/blob/other").status == 401
        assert not self.store.blobs

    def test_another_length_is_refused(self):
        """Of an opaque name nothing else would tell."""
        assert self.send("POST", "/blob/name", b"abc", sent_body=b"ab").status == 401
        assert not self.store.blobs

    def test_the_target_may_be_absolute(self):
        """As it comes through a proxy: its path is what counts (RFC 9112, 3.2.2)."""
        answer = self.send("GET", "/blobs", sent_path="http://a/blobs")
        assert answer.status == 200

    def test_a_refusal_says_how_to_sign(self):
        """By the name of the scheme."""
        answer = self.talk.ask("GET", "/blobs")
        assert answer.status == 401
        assert answer.headers[b"www-authenticate"] == b"SOS1"
        assert answer.json == {
            "error": "the request is not signed: the client needs the --secret-file of this server",
            "status": 401,
        }
