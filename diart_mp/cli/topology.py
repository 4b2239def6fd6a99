"""``diart-mp topology``: what a topology file says, checked, drawn, and as units and manifests."""

import getpass
import shutil
import sys
from pathlib import Path
from typing import Any

import click


@click.group()
def command() -> None:
    """Check and explain topology files."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(["systemd", "kubernetes"]))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="Folder for the files; made if missing."
)
@click.option(
    "--installed", type=click.Path(path_type=Path), help="systemd: the command on the hosts. Default: as here."
)
@click.option(
    "--at", "at", type=click.Path(path_type=Path), help="systemd: where FILE lies on the hosts. Default: as here."
)
@click.option("--user", help="systemd: who runs the stages, and has the keys. Default: you.")
@click.option("--image", default="diart-mp:latest", show_default=True, help="kubernetes: image with diart-mp in it.")
@click.option("--namespace", default="default", show_default=True, help="kubernetes: namespace of the objects.")
def export(file: Path, kind: str, output: Path, **options: Any) -> None:
    """Write what keeps the stages with a place of topology FILE running: systemd units, or Kubernetes manifests."""
    from diart_mp.deploy import kubernetes_manifests, secrets_to_make, systemd_units
    from diart_mp.topology import Topology

    topology = Topology.read(file)
    if kind == "systemd":
        program = options["installed"] or Path(shutil.which("diart-mp") or sys.argv[0]).absolute()
        there = options["at"] or file.absolute()
        written = systemd_units(topology, there, program=program, user=options["user"] or getpass.getuser())
    else:
        image, namespace = options["image"], options["namespace"]
        written = kubernetes_manifests(topology, file, image=image, namespace=namespace)
    for name, text in written.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text, encoding="utf-8")
        click.echo(output / name)
    if kind == "kubernetes":
        for line in secrets_to_make(topology, options["namespace"]):
            click.echo(f"first, in the folder of the keys of its place: {line}", err=True)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE, draw the pipeline that it describes, and say what is to be started where."""
    from diart_mp.keys import unknown_places
    from diart_mp.places import explain, places
    from diart_mp.topology import Topology

    topology = Topology.read(file)
    for line in explain(topology, str(file)):
        click.echo(line)
    if topology.keys and (unknown := unknown_places(Path(topology.keys), places(topology))):
        click.echo(
            f"remark: this host has no key yet of {', '.join(unknown)}: its own comes from diart-mp keys new, "
            "others from diart-mp keys authorize"
        )
