"""A stage process from its first line to its last: title, guard, signals, control, then the stage itself.

``diart-mp stage`` calls ``run_stage``; it is the one way to start a stage, here or on another host. The supervisor gives a local stage
the read end of a pipe (``guard``) that it never writes to: when the supervisor dies, whatever way, the pipe ends and so does
the stage. Ctrl-C in a terminal reaches the supervisor alone, since stages run in process groups of their own.
"""

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import zmq

from diart_mp.errors import DiartMpError, OutputError, UsageError
from diart_mp.places import label, place_of, process_of
from diart_mp.runtime.chain import make_stage, stage_class
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.drain import leave_note
from diart_mp.runtime.loop import StageLoop
from diart_mp.runtime.rundir import RunDirectory
from diart_mp.runtime.stuck import end_when_stuck
from diart_mp.topology import Topology
from diart_mp.transport.security import guard_of

_ORPHANED = 3  # exit code of a stage whose supervisor is gone


class _Runnable(Protocol):
    def run(self) -> None: ...

    def close(self) -> None: ...


def run_stage(name: str, topology_file: Path, *, epoch: int, guard: int | None = None) -> int:
    """Run stage ``name`` ("segmentation", or "segmentation/1" for a replica) until it is told to stop; its exit code."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the supervisor asks a hung stage where it hangs
    if guard is not None:
        threading.Thread(target=_end_with_supervisor, args=(guard,), name="guard", daemon=True).start()
    topology = Topology.read(topology_file)
    name, replica = process_of(topology, name)
    _set_title(name, replica, topology.stage(name).replicas)
    with ExitStack() as stack:
        topology = _settle(topology_file, name, replica, stack)
        return _run_in(topology, name, replica=replica, epoch=epoch)


def _settle(file: Path, name: str, replica: int, stack: ExitStack) -> Topology:
    """The topology in ``file`` as one process takes it: with a folder, and with the replica's own device."""
    topology = Topology.read(file)
    stages = [
        replace(stage, device=stage.device_of(replica)) if stage.name == name else stage for stage in topology.stages
    ]
    topology = replace(topology, stages=tuple(stages))
    if not topology.is_plan:
        make_directory(Path(topology.directory))
        return topology
    reached = [*topology.before(name).endpoints(), topology.results if topology.after(name) is None else ""]
    own = topology.stage(name).endpoint(replica)
    if not (all(reached[:-1]) and (own or reached[-1])):
        msg = f"{name} is started by diart-mp run: its neighbours in the topology have no 'bind' to be reached at"
        raise UsageError(msg)
    directory = stack.enter_context(RunDirectory())
    leave_note(directory.path, label(topology.stage(name), replica), file)
    return replace(topology, directory=str(directory.path), run=topology.run or directory.run)


def _run_in(topology: Topology, name: str, *, replica: int, epoch: int) -> int:
    """Run the stage, with its folder made; its exit code."""
    context = zmq.Context[zmq.Socket[bytes]]()
    endpoint, lossy = topology.control or topology.report, not topology.control
    guard = guard_of(topology, place_of(topology, topology.stage(name), replica), context)
    control = StageControl(context, endpoint, stage=name, replica=replica, epoch=epoch, lossy=lossy, guard=guard)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    control.start_beats()
    if not topology.control:
        end_when_stuck(name, control.progress, topology.stuck_s)
    try:
        return _run(_make(name, topology, replica=replica, epoch=epoch, control=control, context=context), control)
    except DiartMpError as error:
        if control.socket is not None:
            control.send("fatal", text=str(error), code=error.exit_code)
        if not topology.control:
            sys.stderr.write(f"diart-mp {name}: {error}\n")
        return error.exit_code
    finally:
        control.close()
        guard.close()
        context.destroy(linger=1000)


def clock_epoch() -> int:
    """An epoch for where nobody counts the starts: the clock, in ms."""
    return time.time_ns() // 1_000_000


def make_directory(path: Path) -> None:
    """Make the run folder where no supervisor has; OutputError if that cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {path} of the topology: {error.strerror}"
        raise OutputError(msg) from error


def _run(make: Callable[[], _Runnable], control: StageControl) -> int:
    runnable = make()
    gc.collect()
    gc.freeze()  # what has been loaded stays: searching it for garbage again and again would only hold up chunks
    try:
        runnable.run()
    finally:
        control.progress.busy_since = None
        runnable.close()
    return 0


def _make(
    name: str,
    topology: Topology,
    *,
    replica: int,
    epoch: int,
    control: StageControl,
    context: zmq.Context[zmq.Socket[bytes]],
) -> Callable[[], _Runnable]:
    """What makes the stage: imports and loading happen when it is called, with beats under way."""

    def make() -> _Runnable:
        kind = stage_class(topology.stage(name))
        if name == topology.stages[0].name:
            owner: _Runnable = kind(topology, epoch=epoch, control=control, context=context)
            return owner
        stage = make_stage(topology.stage(name), kind)
        stage.open()
        return StageLoop(stage, topology, replica=replica, epoch=epoch, control=control, context=context)

    return make


def _set_title(name: str, replica: int, replicas: int) -> None:
    import setproctitle

    setproctitle.setproctitle(f"diart-mp: {name}" + (f"/{replica}" if replicas > 1 else ""))


def _end_with_supervisor(guard: int) -> None:
    """Wait for the end of the supervisor's pipe, then end at once: nobody is left to report to."""
    while os.read(guard, 1):
        pass
    os._exit(_ORPHANED)
