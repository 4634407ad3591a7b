"""Sphinx's settings: ``sphinx-build docs site``."""

from pathlib import Path

from sos import __version__
from sos.model.config import SETTINGS

project = "SOS"
author = "the authors of SOS"
release = version = __version__
extensions = ["sphinx.ext.autosectionlabel"]
html_theme = "furo"
html_title = f"SOS {version}"
exclude_patterns = ["site"]


def _settings() -> str:
    """Return a table of all settings, which ``reference/configuration`` includes."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - Setting",
        "     - Meaning",
        "     - Default",
    ]
    for name, setting in SETTINGS.items():
        lines += [f"   * - ``{name}``", f"     - {setting.text.replace('*', chr(92) + '*')}"]
        lines += [f"     - {setting.shown or 'none'}"]
    return "\n".join(lines) + "\n"


(Path(__file__).parent / "reference" / "settings.inc").write_text(_settings())
