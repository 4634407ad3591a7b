"""Sphinx's settings: ``sphinx-build docs site``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "_ext"))

import manual

from sos import __version__

project = "SOS"
author = "the authors of SOS"
release = version = __version__
extensions = ["manual", "sphinx.ext.autosectionlabel"]
exclude_patterns = ["site"]

html_theme = "furo"
html_title = f"SOS {version}"

man_pages = manual.man_pages()
man_make_section_directory = False
# The pages are committed, so they have no date.
today = " "
# Their sections have the same titles on every page.
suppress_warnings = [f"autosectionlabel.{page[0]}" for page in man_pages]
