"""``sos secret``: make a key that API servers and blob servers share."""

from __future__ import annotations

import click

from sos.auth.request_signing import make_secret


@click.command()
def secret() -> None:
    """Print a new secret key: a line for a secret file.

    All servers of a cluster, and all users who run commands on it, need the same file; nobody
    else may be able to read it. Ends with status 0. Examples, the second to add a key
    that will replace the first:

    \b
        (umask 077; sos secret > /etc/sos.secret)
        sos secret >> /etc/sos.secret
    """
    click.echo(make_secret())
