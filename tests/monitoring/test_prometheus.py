"""What Prometheus is told, by what a daemon tells."""

from __future__ import annotations

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sos.interfaces import StoreStatus
from sos.monitoring import prometheus
from sos.monitoring.commit_metrics import Commits
from sos.monitoring.request_metrics import RequestMetrics
from sos.monitoring.server_health import LEFT_ALONE, UP, HealthRecord, health_of
from sos.scrub import Report


def request_metrics(*statuses):
    counted = RequestMetrics()
    for status in statuses:
        counted.count("/upload", b"POST", status, 0.003, 10, 80)
    return counted.document()


def document(**parts):
    return {"version": "1.2", **parts}


def exposed(document, requests=None, commits=None):
    """Return the value of each sample by its name and labels."""
    text = prometheus.text(document, requests or request_metrics(), commits).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_and_the_process():
    """By route, method and status; and what the system says of the process."""
    found = exposed(document(), request_metrics(200, 200, 503))
    labels = ("method", "POST"), ("route", "/upload")
    assert found["sos_requests_total", *labels, ("status", "200")] == 2
    assert found["sos_requests_total", *labels, ("status", "503")] == 1
    assert found["sos_request_bytes_total", *labels] == 30
    assert found["sos_response_bytes_total", *labels] == 240
    assert found["sos_connections",] == 0
    assert found["sos_build_info", ("version", "1.2")] == 1
    assert found["process_open_fds",] > 0


def test_failed_handshakes_are_told_by_port():
    """Of no port where there were none."""
    counted = RequestMetrics()
    counted.failed_handshakes["9991"] += 2
    found = exposed(document(), counted.document())
    failed = {key: value for key, value in found.items() if "handshake" in key[0]}
    assert failed == {("sos_tls_handshake_failures_total", ("port", "9991")): 2}


def test_a_histogram_is_one_of_prometheus():
    """Each bucket has what the lower ones have, and the last one all."""
    found = exposed(document(), request_metrics(200, 200))
    buckets = {
        dict(labels)["le"]: value
        for (name, *labels), value in found.items()
        if name == "sos_request_seconds_bucket"
    }
    assert (buckets["0.001"], buckets["0.0025"]) == (0, 0)
    assert (buckets["0.005"], buckets["60.0"], buckets["+Inf"]) == (2, 2, 2)
    labels = ("method", "POST"), ("route", "/upload")
    assert found["sos_request_seconds_count", *labels] == 2
    assert found["sos_request_seconds_sum", *labels] == pytest.approx(0.006)


STORE = {
    "writable": True,
    "reason": None,
    "blobs": 7,
    "size": 700,
    "capacity": 1000,
    "free": 250,
}


def test_a_store():
    """How full it is, and whether it takes more."""
    commits = Commits()
    commits.observe(3, 0.0004)
    found = exposed(document(store=STORE, scrub=None), commits=commits.document())
    assert found["sos_store_writable",] == 1
    assert (found["sos_store_blobs",], found["sos_store_bytes",]) == (7, 700)
    assert (found["sos_store_capacity_bytes",], found["sos_store_free_bytes",]) == (1000, 250)
    assert found["sos_store_fill_ratio",] == 0.75
    assert found["sos_commit_changes_sum",] == 3
    assert found["sos_commit_seconds_count",] == 1
    assert not any(name.startswith("sos_scrub") for name, *_ in found)


def test_what_an_engine_does_not_tell_is_not_told():
    """No value is better than a wrong one."""
    unknown = {**STORE, "writable": False, "blobs": None, "capacity": None, "free": None}
    found = exposed(document(store=unknown, scrub=None))
    assert found["sos_store_writable",] == 0
    assert not {("sos_store_blobs",), ("sos_store_free_bytes",), ("sos_store_fill_ratio",)} & set(
        found
    )


