"""The client side of HTTP/1.1: an agent that pools connections."""
