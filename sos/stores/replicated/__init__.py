"""A store over several others, each blob on some of them."""
