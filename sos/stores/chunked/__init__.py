"""A store that cuts large objects into chunks."""
