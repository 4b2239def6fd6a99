"""Stages placed by Ray: one actor per process, in one placement group, on a node that has what the stage needs.

Ray finds the node, holds cores and GPUs for it, and tells when an actor or its node is gone; the chunks never pass through it. An actor
starts the ordinary command and watches it, which ends with the actor. Needs the extra "ray". Runs in ``diart-mp run`` and, the actor, in
Ray's workers.
"""

import logging
import sys
from collections.abc import Collection, Sequence
from typing import Any

from diart_mp.deploy import Process, check_device
from diart_mp.endpoints import host_of, is_loopback
from diart_mp.errors import StageError, UsageError
from diart_mp.runtime.provision import how_it_ended

_READY_S = 60.0  # that the cluster may take to have room for all stages
_SHARE = 0.001  # of a node's own resource, of which there is 1: for as many stages as a node may ever have


class _Host:
    """The actor: one stage process on its node."""

    def __init__(self, arguments: Sequence[str]) -> None:
        from diart_mp.runtime.provision import LastLine, start_guarded

        self._process = start_guarded([sys.executable, *arguments], heard=True)  # this node's own Python
        assert self._process.stdout is not None  # noqa: S101  # since heard
        self._said = LastLine(self._process.stdout)

    def wait(self) -> tuple[int, str]:
        """Until the process has ended: its exit code, and the last line that it said."""
        return self._process.wait(), self._said.text()

    def pid(self) -> int:
        """Of the stage process."""
        return self._process.pid

    def stop(self) -> None:
        """End it."""
        self._process.terminate()


class _Actor:
    """One process as ``diart-mp run`` sees it."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._end = actor.wait.remote()

    def ended(self) -> str:
        """See ``Handle.ended``."""
        done, _ = self._ray.wait([self._end], timeout=0)
        if not done:
            return ""
        try:
            return how_it_ended(*self._ray.get(self._end))
        except self._ray.exceptions.RayError as error:
            return f"is gone ({type(error).__name__})"

    def stop(self) -> None:
        """See ``Handle.stop``."""
        self._ray.kill(self._actor)


class RayProvisioner:
    """Places ``processes`` on the Ray cluster at ``address`` (empty: of this host, or a new one)."""

    def __init__(self, processes: Sequence[Process], address: str) -> None:
        try:
            import ray
        except ImportError as error:
            msg = "--provisioner ray needs the extra 'ray': pip install 'diart-mp[ray]'"
            raise UsageError(msg) from error
        from ray.util.placement_group import placement_group

        self._ray: Any = ray
        try:
            ray.init(address=address or None, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            msg = f"cannot join the Ray cluster {address or 'of this host'}: {' '.join(str(error).split())[:200]}"
            raise StageError(msg) from error
        self._indices = {process.name: index for index, process in enumerate(processes)}
        nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        bundles = [needs_of(process, nodes) for process in processes]
        self._group: Any = placement_group(bundles, strategy="SPREAD")
        if not self._group.wait(_READY_S):
            msg = f"the Ray cluster has no room for {bundles} after {_READY_S:.0f} s (see: ray status)"
            raise StageError(msg)

    def start(self, process: Process, command: Sequence[str]) -> _Actor:
        """See ``Provisioner.start``."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        where = PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=self._indices[process.name]
        )
        needs = needs_of(process, ())
        options = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "max_concurrency": 4}
        # Restarts are ours: a stage that is started again gets a new epoch, and what it had is sent again.
        host = self._ray.remote(max_restarts=0, max_task_retries=0, scheduling_strategy=where, **options)(_Host)
        return _Actor(self._ray, host.remote(list(command[1:])))

    def close(self) -> None:
        """See ``Provisioner.close``."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self._group)
        self._ray.shutdown()


def needs_of(process: Process, nodes: Collection[str]) -> dict[str, float]:
    """What a stage holds of its node. One that listens at the address of one of ``nodes`` must be there, which Ray has a resource for."""
    check_device(process, "what Ray gives it")
    needs: dict[str, float] = {"CPU": process.stage.threads}
    if process.stage.device_of(process.replica).startswith("cuda"):
        needs["GPU"] = 1
    endpoint = process.stage.endpoint(process.replica)
    if host_of(endpoint) in nodes and not is_loopback(endpoint):
        needs[f"node:{host_of(endpoint)}"] = _SHARE
    return needs
