"""HTTP/1.1: the server, the client's agent, and TLS for both."""
