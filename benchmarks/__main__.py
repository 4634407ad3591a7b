"""The command line of the benchmarks."""

from __future__ import annotations

import click

from benchmarks.api import api
from benchmarks.engines import engines
from benchmarks.http import http
from benchmarks.peers import peers
from benchmarks.replicate import replicate
from benchmarks.scale import scale
from benchmarks.store import store


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure SOS on this machine."""


main.add_command(api)
main.add_command(engines)
main.add_command(http)
main.add_command(peers)
main.add_command(replicate)
main.add_command(scale)
main.add_command(store)
main()