@pytest.mark.parametrize(
    ("report", "progress"),
    [
        (Report(), 0),
        (Report(position="800" + 37 * "0", finished_at=5.0), 0.5),
        (Report(finished_at=5.0), 1),
    ],
)
def test_a_scrub(report, progress):
    """How far it is, which the id that it is at tells, and what it has found."""
    report.damaged, report.checked = 2, 9
    scrub = attrs.asdict(report)
    found = exposed(document(store=STORE, scrub=scrub))
    assert found["sos_scrub_progress_ratio",] == progress
    assert (found["sos_scrub_damaged",], found["sos_scrub_blobs",]) == (2, 9)
    assert found.get(("sos_scrub_last_finish_timestamp_seconds",)) == report.finished_at


def cluster(replication=None, group="default"):
    record = HealthRecord(10, 3, (0.002,), ("gone", 1.0), failure="gone", asked_again=4.0)
    status = StoreStatus(True, None, 5, 500, 1000, 400)
    groups = {
        group: [
            attrs.asdict(health_of("http://a", HealthRecord(20, 0, (0.001, 0.004)), status)),
            attrs.asdict(health_of("http://b", record, status)),
        ]
    }
    background = {"copies": 2, "bytes": 99}
    return exposed(document(groups=groups, background=background, replication=replication))


def test_a_name_breaks_no_line():
    """Whatever a group is called in sos.conf, it is one label, and there are no other lines."""
    name = 'a"} 1\\ sos_server_up{group="\\n\n'
    found = cluster(group=name)
    assert found["sos_server_up", ("group", name), ("server", "http://a")] == 1
    assert len(found) == len(cluster())


def test_servers():
    """Whether each is up, what it has failed, and when it is asked again."""
    found = cluster()
    a, b = ("server", "http://a"), ("server", "http://b")
    group = ("group", "default")
    assert (found["sos_server_up", group, a], found["sos_server_up", group, b]) == (1, 0)
    assert found["sos_server_state", group, b, ("state", LEFT_ALONE)] == 1
    assert found["sos_server_state", group, b, ("state", UP)] == 0
    assert found["sos_server_retry_seconds", group, b] == 4
    assert found["sos_server_latency_seconds", group, ("quantile", "0.95"), a] == 0.004
    assert found["sos_server_free_bytes", group, a] == 400
    assert found["sos_server_errors_total", group, b] == 3
    assert found["sos_server_requests_total", group, a] == 20
    assert (found["sos_background_copies",], found["sos_background_bytes",]) == (2, 99)


def test_replication():
    """What the last pass left undone, and all that were made."""
    summary = {
        "copied": 4,
        "planned": 9,
        "wanting": 6,
        "short": 1,
        "failed": 2,
        "disputed": 0,
        "broken": 0,
        "unlisted": ["b"],
    }
    replication = {
        "running_since": None,
        "last": {"started_at": 100.0, "seconds": 2.0, "summary": summary, "error": None},
        "lag": 77.0,
        "passes": {"ok": 5, "incomplete": 1, "failed": 0},
        "made": {"copied": 40, "bytes": 400, "failed": 2, "moved": 3},
    }
    found = cluster(replication)
    assert found["sos_replication_under_replicated",] == 3
    assert found["sos_replication_lag_seconds",] == 77
    assert found["sos_replication_passes_total", ("outcome", "incomplete")] == 1
    assert found["sos_replication_copied_total",] == 40
    assert found["sos_replication_last_unlisted",] == 1
    assert found["sos_replication_last_start_timestamp_seconds",] == 100
    replication["last"]["summary"] = None  # it failed as a whole
    assert ("sos_replication_under_replicated",) not in cluster(replication)


def test_a_process_tells_what_it_takes():
    """As other programs that Prometheus looks after do."""
    found = exposed(document())
    assert found["process_resident_memory_bytes",] > 1e6
    assert found["process_cpu_seconds_total",] > 0
    assert 0 < found["process_open_fds",] < found["process_max_fds",]
