"""``diart-mp completion``: the script that makes a shell complete commands and options."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(diart-mp completion bash)"."""
    from click.shell_completion import get_completion_class

    from diart_mp.cli.main import group

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(group, {}, "diart-mp", "_DIART_MP_COMPLETE").source())
