"""HTTP faces on a store: Klein's routes, and what they have in common."""
