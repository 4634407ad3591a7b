"""The pure core: ids, digests, metadata, manifests, placement, plans.  No I/O, no Twisted."""
