"""Descriptions of the servers' HTTP interfaces in OpenAPI 3.1, made from their routes.

A route's function says the summary, in the first line of its docstring, and the description, in
the rest.  Its decorator :class:`Operation` adds what the route cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import getdoc
from typing import Any, TypeVar

from attrs import field, frozen
from klein import Klein
from werkzeug.routing import Rule

from sos import __version__
from sos.auth.hosts import HEALTH_CHECKS
from sos.web.openapi import responses
from sos.web.openapi.credentials import Credentials
from sos.web.openapi.parameters import DIGESTS, RANGES
from sos.web.openapi.parts import Part, Response, Shared

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SAFE = ("GET", "HEAD", "OPTIONS")
_GENERAL = (
    "Everything that can change, and every error, has `Cache-Control: no-store`. Errors are JSON, "
    '`{"error": ..., "status": ...}`. The server answers a request that it cannot parse before it '
    "looks for the route, and closes the connection: 400 for the framing, 408 if the headers take "
    "over 20 s, 414, 431, 503 for too many connections, and 505 for a version other than HTTP/1.1 "
    "and 1.0. It answers an unknown path with 404, and another method with 405 and `Allow`. Each "
    "GET can be a HEAD, which is answered without a body. `OPTIONS *` is answered with 204 and "
    "`Allow`, without credentials."
)


@frozen
class Operation:
    """Decorator for the function of a route, with what OpenAPI needs to know besides.

    Several describe the methods of a route one by one.

    :param methods: separated by spaces; by default all of the route but HEAD.
    :param takes: the parameters.
    :param answers: the responses, without those that follow from the rest: see :func:`_answers`.
    :param summary: in place of the function's docstring.
    :param needs_credentials: whether servers can require credentials.
    """

    tag: str
    methods: str = ""
    takes: Sequence[Part] = field(default=(), kw_only=True)
    body: Part | None = field(default=None, kw_only=True)
    answers: Sequence[Response] = field(kw_only=True)
    summary: str = field(default="", kw_only=True)
    needs_credentials: bool = field(default=True, kw_only=True)

    def __call__(self, function: _Function) -> _Function:
        """Add this to the operations of *function*."""
        function.operations = (self, *_operations(function))  # type: ignore[attr-defined]
        return function


def _operations(function: Callable[..., Any]) -> tuple[Operation, ...]:
    return getattr(function, "operations", ())


@frozen
class Port:
    """A port of a server: its routes, its default number, and its purpose."""

    app: Klein
    number: int
    purpose: str

    @property
    def server(self) -> Part:
        """The port as OpenAPI describes it."""
        variables = {"host": {"default": "localhost"}}
        url = f"http://{{host}}:{self.number}"
        return {"url": url, "variables": variables, "description": self.purpose}


def document(
    title: str,
    description: str,
    tags: Mapping[str, str],
    ports: Sequence[Port],
    credentials: Credentials,
) -> Part:
    """Return the description of a server.

    :param ports: the last one has all routes.  The first one with a route describes it.
    """
    paths: dict[str, dict[str, Any]] = {}
    servers: dict[str, list[Part]] = {}
    for port in ports:
        for rule in port.app.url_map.iter_rules():
            path = rule.rule.replace("<", "{").replace(">", "}")
            paths[path] = {**_item(port.app, rule, credentials), **paths.get(path, {})}
            if port.server not in servers.setdefault(path, []):
                servers[path].append(port.server)
    default = [ports[-1].server]
    for path, item in paths.items():
        if servers[path] != default:
            item["servers"] = servers[path]
    scheme = credentials.scheme
    components: dict[str, dict[str, Any]] = {scheme.kind: {scheme.name: scheme}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": f"{description} {_GENERAL}",
        },
        "servers": default,
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": _referring(paths, components),
        "components": components,
    }


def _item(app: Klein, rule: Rule, credentials: Credentials) -> dict[str, Part]:
    """Return the operations of *rule*, by method in lower case."""
    function = app.endpoints[rule.endpoint]
    summary, _, rest = (getdoc(function) or "").partition("\n")
    found: dict[str, Part] = {}
    for each in _operations(function):
        for method in each.methods.split() or sorted(set(rule.methods or ()) - {"HEAD"}):
            operation: dict[str, object] = {
                "operationId": f"{rule.endpoint}_{method.lower()}" if found else rule.endpoint,
                "tags": [each.tag],
                "summary": each.summary or " ".join(summary.split()),
            }
            if rest and not each.summary:
                operation["description"] = " ".join(rest.split())
            takes = [part for part in each.takes if method != "HEAD" or part not in RANGES]
            if takes:
                operation["parameters"] = takes
            if each.body is not None:
                operation["requestBody"] = each.body
            is_health_check = rule.rule.encode("ascii") in HEALTH_CHECKS
            guard = credentials if each.needs_credentials and not is_health_check else None
            if guard is not None:
                operation["security"] = [{}, {guard.scheme.name: []}]
            answers = sorted(_answers(each, method, is_health_check, guard).items())
            operation["responses"] = {str(status): answer for status, answer in answers}
            found[method.lower()] = operation
    return found


def _answers(
    each: Operation, method: str, is_health_check: bool, guard: Credentials | None
) -> dict[int, Response]:
    """Return the responses of an operation, with those that follow from the rest of it."""
    found: list[Response] = [
        responses.MALFORMED,
        responses.LONG_TARGET,
        responses.LONG_HEADERS,
        responses.UNAVAILABLE,
    ]
    if not is_health_check:
        found.append(responses.OTHER_HOST)
    if each.body is not None:
        found += [responses.TOO_SLOW, responses.TOO_LARGE]
    if DIGESTS[0] in each.takes:
        found.append(responses.CHANGED)
    if guard is not None:
        found.append(guard.unknown)
        found += guard.read if method in _SAFE else guard.change
    found += each.answers  # these replace the others of the same status
    if method == "HEAD":  # no bodies, no ranges (RFC 9110, 9.3.2 and 14.2)
        found = [_without_body(answer) for answer in found if answer.status not in (206, 416)]
    return {answer.status: answer for answer in found}


def _without_body(answer: Response) -> Response:
    rest = {key: value for key, value in answer.items() if key != "content"}
    return Response(answer.status, f"{answer.name}ToHead" if answer.name else "", rest)


def _referring(part: Any, components: dict[str, dict[str, Any]]) -> Any:
    """Return *part* with references to its shared parts, which go to *components*.

    If two shared parts have the same name, the second one stays where it is.
    """
    if isinstance(part, Mapping):
        content = {key: _referring(value, components) for key, value in part.items()}
        if isinstance(part, Shared) and part.name:
            known = components.setdefault(part.kind, {}).setdefault(part.name, content)
            if known == content:
                return {"$ref": f"#/components/{part.kind}/{part.name}"}
        return content
    if isinstance(part, (list, tuple)):
        return [_referring(each, components) for each in part]
    return part
