"""Daemons that speak TLS, and ask for certificates: real processes."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl

import pytest

from sos.auth.request_signing import make_secret
from tests.support.blobs import body_of, content_id
from tests.support.certificates import Authority
from tests.support.http import ask, fetch
from tests.support.ports import free_ports

LARGE = body_of(20 * 1024 * 1024)
CLIENT = "--tls-ca ca.pem --tls-client-certificate client.pem --tls-client-key client.key"
SERVER = "--tls-certificate server.pem --tls-key server.key --tls-client-ca ca.pem"


@pytest.fixture
def certificates(place):
    """Of one authority, and of another."""
    ours, others = Authority(place.directory, "ca"), Authority(place.directory, "other-ca")
    ours.issue("server")
    ours.issue("client")
    ours.issue("elsewhere", "10.0.0.1")
    ours.issue("expired", days=-1)
    others.issue("stranger")
    (place.directory / "secret").write_text(make_secret())
    (place.directory / "secret").chmod(0o600)


class Cluster:
    """Blob servers and an API server that know each other by certificates."""

    def __init__(self, place, api=CLIENT, blob=SERVER):
        self.place = place
        self.ports = free_ports(4)
        urls = [f"https://127.0.0.1:{port}" for port in self.ports[:2]]
        self.blob_servers = ",".join(urls)
        self.blobs = [
            place.twistd(
                f"sos-blob --port {port} --store data{port} --secret-file secret {blob}",
                port,
            )
            for port in self.ports[:2]
        ]
        up, down = self.ports[2:]
        self.up, self.down = f"https://127.0.0.1:{up}", f"https://127.0.0.1:{down}"
        self.api = place.twistd(
            f"sos-api --blob-server {self.blob_servers} --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --min-copies 1 --replicate-every 0 --secret-file secret "
            f"--tls-certificate server.pem --tls-key server.key {api}",
            up,
            down,
        )

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=self.place.directory / "ca.pem")
        if certificate is not None:
            path = self.place.directory / certificate
            context.load_cert_chain(path.with_suffix(".pem"), path.with_suffix(".key"))
        return context

    def upload(self, body):
        return ask(f"{self.up}/upload", body, context=self.context()).json["id"]

    def fetch(self, id):
        return fetch(f"{self.down}/fetch/{id}", context=self.context())

    def asks(self, certificate):
        """Tell what a blob server answers who has this certificate, or none."""
        context = self.context(certificate)
        with (
            contextlib.suppress(OSError),  # by which TLS says no
            socket.create_connection(("127.0.0.1", self.ports[0]), 60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(b"GET /alive HTTP/1.0\r\n\r\n")
            return client.makefile("rb").read()
        return b""


def test_a_cluster_that_speaks_tls(place, certificates):
    """Uploads and fetches of all sizes, replication, status; with certificates on both sides."""
    cluster = Cluster(place)
    for body in (b"", b"small", LARGE):
        id = cluster.upload(body)
        assert cluster.fetch(id) == body
    listed = f"--blob-server {cluster.blob_servers} --secret-file secret {CLIENT}"
    done = place.sos(f"replicate --verbose {listed}")
    assert done.returncode == 0, done.stderr
    assert b"0 failed" in done.stdout
    done = place.sos(f"status {listed}")
    assert done.returncode == 0, done.stdout
    done = place.sos(f"get {content_id(LARGE)} --from {cluster.down} --tls-ca ca.pem -o copy")
    assert done.returncode == 0, done.stderr
    assert (place.directory / "copy").read_bytes() == LARGE
    assert "Traceback" not in cluster.api.log + cluster.blobs[0].log


def test_a_blob_server_wants_a_certificate_of_its_authority(place, certificates):
    """Without one, or with one of another authority, nothing is answered."""
    cluster = Cluster(place)
    assert cluster.asks("client").endswith(b"alive")
    for certificate in (None, "stranger", "expired"):
        assert not cluster.asks(certificate)
    listed = f"--blob-server {cluster.blob_servers} --secret-file secret --tls-ca ca.pem"
    assert place.sos(f"status {listed}").returncode == 1


@pytest.mark.parametrize("certificate", ["stranger", "elsewhere", "expired"])
def test_a_blob_server_with_a_wrong_certificate_is_not_spoken_to(place, certificates, certificate):
    """Of another authority, for another address, or of yesterday."""
    blob = f"--tls-certificate {certificate}.pem --tls-key {certificate}.key"
    port = free_ports(1)[0]
    place.twistd(f"sos-blob --port {port} --store data {blob}", port)
    done = place.sos(f"status --blob-server https://127.0.0.1:{port} {CLIENT}")
    assert done.returncode == 1
    assert re.search(b"unreachable: .* cannot be reached: .*certificate", done.stdout)


def test_tls_of_old_is_not_spoken(place, certificates):
    """1.2 is the least."""
    cluster = Cluster(place, blob="--tls-certificate server.pem --tls-key server.key")
    with socket.create_connection(("127.0.0.1", cluster.ports[0]), 60) as plain:
        context = cluster.context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"alert|protocol|reset|EOF"):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
    assert cluster.asks(None).endswith(b"alive")
