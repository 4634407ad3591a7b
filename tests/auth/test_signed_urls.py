"""Links that are good for a time."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sos.auth.request_signing import Key, Keys
from sos.auth.signed_urls import check_signed, signed_path
from sos.errors import Unauthorized

KEYS = Keys((Key(b"k" * 32),))
NOW = 1_800_000_000
ID = "b" * 40
LINK = signed_path(KEYS, ID, NOW + 60)


def refusal(target, keys=KEYS, now=NOW):
    with pytest.raises(Unauthorized) as caught:
        check_signed(keys, target if isinstance(target, bytes) else target.encode(), now, "Bearer")
    assert caught.value.challenge == "Bearer"
    return str(caught.value)


@given(st.from_regex("[0-9a-z]{1,128}", fullmatch=True), st.integers(1, 10**10))
def test_a_link_is_good_until_it_expires(id, expires):
    """And not from then on, to the second."""
    link = signed_path(KEYS, id, expires)
    check_signed(KEYS, link.encode(), expires - 1, "")
    assert "expired" in refusal(link, now=expires)


def test_an_extension_may_follow_the_id():
    """As it may in any fetch."""
    for extension in (".jpg", ".tar.gz", ".", ".%20"):
        check_signed(KEYS, LINK.replace("?", f"{extension}?").encode(), NOW, "")


def test_a_link_for_another_object_is_refused():
    """Another id, one that is longer, or another spelling of the same."""
    for id in ("c" * 40, ID + "b", ID[:-1], "%62" + ID[1:]):
        refusal(LINK.replace(ID, id))


def test_a_link_cannot_be_made_to_last_longer():
    """The time is signed, too."""
    assert "signature does not match the link" in refusal(
        LINK.replace(str(NOW + 60), str(NOW + 61))
    )


@given(st.integers(0, len(LINK) - 1), st.integers(0, 255))
def test_a_link_with_another_byte_is_refused(place, byte):
    """Wherever that is."""
    target = LINK.encode()
    changed = target[:place] + bytes([byte]) + target[place + 1 :]
    assume(changed != target)
    refusal(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link[:-1],
        lambda link: link + "0",
        lambda link: link + "&x=1",
        lambda link: link.replace("&", "&x=1&"),
        lambda link: link.partition("&")[0],
        lambda link: link.partition("?")[0],
        lambda link: link + "&" + link.partition("?")[2],
        lambda link: link.replace("signature=", "signature=" + "0" * 100_000),
        lambda link: link.replace("expires=", "expires=+"),
        lambda link: link.replace("/fetch/", "/fetch//"),
        lambda link: link.replace("?", "/x?"),
    ],
)
def test_what_is_no_link(change):
    """Truncated, oversized, with more in it."""
    refusal(change(LINK))


def test_links_follow_the_keys():
    """The first one signs, each that holds is accepted, and none else."""
    old, new = Key(b"k" * 32), Key(b"n" * 32)
    check_signed(Keys((new, old)), LINK.encode(), NOW, "")
    assert "signature does not match the link" in refusal(LINK, Keys((new,)))


def test_a_link_is_not_signed_by_the_key_itself():
    """What signs requests signs nothing else."""
    text = f"{ID}\n{NOW + 60}\n".encode()
    assert KEYS.first.sign(text) not in LINK
    assert KEYS.first.derived("fetch URL").sign(text) in LINK
