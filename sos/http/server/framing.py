"""The framing of a request: where its body ends."""

from __future__ import annotations

from collections.abc import Mapping

from sos.http.server.heads import RejectedRequest, split_host


def body_length(method: bytes, version: str, fields: Mapping[bytes, bytes]) -> int | None:
    """Judge the framing of a request, and return the length of its body; None if it is chunked.

    Raises :exc:`RejectedRequest` if the request is not acceptable.  llhttp has already rejected
    conflicting lengths and most transfer codings.
    """
    if version not in ("1.1", "1.0"):
        raise RejectedRequest(505, f"HTTP/{version} is not supported: use HTTP/1.1")
    if method == b"CONNECT":
        raise RejectedRequest(400, "CONNECT is not supported: this server is not a proxy")
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            raise RejectedRequest(400, "the Host header is missing")
    elif split_host(host) is None:
        raise RejectedRequest(400, "the Host header is not a valid host")
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return int(fields.get(b"content-length", b"0"))
    if coding.lower() != b"chunked":
        raise RejectedRequest(400, "the transfer coding is not supported: use chunked")
    if version == "1.0":
        raise RejectedRequest(400, "a transfer coding needs HTTP/1.1")
    return None
