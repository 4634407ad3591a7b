"""What real daemons tell those who look after them: metrics, logs, alerts."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import ROOT
from tests.support.waiting import eventually, wait_until


class Cluster:
    """Two blob servers with admin ports, and an API server before them."""

    def __init__(self, place, options="", blob_options=""):
        ports = free_ports(7)
        self.place = place
        self.blobs, self.blob_admins = [], ports[2:4]
        for port, admin in zip(ports[:2], self.blob_admins, strict=True):
            command = f"sos-blob --port {port} --store data{port} --admin-port {admin}"
            self.blobs.append(place.twistd(f"{command} {blob_options}", port, admin))
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
        up, down, self.admin = ports[4:]
        self.up, self.down = f"http://127.0.0.1:{up}", f"http://127.0.0.1:{down}"
        self.api = place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--admin-port {self.admin} --blob-server {','.join(self.urls)} --write-copies 2 "
            f"--replicate-every 1 {options}",
            *ports[4:],
        )

    def put(self, seed):
        body = body_of(1000, seed)
        assert wait_until(lambda: ask(f"{self.up}/upload", body).status == 200)
        return content_id(body)


def samples(port):
    text = fetch(f"http://127.0.0.1:{port}/metrics").decode()
    return [each for family in text_string_to_metric_families(text) for each in family.samples]


def total(port, name, **labels):
    """Return the sum of what a metric tells, as a query for it would."""
    return sum(
        each.value
        for each in samples(port)
        if each.name == name and labels.items() <= each.labels.items()
    )


def test_metrics_of_a_cluster(place):
    """After uploads, fetches, and the end of a server, the numbers say so."""
    cluster = Cluster(place)
    admin = cluster.admin
    ids = [cluster.put(seed) for seed in range(5)]
    for id in ids:
        fetch(f"{cluster.down}/fetch/{id}.bin")
    assert ask(f"{cluster.down}/fetch/nothing").status == 404
    assert ask(f"{cluster.down}/else").status == 404
    uploads = {"route": "/upload", "method": "POST"}
    fetches = {"route": "/fetch/<name>", "method": "GET"}
    assert total(admin, "sos_requests_total", **uploads, status="200") == 5
    assert total(admin, "sos_requests_total", **fetches, status="200") == 5
    assert total(admin, "sos_requests_total", **fetches, status="404") == 1
    assert total(admin, "sos_requests_total", route="other", status="404") == 1
    assert total(admin, "sos_request_bytes_total", **uploads) >= 5000
    assert total(admin, "sos_response_bytes_total", **fetches) > 5000
    assert total(admin, "sos_request_seconds_count", **fetches) == 6
    assert total(admin, "sos_server_up") == 2
    assert wait_until(lambda: total(admin, "sos_replication_passes_total", outcome="ok") >= 1)
    assert total(admin, "sos_replication_lag_seconds") < 60
    for port in cluster.blob_admins:
        assert total(port, "sos_store_blobs") == 5
        assert total(port, "sos_store_bytes") == 5000
        assert total(port, "sos_store_writable") == 1
        assert total(port, "sos_commit_changes_sum") == 5
        assert total(port, "sos_requests_total", route="/blob/<id>", method="POST") == 5
        assert fetch(f"http://127.0.0.1:{port}/readyz") == b"ready"
        assert json.loads(fetch(f"http://127.0.0.1:{port}/status"))["blobs"] == 5
    cluster.blobs[1].stop()
    assert ask(f"{cluster.up}/upload", b"more").status == 503
    gone = {"server": cluster.urls[1]}
    assert total(admin, "sos_server_up", **gone) == 0
    assert total(admin, "sos_server_up", server=cluster.urls[0]) == 1
    assert total(admin, "sos_server_errors_total", **gone) >= 1
    assert total(admin, "sos_requests_total", **uploads, status="503") == 1
    assert wait_until(lambda: total(admin, "sos_replication_last_unlisted") == 1)
    assert total(admin, "sos_replication_passes_total", outcome="incomplete") >= 1
    routes = json.loads(fetch(f"http://127.0.0.1:{admin}/status"))["requests"]["routes"]
    (upload_metrics,) = [each for each in routes if each["route"] == "/upload"]
    assert upload_metrics["statuses"] == {"200": 5, "503": 1}
    assert 0 < upload_metrics["p50_ms"] <= upload_metrics["p99_ms"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_is_known_by_its_name_everywhere(place):
    """In the answer, in the log of the API server, and in those of the servers behind it."""
    json_log = "--access-log-format json --access-log"
    cluster = Cluster(place, f"{json_log} api", f"{json_log} blobs")
    id = cluster.put(0)
    fetch(
        f"{cluster.down}/fetch/{id}.txt?signature=hidden", headers={"X-Request-Id": "mine"}.items()
    )
    api, blobs = place.directory / "api", place.directory / "blobs"
    upload, fetched = eventually(lambda: lines(api), lambda found: len(found) == 2)
    assert (fetched["request_id"], fetched["id"], fetched["status"]) == ("mine", id, 200)
    assert (fetched["route"], fetched["bytes"], fetched["peer"]) == (
        "/fetch/<name>",
        1000,
        "127.0.0.1",
    )
    assert fetched["path"] == f"/fetch/{id}.txt?signature=***"
    assert (upload["id"], upload["bytes_in"]) == (id, 1000)

    def names():
        return [each["request_id"] for each in lines(blobs) if each["route"] == "/blob/<id>"]

    expected = sorted([upload["request_id"]] * 2 + ["mine"])
    assert eventually(names, lambda found: len(found) >= 3)
    assert sorted(names()) == expected


def test_what_the_page_uploads_and_fetches_is_told_as_well(place):
    """Counted and logged as at the ports for that; nothing else that the admin port is asked."""
    json_log = "--access-log-format json --access-log"
    cluster = Cluster(place, f"{json_log} api", f"{json_log} blobs")
    cluster.put(0)  # both servers answer
    admin = f"http://127.0.0.1:{cluster.admin}"
    body = body_of(1000, 1)
    fetch(f"{admin}/upload", body, {"X-Request-Id": "up"})
    fetch(f"{admin}/fetch/{content_id(body)}", headers={"X-Request-Id": "down"})
    fetch(f"{admin}/healthz")
    assert total(cluster.admin, "sos_requests_total", route="/upload", status="200") == 2
    assert total(cluster.admin, "sos_requests_total", route="/fetch/<name>") == 1
    assert total(cluster.admin, "sos_requests_total") == 3
    api, blobs = place.directory / "api", place.directory / "blobs"
    logged = eventually(lambda: lines(api), lambda found: len(found) == 3)
    assert [each["request_id"] for each in logged[1:]] == ["up", "down"]
    asked = eventually(
        lambda: [each["request_id"] for each in lines(blobs)], lambda found: "down" in found
    )
    assert asked.count("up") == 2


@pytest.mark.parametrize("hang_up", [True, False])
def test_an_access_log_is_rotated(place, hang_up):
    """With a signal, as logrotate sends it, or without; no line is lost, or in two halves."""
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store data --access-log log", port)
    assert wait_until(lambda: "SOS blob server" in daemon.log)
    path, old = place.directory / "log", place.directory / "log.1"
    count = 8

    def ask_for(what):
        for _ in range(count):
            assert ask(f"http://127.0.0.1:{port}/{what}").status == 404

    ask_for("before")
    assert wait_until(lambda: path.read_text().count("/before") == count)
    path.rename(old)
    if hang_up:
        daemon.process.send_signal(signal.SIGHUP)
        assert wait_until(path.exists)
        assert path.read_text() == ""
    else:
        assert wait_until(lambda: ask(f"http://127.0.0.1:{port}/x").status == 404 and path.exists())

    def moved():
        ask_for("after")
        return b"/after" in path.read_bytes()

    assert wait_until(moved)
    daemon.stop()
    whole = re.compile(
        r'127\.0\.0\.1 - - \[[^]]+\] "GET /\w+ HTTP/1\.1" 404 \d+ "-" "[^"]+" "[^"]+"'
    )
    both = (old.read_text() + path.read_text()).splitlines()
    assert all(whole.fullmatch(line) for line in both)
    assert sum("/before" in line for line in both) == count
    assert sum("/after" in line for line in both) % count == 0
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("where", ["--logfile=-", "--logfile=own.log"])
def test_a_log_of_json(place, where):
    """To wherever twistd logs, and nothing else is written."""
    ports = free_ports(3)
    place.directory.joinpath("data").mkdir()
    command = (
        f"{where} --pidfile= sos-api --api-host 127.0.0.1 --upload-port {ports[0]} "
        f"--download-port {ports[1]} --blob-server http://127.0.0.1:{ports[2]} "
        f"--replicate-every 0 --log-format json"
    )
    daemon = place.twistd(command, *ports[:2])
    request = f"http://127.0.0.1:{ports[1]}/fetch/abc"
    assert ask(request).status == 503
    daemon.stop()
    path = daemon.log_path if where.endswith("-") else place.directory / "own.log"
    entries = lines(path)
    assert {"time", "level", "logger", "text"} <= set.intersection(*map(set, entries))
    (failed,) = [each for each in entries if each["logger"] == "sos.web.errors"]
    assert failed["level"] == "warn"
    assert failed["text"].startswith("request failed: GET /fetch/abc reason=cannot find")
    assert failed["request_id"] in failed["text"]
    assert any(each["text"].startswith("SOS API server") for each in entries)


# What is asked for beside what /metrics has: by Prometheus itself, for each target.
_OF_TARGETS = {"job", "instance"}
_SELECTED = re.compile(r"\b((?:sos|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def dashboard_queries():
    dashboard = json.loads((ROOT / "etc/grafana/sos.json").read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    shown = [
        target["legendFormat"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    return queries, shown


def alert_queries():
    text = (ROOT / "etc/prometheus/sos-alerts.yml").read_text()
    return re.findall(r"expr: (?:>-\n)?((?:.+\n)(?: {10}.+\n)*)", text)


@pytest.mark.system
def test_what_is_drawn_and_alerted_of_is_told(place):
    """Each metric of the dashboard and the alerts is there, has the labels, and these values."""
    cluster = Cluster(place)
    id = cluster.put(0)
    fetch(f"{cluster.down}/fetch/{id}")
    assert wait_until(lambda: total(cluster.admin, "sos_replication_passes_total") >= 1)
    cluster.blobs[1].stop()
    assert ask(f"{cluster.up}/upload", b"more").status == 503
    found: dict[str, list[dict[str, str]]] = {}
    for port in (cluster.admin, cluster.blob_admins[0]):
        for each in samples(port):
            found.setdefault(each.name, []).append(each.labels)
    drawn, shown = dashboard_queries()
    alerts = alert_queries()
    assert (len(alerts), len(drawn) > 30) == (15, True)
    used = set()
    for query in [*drawn, *alerts]:
        labels_there = set(_OF_TARGETS)
        for name, selected in _SELECTED.findall(query):
            assert name in found, f"{name} is not told: {query}"
            used.add(name)
            there = found[name]
            labels_there |= there[0].keys()
            for label, operator, value in _MATCHER.findall(selected):
                if label in _OF_TARGETS:
                    continue
                assert label in there[0], f"{name} has no label {label}"
                pattern = value if "~" in operator else re.escape(value)
                values = {labels[label] for labels in there}
                assert any(re.fullmatch(pattern, each) for each in values), (query, values)
        for group in _GROUPED.findall(query):
            assert {each.strip() for each in group.split(",")} <= labels_there, query
    for legend, query in zip(shown, drawn, strict=True):
        for label in re.findall(r"{{(\w+)}}", legend):
            assert label in query or label in _OF_TARGETS | {"outcome"}, (legend, query)
    assert {"sos_server_up", "sos_store_writable", "sos_replication_lag_seconds"} <= used


def test_a_blob_server_has_no_admin_port_unless_asked_for(place):
    """Its own port tells its status as ever, and no metrics; an endpoint will do as well."""
    (port,) = free_ports(1)
    path = place.directory / "admin"
    place.twistd(f"sos-blob --port {port} --store data --listen-admin unix:{path}", port)
    assert wait_until(path.exists)
    assert ask(f"http://127.0.0.1:{port}/metrics").status == 404
    assert json.loads(fetch(f"http://127.0.0.1:{port}/status"))["writable"]
    assert os.path.exists(path)
