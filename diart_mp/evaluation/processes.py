"""What processes cost: processor time and peak memory, as the kernel counts them in ``/proc``.

Where there is no such folder (macOS) nothing is known, and nothing is guessed. Runs in the process that measures.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_UTIME, _STIME = 11, 12  # numbers after the name of the program in /proc/PID/stat, from 0
_PEAK = "VmHWM:"  # in /proc/PID/status: the most memory that was ever resident, in kB of 1024 bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: ``cpu_s`` seconds of processor time in all its threads, ``memory_mb`` peak resident MB (10^6 bytes)."""

    cpu_s: float
    memory_mb: float

    def since(self, before: "Usage") -> "Usage":
        """What was used after ``before``; the peak of memory is that of the whole life."""
        return Usage(self.cpu_s - before.cpu_s, self.memory_mb)


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """The usage of a process so far; None if it is gone or the system does not say.

    Of a process that has just ended, and that nobody has waited for, the time is still known, the memory is 0.
    """
    try:
        stat = (proc / str(pid) / "stat").read_text()
        status = (proc / str(pid) / "status").read_text()
    except OSError:
        return None
    numbers = stat.rpartition(")")[2].split()  # the name of a program may hold blanks and brackets
    ticks = int(numbers[_UTIME]) + int(numbers[_STIME])
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith(_PEAK)), "0")
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(peak) * 1024 / 1e6)


class UsageLog:
    """The usage of several processes between two moments. Not thread-safe."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._first = {name: used for name, pid in pids.items() if (used := usage(pid)) is not None}
        self._last = dict(self._first)

    def sample(self) -> None:
        """Look again; what is gone keeps its last figures, and memory its highest."""
        for name, pid in self._pids.items():
            now, before = usage(pid), self._last.get(name)
            if now is not None and before is not None:
                self._last[name] = Usage(now.cpu_s, max(now.memory_mb, before.memory_mb))

    def used(self) -> dict[str, Usage]:
        """From the beginning to the last sample, by name."""
        return {name: used.since(self._first[name]) for name, used in self._last.items()}
