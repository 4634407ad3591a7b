"""HTTP interfaces of a store: Klein's routes, and their common parts."""
