"""Server health, from the outcomes of requests and the servers' own status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from attrs import NOTHING, Factory, evolve, field, frozen
from attrs.validators import in_, instance_of, optional
from twisted.internet.defer import TimeoutError, ensureDeferred

from sos.aio.gather import together
from sos.errors import SOSError, Unavailable
from sos.interfaces import Groups, Member, ScrubStatus, StoreStatus

UP = "up"
#: The server is read from, but it has refused a blob, or reports that it would.
TAKES_NO_BLOBS = "takes no blobs"
#: The server does not answer a request for its status.
UNREACHABLE = "unreachable"
#: The circuit breaker is open: the server failed, and must answer a status request first.
LEFT_ALONE = "left alone"


@frozen
class HealthRecord:
    """Health record of a server: what this process has observed.

    :param requests: the number of requests sent to it.
    :param errors: the number of failures; a missing blob is not a failure.
    :param latencies: seconds that its recent answers took.
    :param last_error: its last error, and how many seconds ago that was.
    :param failure: why the circuit breaker is open; None if it is closed.
    :param refusal: why the server accepts no blobs at present; None if it does.
    :param asked_again: seconds until this process asks the server again.
    """

    requests: int = 0
    errors: int = 0
    latencies: tuple[float, ...] = ()
    last_error: tuple[str, float] | None = None
    failure: str | None = None
    refusal: str | None = None
    asked_again: float | None = None


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the quantile *share*, from 0 to 1, of *values*; None if there are no values."""
    ordered = sorted(values)
    return ordered[int(len(ordered) * share)] if ordered else None


@frozen
class ServerHealth:
    """Health of a server: the health record and the server's own status, merged.

    :param state: one of :data:`UP`, :data:`TAKES_NO_BLOBS`, :data:`UNREACHABLE`
        and :data:`LEFT_ALONE`.
    :param reason: why it is not up.
    :param asked_again: seconds until this process asks the server again, None if it is up.
    :param blobs: the number of its blobs, of *size* bytes together.
    :param capacity: of its disk, and *free* of that, in bytes.
    :param last_error_ago: seconds since its last error.
    :param p50_ms: median latency of its recent answers, in milliseconds.
    :param p95_ms: 95th percentile of the same.
    :param scrub: the state of its scrub, if it reports one.
    :param id: of its store, if it reports one.
    :param name: from ``sos.conf``, or else its URL.
    """

    url: str = field(validator=instance_of(str))
    state: str = field(validator=in_((UP, TAKES_NO_BLOBS, UNREACHABLE, LEFT_ALONE)))
    reason: str | None = field(validator=optional(instance_of(str)))
    asked_again: float | None = field(validator=optional(instance_of((int, float))))
    readonly: bool = field(validator=instance_of(bool))
    preferred: bool = field(validator=instance_of(bool))
    weight: float = field(validator=instance_of((int, float)))
    blobs: int | None = field(validator=optional(instance_of(int)))
    size: int | None = field(validator=optional(instance_of(int)))
    capacity: int | None = field(validator=optional(instance_of(int)))
    free: int | None = field(validator=optional(instance_of(int)))
    requests: int = field(validator=instance_of(int))
    errors: int = field(validator=instance_of(int))
    last_error: str | None = field(validator=optional(instance_of(str)))
    last_error_ago: float | None = field(validator=optional(instance_of((int, float))))
    p50_ms: float | None = field(validator=optional(instance_of((int, float))))
    p95_ms: float | None = field(validator=optional(instance_of((int, float))))
    scrub: ScrubStatus | None = None
    id: str | None = field(default=None, validator=optional(instance_of(str)))
    name: str = field(
        default=Factory(lambda self: self.url, takes_self=True), validator=instance_of(str)
    )


#: The status of a server, or the error of the request for it.
Answer = StoreStatus | SOSError


async def ask(groups: Groups, seconds: float, clock: Any) -> dict[str, Answer]:
    """Ask all members of *groups* at once for their status; return the answers by name.

    :param seconds: the timeout for each of them.
    """
    members = [member for each in groups.values() for member in each]
    answers = await together(_ask(member, seconds, clock) for member in members)
    return {member.name: answer for member, answer in zip(members, answers, strict=True)}


