"""Processor time and memory of processes, against what the kernel says in other ways."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from diart_mp.evaluation.processes import Usage, UsageLog, usage

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")


def test_numbers_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "41"
    folder.mkdir()
    # The name of a program is its owner's choice.
    (folder / "stat").write_text("41 (a) R 7 (b) S 1 2 3 4 5 6 7 8 9 10 500 250 99 99 20 0 1 0\n")
    (folder / "status").write_text("Name:\ta) R 7 (b\nVmPeak:\t 9000 kB\nVmHWM:\t 2000 kB\nVmRSS:\t 10 kB\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert usage(41, tmp_path) == Usage(750 / ticks, 2.048)
    assert usage(42, tmp_path) is None


def test_own_usage_is_what_others_say() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    used = usage(os.getpid())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert used is not None
    tick = 2 / os.sysconf("SC_CLK_TCK")
    assert before.ru_utime + before.ru_stime - tick <= used.cpu_s <= after.ru_utime + after.ru_stime + tick
    assert used.memory_mb >= 0.9 * psutil.Process().memory_info().rss / 1e6
    assert used.memory_mb == pytest.approx(after.ru_maxrss * 1024 / 1e6, rel=0.05)


def test_difference_keeps_the_peak() -> None:
    assert Usage(5.0, 80.0).since(Usage(3.5, 30.0)) == Usage(1.5, 80.0)


def test_an_ended_process_keeps_its_last_figures() -> None:
    code = "input(); sum(range(5_000_000)); block = bytearray(40_000_000); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    log = UsageLog({"child": child.pid})
    child.stdin.write(b"\n")
    child.stdin.flush()
    child.stdout.readline()
    log.sample()
    busy = log.used()["child"]
    assert busy.cpu_s > 0
    assert busy.memory_mb > 40
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but not yet collected
    log.sample()
    ended = log.used()["child"]
    assert ended.cpu_s >= busy.cpu_s
    assert ended.memory_mb == busy.memory_mb
    child.wait()
    child.stdout.close()
    log.sample()
    assert log.used()["child"] == ended
    assert UsageLog({"gone": child.pid}).used() == {}
