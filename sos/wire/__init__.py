"""HTTP/1.1 on the wire: the server's channel and the client's agent."""
