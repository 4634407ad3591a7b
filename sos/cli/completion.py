"""``sos completion``: print a completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: The type of an argument that names a file, for shells to complete.  Errors of the file
#: appear when the command uses it.
FILE = click.Path(readable=False)

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of sos for SHELL.

    Have the shell load it when it starts. Ends with status 1 if it cannot print the
    script. Examples, for ~/.bashrc, for ~/.zshrc (after compinit), and for fish:

    \b
        eval "$(sos completion bash)"
        eval "$(sos completion zsh)"
        sos completion fish > ~/.config/fish/completions/sos.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click supports all of these shells
    click.echo(kind(context.find_root().command, {}, "sos", "_SOS_COMPLETE").source())
