"""The gateway stage: owns the streams of its WebSocket clients, in place of capture. Runs as the process of that name."""

import asyncio

import zmq

from diart_mp.errors import UsageError
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.owner import Owner
from diart_mp.topology import Topology
from diart_mp.web.server import Server

NAME = "gateway"


class Gateway:
    """Serves clients in the main thread, with the owner of their streams in another."""

    def __init__(
        self,
        topology: Topology,
        *,
        epoch: int,
        control: StageControl,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:
        if topology.gateway is None:
            msg = "this topology has no [gateway]: nothing to serve"
            raise UsageError(msg)
        self._control = control
        owner = Owner(topology, stage=NAME, epoch=epoch, control=control, context=context)
        self._server = Server(topology, topology.gateway, epoch=epoch, context=context)
        self._hosted = HostedOwner(owner, on_drain=self._server.drain, on_end=self._server.on_owner_end)

    def run(self) -> None:
        """Until it is told to end; then clients get their last segments first."""
        asyncio.run(self._server.run(self._hosted, self._control.ready))
        self._hosted.owner.report("finished")

    def close(self) -> None:
        """Close everything; idempotent."""
        self._hosted.stop()
