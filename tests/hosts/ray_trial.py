"""A Ray cluster of three raylets on this host: ``python -m tests.hosts.ray_trial``. Needs the extra "ray"; about a minute.

A run is placed by Ray, once undisturbed, once with a stage killed by its raylet's end; the turns must be those of a local run.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.cli.command import COMMAND, ROOT, TONES, Diart
from tests.fakes import conversation
from tests.hosts.rig import write_plan


def _run(diart: Diart, folder: Path, audio: Path, output: str, address: str, disturb: Any = None) -> str:
    """One run; what to say of it."""
    command = [str(COMMAND), "run", str(audio), "--latency", "1", "--output", str(folder / output), "--json"]
    command += ["--topology", str(folder / "plan.toml"), "--provisioner", "ray", "--address", address]
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=diart.environment(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for _ in range(10):
            run.stdout.readline()
        if disturb is not None:
            disturb()
        run.stdout.read()
    same = (folder / output / "talk.rttm").read_bytes() == (folder / "local" / "talk.rttm").read_bytes()
    return f"{output}: exit code {run.returncode}, {time.monotonic() - begun:.1f} s, the same turns: {same}\n"


def _kill_raylet_of(cluster: Any, title: str) -> None:
    """End the node whose worker runs the stage with this process title."""
    for node in list(cluster.worker_nodes):
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any(each.cmdline()[:1] == [title] for each in raylet.children(recursive=True)):
            sys.stdout.write(f"ending the node of {title}\n")
            cluster.remove_node(node)
            return
    sys.stdout.write(f"no node has {title}\n")


def main() -> None:
    """Both runs."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ry-") as name:
        folder, diart = Path(name), Diart(Path(name))
        audio = folder / "talk.wav"
        conversation(audio, seconds=120.0, seed=5)
        diart("run", audio, "--latency", "1", "--output", folder / "local", "--quiet", *TONES)
        os.environ["PYTHONPATH"] = str(ROOT)  # of the workers, for the models of the tests
        cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(3):
                cluster.add_node(num_cpus=2)
            cluster.wait_for_nodes()
            # Only now: Ray itself listens at many ports.
            write_plan(folder / "plan.toml", {"segmentation": ["B", "B"], "embedding": ["C"]}, max_in_flight=8)
            sys.stdout.write(_run(diart, folder, audio, "quiet", cluster.address))
            ended = lambda: _kill_raylet_of(cluster, "diart-mp: embedding")  # noqa: E731
            sys.stdout.write(_run(diart, folder, audio, "raylet-killed", cluster.address, ended))
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
