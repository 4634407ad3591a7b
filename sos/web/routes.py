"""Klein's routes, with errors in JSON."""

from __future__ import annotations

from typing import Any

from klein import Klein
from klein.resource import KleinResource
from twisted.python.failure import Failure

from sos.errors import InvalidRequest
from sos.web.errors import answer_error
from sos.wire.request import Request


class Routes(Klein):
    """A Klein that takes a path as it stands and answers every error in JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.url_map.merge_slashes = False
        self.handle_errors(Exception)(answer_error)  # type: ignore[arg-type]

    def resource(self) -> KleinResource:
        return _Resource(self)


class _Resource(KleinResource):
    def render(self, request: Request) -> Any:  # type: ignore[override]
        try:
            b"/".join(request.postpath or ()).decode("utf-8")
        except UnicodeDecodeError:
            # Klein's own answer to this is a text.
            return answer_error(None, request, Failure(InvalidRequest("the path is not UTF-8")))
        return super().render(request)
