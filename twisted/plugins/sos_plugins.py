"""Tells twistd of the daemons."""

from twisted.application.service import ServiceMaker

sos_blob = ServiceMaker(
    "SOS blob server", "sos.tap.blob", "SOS: store blobs in a directory, serve them.", "sos-blob"
)
sos_api = ServiceMaker(
    "SOS API server", "sos.tap.api", "SOS: take uploads, serve fetches.", "sos-api"
)
