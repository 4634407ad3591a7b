"""Asking real servers over HTTP, from a test that may wait for the answer."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

# Seconds that nothing may come; long enough for a machine that does other things as well.
_PATIENCE = 60.0


@frozen
class Answer:
    """What was answered.

    :ivar headers: by their names in any case.
    """

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(url: str, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return a connection to the server of *url*, which is made by the first request."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, timeout=_PATIENCE, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=_PATIENCE)


def ask(
    url: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request over a connection of its own, and return the answer, whatever it is.

    :param method: GET if None, or POST where there is a *body*.
    :param context: for https.
    :raises OSError, http.client.HTTPException: when there is no whole answer.
    """
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = connect(url, context)
    try:
        method = method or ("GET" if body is None else "POST")
        connection.request(method, target or "/", body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def fetch(url: str, *arguments: Any, **options: Any) -> bytes:
    """Return the body of the answer to what :func:`ask` would ask, which has to be a success."""
    answer = ask(url, *arguments, **options)
    assert answer.status < 300, (url, answer.status, answer.body)
    return answer.body
