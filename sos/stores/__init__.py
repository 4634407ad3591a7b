"""Blob stores, one module or package for each kind."""
