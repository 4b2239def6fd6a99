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
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import zmq

from diart_mp.errors import DiartMpError, OutputError, UsageError
from diart_mp.runtime.chain import make_stage, stage_class
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.loop import StageLoop
from diart_mp.topology import StageConfig, Topology

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
    make_directory(Path(topology.directory))
    name, _, number = name.partition("/")
    replica = _replica(number, topology.stage(name))
    _set_title(name, replica, topology.stage(name).replicas)
    context = zmq.Context[zmq.Socket[bytes]]()
    control = StageControl(context, topology.control, stage=name, replica=replica, epoch=epoch)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    control.start_beats()
    try:
        return _run(_make(name, topology, replica=replica, epoch=epoch, control=control, context=context), control)
    except DiartMpError as error:
        if topology.control:
            control.send("fatal", text=str(error), code=error.exit_code)
        else:
            sys.stderr.write(f"diart-mp {name}: {error}\n")
        return error.exit_code
    finally:
        control.close()
        context.destroy(linger=1000)


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


def _replica(number: str, config: StageConfig) -> int:
    if number and not (number.isdecimal() and int(number) < config.replicas):
        msg = f"stage {config.name} has {config.replicas} replicas, numbered from 0; there is no '{number}'"
        raise UsageError(msg)
    return int(number or 0)


def _set_title(name: str, replica: int, replicas: int) -> None:
    import setproctitle

    setproctitle.setproctitle(f"diart-mp: {name}" + (f"/{replica}" if replicas > 1 else ""))


def _end_with_supervisor(guard: int) -> None:
    """Wait for the end of the supervisor's pipe, then end at once: nobody is left to report to."""
    while os.read(guard, 1):
        pass
    os._exit(_ORPHANED)
