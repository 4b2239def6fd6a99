"""What is cheap stays cheap: help, imports; and the small commands."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from diart_mp import __version__

from .command import COMMAND, Argument, Diart
from .conftest import FullRun

RATIO = 6  # of the time of an interpreter that does nothing


def _processor_time(*command: Argument, times: int = 5) -> float:
    """The least processor time (s) of several runs: unlike the time on the clock, no matter what else runs beside."""
    best = float("inf")
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_comes_at_once(arguments: list[str]) -> None:
    assert _processor_time(COMMAND, *arguments) < RATIO * _processor_time(sys.executable, "-c", "pass")


def test_built_in_models_run_without_torch_and_pyannote(full_run: FullRun) -> None:
    assert all("zmq" in modules for modules in full_run.imported.values())
    assert all("openvino" in full_run.imported[stage] for stage in ("segmentation", "embedding"))
    heavy = {
        "torch",
        "pyannote",
        "torchaudio",
        "lightning",
        "pandas",
        "sklearn",
        "matplotlib",
        "optuna",
        "rich",
        "scipy",
    }
    heavy.add("asyncio")  # with ssl, 40 ms
    for modules in full_run.imported.values():
        assert heavy & {name.split(".")[0] for name in modules} == set()


def test_capture_and_clustering_load_no_models(full_run: FullRun) -> None:
    for stage in ("capture", "clustering"):
        assert "openvino" not in full_run.imported[stage]


def test_version(diart: Diart) -> None:
    done = diart("--version")
    assert (done.code, done.out.split()[-1]) == (0, __version__)


def test_no_command_shows_them_all(diart: Diart) -> None:
    done = diart()
    assert done.code == 2
    for name in ("run", "devices", "models", "stage", "completion"):
        assert f"\n  {name} " in done.err


def test_an_unknown_command(diart: Diart) -> None:
    done = diart("rum")
    assert done.code == 2
    assert done.complaints == ["diart-mp: error: No such command 'rum'; see diart-mp --help"]


def test_models_are_listed(diart: Diart) -> None:
    done = diart("models", "list")
    assert (done.code, done.err) == (0, "")
    for words in ("builtin segmentation: 5.9 MB", "builtin embedding: 5.7 MB", "preset community: "):
        assert words in done.out


def test_models_that_were_not_pulled(diart: Diart, tmp_path: Path) -> None:
    done = diart("models", "list", env={"DIART_MP_CACHE": str(tmp_path)})
    assert done.code == 0
    assert f"builtin segmentation: not pulled  {tmp_path}" in done.out


def test_built_in_models_that_cannot_be_fetched(diart: Diart, sample: Path, tmp_path: Path) -> None:
    done = diart("run", sample, env={"DIART_MP_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert done.code == 1
    assert len(done.complaints) == 1
    assert "diart-mp models pull" in done.complaints[0]


def test_devices(diart: Diart) -> None:
    """Whatever this machine has; a test with a microphone is in tests/audio."""
    done = diart("devices", "--json")
    assert done.code == 0
    assert all({"index", "name", "default"} <= device.keys() for device in done.objects)
    assert len(diart("devices").out.splitlines()) == len(done.objects)


@pytest.mark.parametrize(("shell", "check"), [("bash", "complete -p diart-mp"), ("zsh", ""), ("fish", "")])
def test_completion(diart: Diart, shell: str, check: str) -> None:
    done = diart("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_DIART_MP_COMPLETE" in done.out
    if check:
        subprocess.run([shell, "-c", f"{done.out}\n{check}"], check=True, capture_output=True)


def test_completion_knows_commands_and_options(diart: Diart) -> None:
    """As the script for bash asks: the words so far, and which one is to be completed."""

    def complete(words: str) -> list[str]:
        number = str(len(words.split(" ")) - 1)
        env = {"_DIART_MP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
        path = os.pathsep.join([str(COMMAND.parent), os.environ["PATH"]])
        return [line.partition(",")[2] for line in diart(env={**env, "PATH": path}).out.splitlines()]

    assert complete("diart-mp de") == ["devices"]
    assert "--latency" in complete("diart-mp run --la")
