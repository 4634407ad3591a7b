"""The daemons ``twistd sos-blob`` and ``twistd sos-api``."""
