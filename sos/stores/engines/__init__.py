"""Stores that a database or an object store keeps."""
