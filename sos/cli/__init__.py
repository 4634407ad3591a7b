"""The ``sos`` command."""

from __future__ import annotations

import click

from sos import __version__
from sos.cli.balance import balance
from sos.cli.completion import completion
from sos.cli.demo import demo
from sos.cli.drain import drain
from sos.cli.importing import import_
from sos.cli.objects import get, stat
from sos.cli.program import Program
from sos.cli.put import put
from sos.cli.replicate import replicate
from sos.cli.scrub import scrub
from sos.cli.secret import secret
from sos.cli.sign import sign
from sos.cli.status import status
from sos.cli.token import token


@click.group("sos", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sos")
def main() -> None:
    """Store files in SOS, fetch them back, and look after the servers."""


for command in (
    put,
    get,
    stat,
    status,
    replicate,
    balance,
    drain,
    scrub,
    secret,
    token,
    sign,
    import_,
    demo,
    completion,
):
    main.add_command(command)
