"""One local stage as the supervisor sees it: the process, what it said last, and how often it was started.

Knows nothing of sockets, and decides nothing: when to start or kill it is ``runtime.supervisor``'s. Runs where that runs.
"""

import contextlib
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DUMP_S, _PAUSE_S = 1.0, 0.1  # that a hung stage has to write down where it hangs, and how long it writes nothing more
_STDERR_LINES = 60  # of a dead stage that are kept for the report: the stacks of its threads begin with what matters


@dataclass(slots=True)
class Child:
    """A stage's process, or the place for one; its epoch, restarts, last beat and log."""

    name: str
    replica: int
    epoch: int = 0
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    ready: bool = False
    proven: bool = False  # one of its processes has been ready: what keeps a later one from it may pass
    started_at: float = 0.0
    restart_at: float | None = None  # monotonic s
    restarts: list[float] = field(default_factory=list)  # monotonic s
    total_restarts: int = 0
    in_a_row: int = 0  # restarts since the last result
    failed_starts: int = 0  # ends before it was ready, since it was ready last
    beat: Mapping[str, Any] = field(default_factory=dict)
    heard_at: float = 0.0  # monotonic s of the last beat, or since it is ready
    hung: str = ""  # why the present process is being killed
    fatal: str = ""  # why the present process says that it cannot go on

    @property
    def label(self) -> str:
        """Its name, with the number of the replica where that is not the first."""
        return self.name if self.replica == 0 else f"{self.name}/{self.replica}"

    @property
    def fruitless(self) -> int:
        """How many restarts in a row nothing has come of; results of other replicas do not make up for failed starts."""
        return max(self.in_a_row, self.failed_starts)

    def begin(self, epoch: int, now: float, directory: Path) -> Path:
        """Everything anew for a process that is about to be started; the file that it logs to."""
        self.epoch, self.ready, self.restart_at, self.beat = epoch, False, None, {}
        self.started_at = self.heard_at = now
        self.hung = self.fatal = ""
        self.log = directory / f"{self.name}-{self.replica}-{epoch}.log"
        return self.log

    def on_ready(self, now: float) -> None:
        """It can take chunks, which is a sign of life."""
        self.ready, self.proven, self.heard_at = True, True, now
        self.failed_starts = 0

    def has_failed(self, now: float) -> None:
        """Count the end of its process."""
        self.failed_starts += not self.ready
        self.in_a_row += 1
        self.total_restarts += 1
        self.restarts.append(now)

    def status(self) -> dict[str, Any]:
        """What ``diart-mp top`` shows of it, as plain values."""
        return {
            "stage": self.label,
            "pid": self.process.pid if self.process is not None else None,
            "epoch": self.epoch,
            "ready": self.ready and self.process is not None,
            "restarts": self.total_restarts,
            **{name: self.beat.get(name) for name in ("done", "busy_s", "queue", "waiting", "compute_s", "counters")},
        }

    def end_hung(self, reason: str) -> None:
        """Have it write its stacks to its log, then kill it; what follows is what follows any death."""
        self.hung = reason
        if self.process is None:
            return
        before = size = self._log_size()
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(round(_DUMP_S / _PAUSE_S)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_PAUSE_S)
                break
            size, last = self._log_size(), size
            if size == last > before:
                break
        self.process.kill()
        self.process.wait()

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log is not None and self.log.exists() else 0

    def log_lines(self) -> list[str]:
        """The last lines that it wrote to its standard error."""
        if self.log is None or not self.log.exists():
            return []
        return [line for line in self.log.read_text(errors="replace").splitlines()[-_STDERR_LINES:] if line.strip()]

    def last_line(self) -> str:
        """The last of these lines, empty if there is none."""
        lines = self.log_lines()
        return lines[-1].strip() if lines else ""
