"""The OpenAPI descriptions, beside the routes that they describe."""

from __future__ import annotations

import json

import pytest
from openapi_spec_validator import validate

from sos import __version__
from sos.errors import NoSpace
from sos.stores.memory import MemoryStore
from sos.web import openapi
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.conversation import Conversation, request
from tests.support.description import Description, path_of
from tests.support.doubles import FailingStore
from tests.web.test_admin_api import counted, told

STORE = MemoryStore()
BOTH = pytest.mark.parametrize("name", ["api", "blob"])


def routes(app):
    """Method and path of each, but for the HEAD that each GET has."""
    return {
        (method, path_of(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }


@BOTH
def test_it_is_openapi_3_1_of_this_version(name):
    """And each operation has a name of its own."""
    document = Description(name).document
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "apps"),
    [("api", [AdminServer.app, UploadServer.app, DownloadServer.app]), ("blob", [BlobServer.app])],
)
def test_it_describes_the_routes_that_there_are(name, apps):
    """None is missing, and none is there that is not; a HEAD is described where it matters."""
    described = set(Description(name).operations)
    heads = {("GET", path) for method, path in described if method == "HEAD"}
    there = set.union(*(routes(app) for app in apps))
    assert {each for each in described if each[0] != "HEAD"} == there
    assert heads <= there
    assert routes(apps[0]) == there  # the whole of it is to be had at one place


@pytest.mark.parametrize(
    ("face", "description"),
    [
        (
            AdminServer(STORE, told, counted, UploadServer(STORE), DownloadServer(STORE)),
            openapi.API,
        ),
        (BlobServer(STORE), openapi.BLOB),
    ],
    ids=["api", "blob"],
)
def test_a_server_gives_its_own(face, description):
    """At /openapi.json."""
    (answer,) = Conversation(handler(face.app)).answers(request("GET", "/openapi.json"))
    assert answer.json == json.loads(description)
    assert answer.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    "parts",
    [
        ("PATCH", "/blob/abc"),
        ("POST", "/lease?seconds=1"),
        ("DELETE", "/lease/0"),
        ("DELETE", "/blob/abc", b"", b"X-Sos-Lease: 0"),
    ],
    ids=lambda parts: " ".join(parts[:2]),
)
def test_a_small_change_that_there_is_no_room_for(parts):
    """507, as described.  A real disk that is full has room in its index for these."""
    face = BlobServer(FailingStore(error=NoSpace("the disk is full")))
    (answer,) = Conversation(handler(face.app)).answers(request(*parts))
    assert answer.status == 507
