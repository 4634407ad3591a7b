"""Tests that need many processes, root, or programs of Debian: run by ``--system``."""
