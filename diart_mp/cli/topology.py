"""``diart-mp topology``: what a topology file says, checked and drawn."""

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Check and explain topology files."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE, draw the pipeline that it describes, and say what is to be started where."""
    from diart_mp.places import explain
    from diart_mp.topology import Topology

    for line in explain(Topology.read(file), str(file)):
        click.echo(line)
