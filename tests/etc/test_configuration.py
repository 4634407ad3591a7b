"""The example of a sos.conf."""

from __future__ import annotations

import re

import pytest

from sos.model import conf_parser
from sos.model.conf_parser import Config
from sos.model.settings import SETTINGS
from tests.support.processes import ROOT

TEXT = (ROOT / "etc/sos.conf").read_text()
#: What is commented out: it stands three spaces behind the comment's mark.
EXAMPLE = "\n".join(re.findall(r"^#   (\S.*)$", TEXT, re.MULTILINE))


def test_as_it_stands_it_says_nothing():
    """It can be installed, and changed later."""
    assert conf_parser.parse(TEXT, "sos.conf") == Config()


def test_what_is_commented_out_is_right():
    """All servers and settings are understood, and no setting is missing."""
    found = conf_parser.parse(EXAMPLE, "sos.conf")
    assert set(found.settings) == set(SETTINGS)
    assert len(found.groups) == 4
    marks = [server for servers in found.groups.values() for server in servers]
    assert any(server.readonly for server in marks)
    assert any(server.preferred for server in marks)
    assert any(server.weight != 1 for server in marks)


@pytest.mark.parametrize(
    "name", [name for name, each in SETTINGS.items() if each.shown is not None]
)
def test_settings_that_have_a_default_tell_it(name):
    """Nothing changes when such a line is no comment any more."""
    assert conf_parser.parse(EXAMPLE, "sos.conf").settings[name] == SETTINGS[name].default
