"""SOS, the Simple Object Storage: keep files by the hash of their content."""

__version__ = "0.2.0"