def twins(ids: Mapping[str, str | None]) -> list[tuple[str, ...]]:
    """Return the servers that share a store: a tuple of names for each such store.

    :param ids: the ids of the stores by server name, None if unknown.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(ids):
        if (id := ids[name]) is not None:
            found.setdefault(id, []).append(name)
    return [tuple(names) for names in found.values() if len(names) > 1]


def described_twins(names: Sequence[str]) -> str:
    """Describe the problem that servers share a store, and its solution."""
    return (
        f"{' and '.join(names)} are the same store: their copies count as one, and no copy is "
        "dropped; list the store once"
    )


def ids_of(answers: Mapping[str, Answer]) -> dict[str, str | None]:
    """Return the ids of the stores in *answers*, by the same names; None if unknown."""
    return {
        name: answer.id if isinstance(answer, StoreStatus) else None
        for name, answer in answers.items()
    }


async def _ask(member: Member, seconds: float, clock: Any) -> Answer:
    try:
        return await ensureDeferred(member.store.status()).addTimeout(seconds, clock)
    except TimeoutError:
        return Unavailable(f"{member.store.name} did not answer in {seconds:g} s")
    except SOSError as error:
        return error


def health_of(
    url: str,
    record: HealthRecord,
    answer: Answer,
    readonly: bool = False,
    preferred: bool = False,
    weight: float = 1.0,
) -> ServerHealth:
    """Return the health of a server, from its health record and its latest answer."""
    status = StoreStatus(writable=True)
    if isinstance(answer, StoreStatus):
        status = answer
    refusal = record.refusal or status.refusal
    state, reason = UP, None
    if record.failure is not None:
        state, reason = LEFT_ALONE, record.failure
    elif isinstance(answer, SOSError):
        state, reason = UNREACHABLE, str(answer)
    elif refusal is not None and not readonly:
        state, reason = TAKES_NO_BLOBS, refusal
    last_error, last_error_ago = record.last_error or (None, None)
    return ServerHealth(
        url=url,
        state=state,
        reason=reason,
        asked_again=None if state == UP else rounded(record.asked_again),
        readonly=readonly,
        preferred=preferred,
        weight=weight,
        blobs=status.blobs,
        size=status.size,
        capacity=status.capacity,
        free=status.free,
        requests=record.requests,
        errors=record.errors,
        last_error=last_error,
        last_error_ago=rounded(last_error_ago),
        p50_ms=rounded(percentile(record.latencies, 0.5), 1000),
        p95_ms=rounded(percentile(record.latencies, 0.95), 1000),
        scrub=status.scrub,
        id=status.id,
    )


def rounded(seconds: float | None, unit: int = 1) -> float | None:
    """Return *seconds* times *unit*, rounded to three digits: milliseconds if it is 1000."""
    return None if seconds is None else round(seconds * unit, 3)


def health_by_group(
    groups: Groups, records: Mapping[str, HealthRecord], answers: Mapping[str, Answer]
) -> dict[str, list[ServerHealth]]:
    """Return the health of the servers by group; *records* and *answers* are by name."""

    def of(member: Member) -> ServerHealth:
        name = member.name
        marks = member.readonly, member.preferred, member.weight
        health = health_of(member.store.name, records[name], answers[name], *marks)
        return evolve(health, name=name)

    return {group: [of(member) for member in members] for group, members in groups.items()}


def parse_health(groups: Any) -> dict[str, list[ServerHealth]]:
    """Parse server health from JSON, without unknown members and the scrub; raises Unavailable."""
    known = [each for each in attrs.fields(ServerHealth) if each.name != "scrub"]
    needed = [each.name for each in known if each.default is NOTHING]
    names = [each.name for each in known if each.default is not NOTHING]  # new: older lack them
    try:
        return {
            group: [
                ServerHealth(
                    **{name: server[name] for name in needed},
                    **{name: server[name] for name in names if name in server},
                )
                for server in servers
            ]
            for group, servers in groups.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"the server health is malformed: {error.args[0]}") from error
