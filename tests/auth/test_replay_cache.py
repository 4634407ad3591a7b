"""What was accepted is not accepted again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sos.auth.replay_cache import ReplayCache

SKEW = 300
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from((b"a", b"b", b"c")),  # the client
        st.integers(0, 5000),  # its request
        st.integers(-SKEW, SKEW),  # its clock, against ours
        st.integers(0, 100),  # seconds to the next one
    ),
    max_size=200,
)


@given(REQUESTS, st.integers(2, 20))
def test_nothing_is_admitted_twice(requests, most):
    """However little is remembered, while the date of a request would be accepted."""
    replays = ReplayCache(most)
    admitted = {}
    now = 1_000_000
    for client, number, skew, wait in requests:
        date = admitted.get((client, number), now + skew)
        if abs(date - now) <= SKEW:
            new = replays.admit(client, number, date, now - SKEW)
            assert not (new and (client, number) in admitted)
            if new:
                admitted[client, number] = date
        assert len(replays) <= most
        now += wait


@settings(max_examples=15)  # of four thousand calls each
@given(st.randoms(use_true_random=False))
def test_everything_else_is_admitted(random):
    """In any order; nothing is forgotten while there is room."""
    replays = ReplayCache()
    numbers = random.sample(range(2000), 2000)
    assert all(replays.admit(b"a", number, 1, 0) for number in numbers)
    assert not any(replays.admit(b"a", number, 1, 0) for number in numbers)
    assert len(replays) == 2


def test_memory_is_bounded_and_what_is_recent_goes_on():
    """More clients than are remembered: those with the time of now are still admitted."""
    replays = ReplayCache(most=100)
    for number in range(10_000):
        assert replays.admit(b"%d" % number, 0, number, number - SKEW)
        assert len(replays) <= 100
    assert not replays.admit(b"9999", 0, 9999, 9999 - SKEW)
    assert not replays.admit(b"0", 0, 0, -SKEW)  # forgotten, and too old for what is remembered
