"""What is counted and reported: request metrics, server health, Prometheus."""
