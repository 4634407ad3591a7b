"""Sphinx's settings: ``sphinx-build docs site``."""

from sos import __version__

project = "SOS"
author = "the authors of SOS"
release = version = __version__
extensions = ["sphinx.ext.autosectionlabel"]
html_theme = "furo"
html_title = f"SOS {version}"
exclude_patterns = ["site"]
