"""``sos completion``: what makes a shell complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: The type of an argument that is the name of a file, for shells to complete; what is
#: wrong with the file shows when it is used.
FILE = click.Path(readable=False)

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the program that completes the words of sos in a SHELL.

    Let the shell read it when it starts. Ends with 1 when it cannot be printed. Examples,
    for ~/.bashrc, for ~/.zshrc (behind compinit), and for fish:

    \b
        eval "$(sos completion bash)"
        eval "$(sos completion zsh)"
        sos completion fish > ~/.config/fish/completions/sos.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # for the choices are click's own
    click.echo(kind(context.find_root().command, {}, "sos", "_SOS_COMPLETE").source())
