"""Register the daemons with twistd."""

from twisted.application.service import ServiceMaker

sos_blob = ServiceMaker(
    "SOS blob server", "sos.tap.blob", "SOS: store blobs and serve them over HTTP.", "sos-blob"
)
sos_api = ServiceMaker(
    "SOS API server", "sos.tap.api", "SOS: accept uploads and serve downloads.", "sos-api"
)
