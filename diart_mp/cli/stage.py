"""``diart-mp stage``: one stage as a process of its own. Started by ``diart-mp run``, by systemd, or by hand."""

import os
from pathlib import Path

import click

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@click.command()
@click.argument("name")
@click.option(
    "--topology",
    "topology",
    type=click.Path(path_type=Path),
    required=True,
    help="The pipeline that the stage is part of.",
)
@click.option("--epoch", type=click.IntRange(1), help="Number of this start; must grow. Default: the clock.")
@click.option("--guard", type=int, hidden=True, help="Descriptor of a pipe that ends when the supervisor does.")
def command(name: str, topology: Path, epoch: int | None, guard: int | None) -> int:
    """Run stage NAME (capture, segmentation, embedding, clustering; NAME/1 for a replica) of a topology."""
    from diart_mp.topology import Topology

    # Numeric libraries start a thread per core unless they are told otherwise before they are loaded, which is in the next line.
    threads = Topology.read(topology).stage(name.partition("/")[0]).threads
    for variable in _THREADS:
        os.environ.setdefault(variable, str(threads))
    from diart_mp.runtime.process import clock_epoch, run_stage

    # A stage that nobody counts the starts of still must not be taken for the one before it, nor for a later one.
    return run_stage(name, topology, epoch=epoch or clock_epoch(), guard=guard)
