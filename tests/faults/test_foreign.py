"""Stages in other hands: the programs of the protocol page in a real chain over TCP, killed like any other stage."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.runtime.chain import compose
from diart_mp.runtime.local import default_stages
from diart_mp.topology import StageConfig
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, Run, Stranger, run
from tests.transport.ports import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
LONGEST = {"sharpen.py": 60, "sharpen.mjs": 80}  # lines
SETTINGS = Settings.from_seconds(latency=5.0)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm packages that the Node.js program needs."""
    folder = tmp_path_factory.mktemp("npm")
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js with npm (apt install nodejs npm)")
    install = ["npm", "install", "--no-audit", "--no-fund", "zeromq@6", "@msgpack/msgpack@3"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    probe = subprocess.run(["node", "-e", 'require("zeromq")'], cwd=folder, capture_output=True, text=True)
    if done.returncode or probe.returncode:
        pytest.skip(f"npm packages cannot be had: {(done.stderr + probe.stderr).strip()[-200:]}")
    return folder


def chain_with_foreign(port: int) -> tuple[StageConfig, ...]:
    return compose(default_stages(TONE_MODELS), insert=[f"sharpen=tcp://127.0.0.1:{port}@segmentation"])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of four people humming."""
    path = tmp_path_factory.mktemp("foreign") / "hum.wav"
    conversation(path, seconds=30.0, seed=5)
    return path


@pytest.fixture(scope="module")
def without(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What is said without the stage."""
    return run(recording, tmp_path_factory.mktemp("without"), settings=SETTINGS, models=TONE_MODELS)


def run_with(program: list[str], cwd: Path, recording: Path, output: Path, kills: list[Kill]) -> Run:
    port = free_port(2)
    stranger = Stranger(*program, "sharpen", f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}", cwd=cwd)
    return run(
        recording,
        output,
        settings=SETTINGS,
        models=TONE_MODELS,
        stages=chain_with_foreign(port + 1),
        strangers={"sharpen": stranger},
        kills=kills,
    )


def check(program: list[str], cwd: Path, recording: Path, without: Run, tmp_path: Path) -> None:
    kills = [Kill(8, ("sharpen",)), Kill(20, ("sharpen", "embedding")), Kill(30, ("segmentation",))]
    undisturbed = run_with(program, cwd, recording, tmp_path / "undisturbed", [])
    disturbed = run_with(program, cwd, recording, tmp_path / "disturbed", kills)
    assert disturbed.kills == 4
    assert not undisturbed.summary.failures + disturbed.summary.failures
    assert undisturbed.summary.results == without.summary.results
    assert undisturbed.files != without.files  # the stage does something
    assert disturbed.files == undisturbed.files


def test_plain_python_stage_survives_kills(recording: Path, without: Run, tmp_path: Path) -> None:
    check([sys.executable, str(EXAMPLES / "sharpen.py")], tmp_path, recording, without, tmp_path)


def test_node_stage_survives_kills(packages: Path, recording: Path, without: Run, tmp_path: Path) -> None:
    check(["node", str(EXAMPLES / "sharpen.mjs")], packages, recording, without, tmp_path)


@pytest.mark.parametrize("name", LONGEST)
def test_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= LONGEST[name]
    assert "diart_mp" not in (EXAMPLES / name).read_text()
