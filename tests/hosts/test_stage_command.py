"""``diart-mp stage`` before it becomes the stage."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from diart_mp.cli.stage import command
from tests.hosts.rig import write_plan

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def test_libraries_take_as_many_threads_as_the_topology_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        "diart_mp.runtime.process.run_stage", lambda *_, **__: seen.extend(map(os.environ.__getitem__, VARIABLES))
    )
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        del os.environ[variable]
    os.environ["MKL_NUM_THREADS"] = "7"  # whoever says so themselves is obeyed
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B", "B"]})
    plan.write_text(plan.read_text().replace('name = "segmentation"', 'name = "segmentation"\nthreads = 3'))
    CliRunner().invoke(command, ["segmentation/1", "--topology", str(plan)], catch_exceptions=False)
    assert seen == ["3", "7", "3"]
