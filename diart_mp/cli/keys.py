"""``diart-mp keys``: who may join the links between hosts."""

from pathlib import Path
from typing import Any

import click


def _folder(_: click.Context, __: click.Parameter, folder: Path | None) -> Path:
    from diart_mp.keys import default_folder

    return folder or default_folder()


def _in_folder(command: Any) -> Any:
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path),
        callback=_folder,
        help="Folder of keys; default: the user's.",
    )(command)


@click.group()
def command() -> None:
    """Make, show and authorize the keys of hosts."""


@command.command()
@click.argument("name")
@_in_folder
def new(name: str, folder: Path) -> None:
    """Make the key of this host, whose place in topologies is NAME. Prints the file to copy to the other hosts."""
    from diart_mp.keys import new_key

    click.echo(new_key(folder, name))


@command.command(name="list")
@_in_folder
def list_keys(folder: Path) -> None:
    """Show this host's keys and those that it lets in."""
    from diart_mp.keys import authorized_keys, own_keys

    for key in own_keys(folder):
        click.echo(f"own         {key.name}  {key.public}")
    for key in authorized_keys(folder):
        click.echo(f"authorized  {key.name}  {key.public}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@_in_folder
def authorize(file: Path, folder: Path) -> None:
    """Let in the host whose public key is FILE. Running stages take it up within a second."""
    from diart_mp.keys import authorize

    key = authorize(folder, file)
    click.echo(f"authorized  {key.name}  {key.public}")
