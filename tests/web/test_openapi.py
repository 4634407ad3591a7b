"""The OpenAPI descriptions, beside the routes that they describe."""

from __future__ import annotations

import json

import attrs
import pytest
from openapi_spec_validator import validate

from sos import __version__
from sos.errors import NoSpace
from sos.interfaces import ScrubStatus, StoreStatus
from sos.monitoring.server_health import ServerHealth
from sos.replication.summary import Summary
from sos.stores.memory import MemoryStore
from sos.web import admin_api, blob_api
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.conversation import Conversation, request
from tests.support.description import Description, path_of
from tests.support.doubles import FailingStore
from tests.web.test_admin_api import counted, no_status

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


def test_each_path_names_the_ports_that_have_it():
    """The others are at the admin port alone, as the document says once."""
    document = Description("api").document
    ports = {9991: UploadServer.app, 9992: DownloadServer.app, 9993: AdminServer.app}
    for path, item in document["paths"].items():
        named = {server["url"] for server in item.get("servers", document["servers"])}
        having = {port for port, app in ports.items() if path in {each for _, each in routes(app)}}
        assert named == {f"http://{{host}}:{port}" for port in having}


@BOTH
def test_each_operation_says_what_it_does(name):
    """In a sentence, without the roles of Sphinx that docstrings can have."""
    text = json.dumps(Description(name).document)
    assert not [role for role in (":class:", ":func:", ":mod:", ":data:", ":param") if role in text]
    for item in Description(name).document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                assert operation["summary"].endswith(".")


@pytest.mark.parametrize(
    ("schema", "described", "withheld"),
    [
        ("StoreStatus", StoreStatus, {"scrub", "others", "time"}),
        ("Scrub", ScrubStatus, set()),
        ("ServerHealth", ServerHealth, set()),
        ("Summary", Summary, set()),
    ],
)
def test_it_has_every_field_of_a_status(schema, described, withheld):
    """All that ``/status`` sends of these classes; a blob server sends a scrub beside the rest."""
    properties = Description("api").document["components"]["schemas"][schema]["properties"]
    assert set(properties) == set(attrs.fields_dict(described)) - withheld


@pytest.mark.parametrize(
    ("face", "description"),
    [
        (
            AdminServer(STORE, no_status, counted, UploadServer(STORE), DownloadServer(STORE)),
            admin_api.openapi_json,
        ),
        (BlobServer(STORE), blob_api.openapi_json),
    ],
    ids=["api", "blob"],
)
def test_a_server_gives_its_own(face, description):
    """At /openapi.json."""
    (answer,) = Conversation(handler(face.app)).answers(request("GET", "/openapi.json"))
    assert answer.json == json.loads(description())
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
