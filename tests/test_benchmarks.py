"""What the benchmarks make of what they have measured."""

from __future__ import annotations

import click
import pytest

from benchmarks import replicate, wrk
from benchmarks.rows import YARDSTICK, Round, Rounds, Row, summary
from benchmarks.servers import Service

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
    assert figures[1]["target"] == 0.25
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
