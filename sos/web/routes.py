"""A fast dispatcher for Klein's routes that does not use Klein's requests."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from klein import Klein
from twisted.python.failure import Failure
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from sos.aio.tasks import run
from sos.aio.twisted_internals import route_functions
from sos.auth.guards import Guard
from sos.errors import InvalidRequest
from sos.http.server.request import Request
from sos.web.cors import CrossOrigin
from sos.web.errors import answer_error, errors_log

_Function = Callable[..., Any]

_NONE: Mapping[str, str] = {}


def handler(
    app: Klein,
    guard: Guard | None = None,
    clock: Callable[[], float] = time.monotonic,
    origins: Collection[bytes] = (),
) -> Callable[[Request], None]:
    """Return a function that answers requests by the routes of *app*.

    :param guard: checks each request before any of its body is read; None to
        accept all requests.
    :param clock: returns a time in seconds.
    :param origins: the origins whose pages may read the answers, see :class:`CrossOrigin`.

    The function of a route returns the body of the answer, or writes it and returns None.
    It can be a coroutine.  Every error is answered in JSON.
    """
    app.url_map.merge_slashes = False  # "//" is not "/"
    answer = _Dispatcher(app, guard, clock)
    if not origins:
        return answer
    methods = {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    return CrossOrigin(answer, origins, methods)


class _Dispatcher:
    def __init__(self, app: Klein, guard: Guard | None, clock: Callable[[], float]) -> None:
        self._guard = guard
        self._log = errors_log(clock)
        self._all = app.url_map.bind("")
        self._functions = route_functions(app)
        # Shortcuts for most routes: by method and path; and by method and the path up to
        # its last segment, if only that is an argument.
        self._fixed: dict[tuple[bytes, str], tuple[_Function, str]] = {}
        self._named: dict[tuple[bytes, str], tuple[_Function, str, str]] = {}
        for rule in app.url_map.iter_rules():
            self._add(rule)
        methods = {b"OPTIONS", *(method for method, _ in (*self._fixed, *self._named))}
        self._allow = b", ".join(sorted(methods))
        self._fixed[b"OPTIONS", "*"] = self._tell_methods, "*"

    def _add(self, rule: Rule) -> None:
        function = self._functions[rule.endpoint]
        head, _, last = rule.rule.rpartition("/")
        for method in rule.methods or ():
            key = method.encode("ascii")
            if not rule.arguments:
                self._fixed[key, rule.rule] = function, rule.rule
            elif "<" not in head and last == f"<{min(rule.arguments)}>":
                self._named[key, head] = function, min(rule.arguments), rule.rule

    def __call__(self, request: Request) -> None:
        try:
            try:
                function, arguments = self._find(request)
            finally:  # also for unknown paths: do not reveal which exist without credentials
                if self._guard is not None:
                    self._guard(request)
            result = function(request, **arguments)
        except Exception:
            result = Failure()
        if isinstance(result, types.CoroutineType):
            request.work = run(result, partial(self._answer, request))
        else:
            self._answer(request, result)

    def _find(self, request: Request) -> tuple[_Function, Mapping[str, str]]:
        """Return the function for *request* and its arguments; set the request's route."""
        try:
            quoted = request.path
            path = (unquote_to_bytes(quoted) if b"%" in quoted else quoted).decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest("the path is not valid UTF-8") from None
        fixed = self._fixed.get((request.method, path))
        if fixed is not None:
            function, request.route = fixed
            return function, _NONE
        head, _, last = path.rpartition("/")
        named = self._named.get((request.method, head))
        if named is not None and last:
            function, name, request.route = named
            return function, {name: last}
        if path[:2] == "//":  # werkzeug treats any number of leading slashes as one
            raise NotFound
        rule, arguments = self._all.match(path, request.method.decode("ascii"), return_rule=True)
        request.route = rule.rule
        return self._functions[rule.endpoint], arguments

    def _tell_methods(self, request: Request) -> None:
        """Answer ``OPTIONS *``, which is about the server as a whole (RFC 9110, 9.3.7)."""
        request.setResponseCode(204)
        request.setHeader(b"Allow", self._allow)

    def _answer(self, request: Request, result: bytes | Failure | None) -> None:
        if not isinstance(result, Failure):
            request.finish(result)
        elif not request.disconnected:
            request.finish(answer_error(request, result, self._log))
