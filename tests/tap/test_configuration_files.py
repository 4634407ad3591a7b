"""Files of a daemon's configuration, and what can be in their place."""

from __future__ import annotations

import os

import pytest

from sos.errors import ConfigError
from sos.tap.cluster import load


def test_a_pipe_is_not_waited_for(tmp_path):
    """A daemon that reads it again at SIGHUP would hang; /dev/null is an empty file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ConfigError, match="it is a pipe, not a regular file"):
            load(str(tmp_path / name), None)
    (tmp_path / "other").symlink_to("/dev/null")
    assert load(str(tmp_path / "other"), None).groups == {}
