"""The server side of HTTP/1.1: connections, parsing, limits, responses."""
