"""The page as it is sent; tests/test_page.py looks at it in a browser."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from sos.web.dashboard import PAGE, policy
from tests.web.test_admin_api import ask


def test_it_may_run_its_own_script_and_nothing_else():
    """By their hashes; nothing is asked of, framed by or sent to anybody else."""
    answer = ask("GET", "/")
    assert answer.body == PAGE
    assert answer.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert answer.headers[b"cache-control"] == b"no-store"
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    given = answer.headers[b"content-security-policy"].decode()
    directives = dict(part.split(" ", 1) for part in given.split("; "))
    assert directives.pop("script-src").startswith("'sha256-")
    assert directives.pop("style-src").startswith("'sha256-")
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_policy_follows_the_page():
    """Each script and style is in it, as it stands."""
    page = b"<style>a</style><script>b</script><script>\nc</script>"
    hashes = [b64encode(sha256(text).digest()).decode() for text in (b"a", b"b", b"\nc")]
    assert f"style-src 'sha256-{hashes[0]}';" in policy(page)
    assert f"script-src 'sha256-{hashes[1]}' 'sha256-{hashes[2]}';" in policy(page)


def test_it_contains_what_it_needs():
    """No address but that of SVG, no handler or style in an attribute, no markup from text."""
    page = PAGE.decode()
    assert set(re.findall(r"https?://[^\s\"'`)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<[^>]+\s(on\w+|style)=", page)
    assert not re.search(
        r"\.(innerHTML|outerHTML)\s*=[^=]|insertAdjacentHTML|document\.write", page
    )
    assert not re.search(r"\beval\(|new Function|srcdoc", page)


def test_it_asks_before_it_deletes():
    """In a dialog with a name and a description, whose first button deletes nothing."""
    (dialog,) = re.findall(r"<dialog.*?</dialog>", PAGE.decode(), re.DOTALL)
    labels = re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', dialog)
    assert len(labels) == 2
    assert all(f'id="{each}"' in dialog for each in labels)
    buttons = re.findall(r"<button([^>]*)>([^<]*)</button>", dialog)
    assert [text for _, text in buttons] == ["Cancel", "Delete"]
    assert ["autofocus" in attributes for attributes, _ in buttons] == [True, False]
