"""``diart-mp drain``: end a stage that was started by hand, without anything having to be sent again."""

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option("--topology", type=click.Path(path_type=Path), required=True, help="The file that it was started with.")
@click.option("--patience", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
def command(name: str, topology: Path, patience: float) -> None:
    """Have stage NAME (NAME/1 for a replica), started on this host, finish what it has and end."""
    from diart_mp.runtime.drain import drain

    drain(name, topology, patience_s=patience)
    click.echo(f"{name} has finished what it had, and ended")
