"""``sos secret``: a key for API servers and blob servers to share."""

from __future__ import annotations

import click

from sos.auth.request_signing import make_secret


@click.command()
def secret() -> None:
    """Print a new key, a line for a secret file.

    All servers of a cluster, and those who run its commands, have the same file; none
    but them may read it. Ends with 0. Examples, the second to add a key that is to take
    the place of the first:

    \b
        (umask 077; sos secret > /etc/sos.secret)
        sos secret >> /etc/sos.secret
    """
    click.echo(make_secret())
