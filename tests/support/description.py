"""What an OpenAPI description says, and whether answers are as it says."""

from __future__ import annotations

import json
import re

from jsonschema import Draft202012Validator

from sos.web import admin_api, blob_api

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


class Description:
    """The description of one kind of server: ``api`` or ``blob``.

    :ivar operations: method and path of each.
    :ivar seen: the answers that have been checked: method, path, status.
    """

    def __init__(self, name):
        module = {"api": admin_api, "blob": blob_api}[name]
        self.document = json.loads(module.openapi_json())
        self.operations = [
            (method.upper(), path)
            for path, item in self.document["paths"].items()
            for method in METHODS
            if method in item
        ]
        self.seen = set()

    @property
    def statuses(self):
        """Method, path and status of each answer that is described."""
        return {
            (method, path, int(status))
            for method, path in self.operations
            for status in self._responses(method, path)
        }

    def _responses(self, method, path):
        return self.document["paths"][path][method.lower()]["responses"]

    def _resolved(self, part):
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        return self.document["components"][kind][name]

    def check(self, method, path, answer):
        """See that *answer* is one of those that the operation is said to have."""
        responses = self._responses(method, path)
        assert str(answer.status) in responses, (method, path, answer.status, answer.body[:200])
        response = self._resolved(responses[str(answer.status)])
        for name, header in response.get("headers", {}).items():
            value = answer.headers.get(name.lower())
            assert value is not None or not header.get("required"), f"{name} is missing"
            if value is not None:
                self._validate(header["schema"], int(value) if value.isdigit() else value)
        content = response.get("content", {})
        if method != "HEAD" and "*/*" not in content:
            kind = answer.headers.get("content-type", "").partition(";")[0]
            assert (kind in content) if content else not answer.body, (method, path, kind)
            if content:
                is_json = kind == "application/json"
                text = json.loads(answer.body) if is_json else answer.body.decode("latin-1")
                self._validate(content[kind]["schema"], text)
        self.seen.add((method, path, answer.status))

    def _validate(self, schema, value):
        whole = {**schema, "components": self.document["components"]}
        Draft202012Validator(whole).validate(value)


def path_of(rule):
    """Spell the path of a route as OpenAPI does."""
    return re.sub(r"<(\w+)>", r"{\1}", rule)
