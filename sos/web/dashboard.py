"""The dashboard for operators of a cluster, and its Content-Security-Policy.

The page is one file, ``dashboard.html``.  It connects only to its own server, and
the browser runs no script or style but those in the file.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def policy(page: bytes) -> str:
    """Return the Content-Security-Policy of *page*, with the hashes of its script and style."""
    allowed: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, text in _INLINE.findall(page):
        allowed[kind].append(f"'sha256-{b64encode(sha256(text).digest()).decode('ascii')}'")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(allowed[b'script'])}",
            f"style-src {' '.join(allowed[b'style'])}",
            "connect-src 'self'",
            "img-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


#: The page.
PAGE = files("sos.web").joinpath("dashboard.html").read_bytes()

#: Its headers, each on its own line.
PAGE_HEADERS = "".join(
    f"{name}: {value}\r\n"
    for name, value in (
        ("Content-Security-Policy", policy(PAGE)),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )
).encode("ascii")
