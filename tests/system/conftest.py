"""What is only run with an option."""

from __future__ import annotations


def pytest_ignore_collect(collection_path, config):
    """Leave out what needs a checkout of another release, unless there is one."""
    if collection_path.name == "test_other_release.py" and not config.getoption("--other-release"):
        return True
    return None
