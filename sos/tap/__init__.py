"""The daemons: what ``twistd sos-blob`` and ``twistd sos-api`` are made of."""
