"""Where blobs are kept: one module a kind of store."""
