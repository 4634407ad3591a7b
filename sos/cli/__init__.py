"""The ``sos`` command."""

from __future__ import annotations

import click

from sos import __version__
from sos.cli.program import Commands, Program

_COMMANDS = Commands(
    {
        "backup": "sos.cli.backup:backup",
        "balance": "sos.cli.balance:balance",
        "check": "sos.cli.check:check",
        "compact": "sos.cli.compact:compact",
        "completion": "sos.cli.completion:completion",
        "demo": "sos.cli.demo:demo",
        "drain": "sos.cli.drain:drain",
        "gc": "sos.cli.collect:gc",
        "get": "sos.cli.objects:get",
        "import": "sos.cli.importing:import_",
        "init": "sos.cli.init:init",
        "put": "sos.cli.put:put",
        "rebuild": "sos.cli.rebuild:rebuild",
        "replicate": "sos.cli.replicate:replicate",
        "rm": "sos.cli.remove:rm",
        "scrub": "sos.cli.scrub:scrub",
        "secret": "sos.cli.secret:secret",
        "sign": "sos.cli.sign:sign",
        "stat": "sos.cli.objects:stat",
        "status": "sos.cli.status:status",
        "token": "sos.cli.token:token",
    }
)


@click.group(
    "sos",
    cls=Program,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="sos")
def main() -> None:
    """Upload files to SOS, download them, and administer its servers."""
