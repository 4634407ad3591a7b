"""What the benchmarks make of what they have measured."""

from __future__ import annotations

import os

import click
import pytest
from pytest_twisted import ensureDeferred

from benchmarks import engines, replicate, wrk
from benchmarks.exercise import exercise, quantile
from benchmarks.launchers import LAUNCHERS
from benchmarks.processes import Process
from benchmarks.rows import YARDSTICK, Round, Rounds, Row, summary
from benchmarks.servers import Service
from sos.stores.memory import MemoryStore

CLEAN = """\
Running 1s test @ http://127.0.0.1:18999/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.37ms    3.55ms  26.79ms   79.31%
    Req/Sec   769.40    204.95     1.27k    80.00%
  Latency Distribution
     50%  812.00us
     75%    7.42ms
     90%    9.90ms
     99%   17.54ms
  770 requests in 1.00s, 391.02KB read
Requests/sec:    767.10
Transfer/sec:    389.54KB
"""

# wrk puts a blank behind a time in whole seconds.
TROUBLED = """\
Running 5s test @ http://127.0.0.1:18991/
  1 threads and 128 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   285.74ms  410.37ms   1.31s    79.85%
    Req/Sec     8.89k     8.49k   23.90k    71.43%
  Latency Distribution
     50%    1.95ms
     75%  560.82ms
     90%    1.01s\x20
     99%    1.28s\x20
  24328 requests in 5.02s, 0.93MB read
  Socket errors: connect 0, read 7, write 0, timeout 3
  Non-2xx or 3xx responses: 475
Requests/sec:   4845.22
Transfer/sec:    189.27KB
"""


def rounds(name: str, *rates: float) -> Rounds:
    service = Service("POST", "http://a/blob/", True, "http://a/blob/")
    outcomes = [wrk.Outcome(int(rate), rate, 0.001, 0.002, 1, 2) for rate in rates]
    return Rounds(
        Row(name, service, "http://a/blob/1"),
        [Round(each, 2.0, {"a": int(each.rate)}) for each in outcomes],
    )


def test_a_round_without_errors_is_read():
    """Times are in seconds, whatever unit wrk has chosen; what it does not print is none."""
    assert wrk.parse(CLEAN) == wrk.Outcome(
        requests=770, rate=767.1, p50=0.000812, p99=0.01754, refused=0, socket_errors=0
    )


def test_errors_of_a_round_are_counted():
    """Answers that refuse, and connections that broke or timed out."""
    assert wrk.parse(TROUBLED) == wrk.Outcome(
        requests=24328, rate=4845.22, p50=0.00195, p99=1.28, refused=475, socket_errors=10
    )


def test_output_without_figures_is_an_error():
    """It is shown, not taken for a rate of nothing."""
    with pytest.raises(click.ClickException, match="cannot open"):
        wrk.parse("wrk: cannot open it\n")


def test_a_ratio_is_between_the_medians_of_one_run():
    """One bad round, of nginx or of ours, does not change it."""
    yardstick = rounds(YARDSTICK, 50_000, 1_000, 50_000)
    measured = rounds("blob server POST", 12_500, 10_000, 400, 12_500, 12_500)
    figures = summary([yardstick, measured], 128)
    assert [each["ratio"] for each in figures] == [1.0, 0.25]
    assert figures[1]["target"] == 0.20
    assert figures[1]["requests_per_second"] == 12_500


def test_cpu_is_by_request_and_the_peak_over_all_rounds():
    """Errors are summed, so that a bad round cannot hide behind the good ones."""
    figures = summary([rounds(YARDSTICK, 3_000, 1_000)], 32)[0]
    assert figures["cpu_seconds_per_request"] == 4.0 / 4_000
    assert figures["peak_bytes"] == {"a": 3_000}
    assert (figures["refused"], figures["socket_errors"]) == (2, 4)


def test_each_round_of_uploads_is_of_other_bodies():
    """What a server has already would cost it less."""
    api = Service("POST", "http://a/upload", False, "http://a/fetch/")
    row = Row("API upload", api, api.upload, uploads=True)
    first, second = row.load(), row.load()
    assert first.body != second.body
    assert wrk.MARK in first.body
    assert len(first.body) == 1024


def test_a_head_for_each_object_is_reckoned_from_some_of_them():
    """The listing is of all; the first pass, which knows nothing, is told apart."""
    heads = {"1": 2.0, "16": 0.5}
    found = replicate.figures([0.5, 0.25, 8.0], listing=1.0, heads=heads, asked=100, size=1000)
    assert (found["first_seconds"], found["median_seconds"]) == (0.5, 4.125)
    assert found["heads_seconds"] == {"1": 21.0, "16": 6.0}
    assert found["ratios"] == {"1": 21.0 / 4.125, "16": 6.0 / 4.125}


@ensureDeferred
async def test_a_store_is_put_to_and_got_from():
    """Each size, with each number at once; what is got is what was put."""
    store = MemoryStore()
    steps = await exercise(store, (100, 70_000), (1, 4), 0.001)
    rows = [(each["size"], each["direction"], each["at_once"]) for each in steps]
    assert rows == [
        (size, direction, at_once)
        for size in (100, 70_000)
        for direction in ("put", "get")
        for at_once in (1, 4)
    ]
    assert all(0 < each["p50_seconds"] <= each["p99_seconds"] for each in steps)
    assert all(each["per_second"] > 0 for each in steps)
    sizes = {len(stored.body) for stored in store.blobs.values()}
    assert sizes == {100, 70_000}


def test_a_quantile_is_one_of_the_values():
    """Of a hundred the 99th from the first, of one that one."""
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0
    assert quantile([float(n) for n in range(100)], 0.5) == 50.0
    assert quantile([7.0], 0.99) == 7.0


def test_engines_are_shown_side_by_side(capsys):
    """A table for each size and number at once, and one of memory; none has no processes."""
    figures = {"per_second": 1234.4, "p50_seconds": 0.001, "p99_seconds": 0.0025}
    steps = [
        {"direction": direction, "size": size, "at_once": at_once, **figures}
        for direction in ("put", "get")
        for size in engines.SIZES
        for at_once in engines.CONCURRENCIES
    ]
    measured = {"steps": steps, "client_peak_bytes": 3 << 20}
    engines.show(
        {
            "syncs": 1000,
            "engines": {
                "memory": {**measured, "engine_bytes": None},
                "redis": {**measured, "engine_bytes": 5 << 20},
            },
        }
    )
    shown = capsys.readouterr().out
    assert shown.count("1,234") == 2 * len(steps)
    assert "Blobs of 1 MiB, 32 at once" in shown
    memory = [line.split("│") for line in shown.splitlines() if "redis" in line][-1]
    assert [cell.strip() for cell in memory[1:4]] == ["redis", "5", "3"]


def test_memory_is_that_of_all_processes():
    """This one has some."""
    assert engines.resident(Process("this", os.getpid())) > 1 << 20


@pytest.mark.parametrize("name", LAUNCHERS)
def test_an_engine_is_started_exercised_and_stopped(name, tmp_path, monkeypatch):
    """Each of the table, in a process of its own."""
    monkeypatch.setattr(engines, "SIZES", (1000,))
    monkeypatch.setattr(engines, "CONCURRENCIES", (2,))
    measured = engines.measure(name, tmp_path, 0.1)
    assert [each["direction"] for each in measured["steps"]] == ["put", "get"]
    assert measured["client_peak_bytes"] > 1 << 20
    assert (measured["engine_bytes"] is None) == (name in ("directory", "memory"))
