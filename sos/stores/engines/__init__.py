"""Stores that keep their blobs in a database or an object store.

Each kind is a package with a function ``make(url, algorithm, reactor)`` and a line in
``twisted/plugins/sos_stores.py``; see :mod:`sos.stores.factories` for how to add one.
"""
