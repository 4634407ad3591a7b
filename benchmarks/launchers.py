"""What can keep blobs, and how each of it is started for a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from attrs import field, frozen

from benchmarks.processes import Process


@frozen
class Launched:
    """An engine that runs.

    :param place: the text of ``--store``.
    :param processes: those that all of its processes come from, if it has any.
    :param environment: what its clients need in theirs.
    """

    place: str
    processes: tuple[Process, ...] = ()
    environment: Mapping[str, str] = field(factory=dict)


#: Starts an engine that may use a directory, and stops it at the end; raises
#: ImportError or OSError when that cannot be on this machine.
Launcher = Callable[[Path], AbstractContextManager[Launched]]


@contextmanager
def _directory(directory: Path) -> Iterator[Launched]:
    yield Launched(str(directory / "store"))


@contextmanager
def _memory(directory: Path) -> Iterator[Launched]:
    yield Launched("memory:")


@contextmanager
def _redis(directory: Path) -> Iterator[Launched]:
    from tests.support.engines.redis import started

    with started(directory / "redis") as engine:
        yield Launched(engine.url, (Process("redis", engine.pid),))


@contextmanager
def _postgresql(directory: Path) -> Iterator[Launched]:
    from tests.support.engines.postgres import PostgresEngine

    engine = PostgresEngine()
    engine.start()
    assert engine.process is not None
    try:
        yield Launched(engine.url, (Process("postgresql", engine.process.pid),))
    finally:
        engine.remove()


@contextmanager
def _s3(directory: Path) -> Iterator[Launched]:
    from tests.support.engines.swift import Swift

    swift = Swift(directory)
    swift.start()
    try:
        servers = tuple(Process(name, pid) for name, pid in swift.pids.items())
        yield Launched(swift.url("benchmark"), servers, swift.environment)
    finally:
        swift.stop()


#: By the names that they have in the tables, in which they come in this order.
LAUNCHERS: dict[str, Launcher] = {
    "directory": _directory,
    "memory": _memory,
    "redis": _redis,
    "postgresql": _postgresql,
    "s3": _s3,
}
