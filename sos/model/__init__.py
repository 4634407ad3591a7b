"""The pure core: ids, digests, metadata, manifests, placement, settings.  No I/O, no Twisted."""
