"""The page for those who look after a cluster, and what a browser may do with it.

It is one file, ``dashboard.html``, that asks nobody but the server that it
came from, and of what it contains only the script and the style are run.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def policy(page: bytes) -> str:
    """Return the Content-Security-Policy of *page*: its own script and style, by their hashes."""
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

#: The headers that it is sent with, each on its line.
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
