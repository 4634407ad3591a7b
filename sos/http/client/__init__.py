"""The client side of HTTP/1.1: an agent with connection pools."""
