"""A store that is a blob server somewhere else."""
