"""``diart-mp top``: what runs on this machine, while it runs."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from diart_mp.cli.top import picture

from .command import TONES, Diart, children, results

STAGES = ["capture", "segmentation", "embedding", "clustering"]


def shown(pipelines: list[dict[str, Any]], before: dict[tuple[str, str], int], passed_s: float) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(pipelines, before, passed_s))
    return console.export_text()


def test_a_run_is_shown_stage_by_stage(diart: Diart, talk: Path) -> None:
    assert diart("top", "--once").out == "no pipeline is running on this machine\n"
    assert diart("top", "--json").out == ""
    with diart.started("run", talk, *TONES, "--json", env={"DIART_MP_FAULTS": "clustering:slow=0.5"}) as process:
        results(process, 3)
        pids = {each.pid for each in children(process)}
        (line,) = diart("top", "--json").out.splitlines()
        picture = diart("top", "--once").out
    status = json.loads(line)
    assert [stage["stage"] for stage in status["stages"]] == STAGES
    assert {stage["pid"] for stage in status["stages"]} == pids
    assert all(stage["ready"] and stage["restarts"] == 0 for stage in status["stages"])
    assert status["stages"][1]["done"] > status["stages"][3]["done"] > 0
    assert status["stages"][3]["compute_s"] >= 0.5
    assert status["streams"]["talk"]["results"] >= 3
    assert all(str(pid) in picture for pid in pids)
    assert "talk: heard" in picture
    assert "lag" in picture


def test_stages_elsewhere_and_those_that_are_down_are_shown_too() -> None:
    numbers = {"done": 20, "busy_s": 0.0, "queue": 1, "waiting": 0, "compute_s": 0.4, "counters": {}}
    here = {"stage": "capture", "pid": None, "epoch": 7, "ready": False, "restarts": 2, **dict.fromkeys(numbers)}
    there = {"stage": "segmentation/1", "place": "B", "epoch": 5, "there": True, **numbers}
    gone = {"stage": "embedding", "place": "C", "epoch": 5, "there": False, **dict.fromkeys(numbers)}
    status = {"run": "r", "up_s": 3.0, "stages": [here], "elsewhere": [there, gone], "streams": {}}
    lines = [line.split() for line in shown([status], {("r", "segmentation/1"): 10}, 2.0).splitlines()]
    assert ["capture", "0", "0", "0.0", "2", "starting"] in lines
    assert ["segmentation/1", "20", "5.0", "1", "20.0", "0.0", "at", "B"] in lines
    assert ["embedding", "0", "0", "0.0", "not", "there", "(C)"] in lines
