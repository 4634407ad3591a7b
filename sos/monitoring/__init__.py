"""Monitoring: request metrics, server health, export to Prometheus."""
