"""What README and docs show is run: commands with a real recording, Python as written, the topology file as it stands."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import Topology
from tests.conftest import VirtualMicrophone
from tests.fakes import PITCHES, RATE, TONE_MODELS, conversation

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = Path(sys.executable).with_name("diart-mp")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The ``diart-mp`` commands that a page shows, in code blocks and in indented lines, without their comments."""
    indented = re.findall(r"^ {4,}(diart-mp .*)$", page.read_text(), flags=re.MULTILINE)
    for line in [*"".join(blocks(page, "bash")).splitlines(), *indented]:
        yield shlex.split(line, comments=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the pages mention: recordings and a model class."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("talk.wav", "a.wav", "b.flac", "c.mp3"):
        conversation(folder / name, seconds=6.0, seed=1) if name.endswith("wav") else None
    import soundfile

    samples, rate = soundfile.read(folder / "a.wav")
    soundfile.write(folder / "b.flac", samples, rate)
    soundfile.write(folder / "c.mp3", samples, rate)
    soundfile.write(folder / "ann.wav", 0.3 * np.sin(2 * np.pi * PITCHES[0] * np.arange(6 * RATE) / RATE), RATE)
    EnrolledSpeakers(embedding=TONE_MODELS.embedding).add("Bo", np.ones((1, len(PITCHES)))).save(folder / "team.json")
    turns = conversation(folder / "talk.wav", seconds=6.0, seed=1)
    rows = [f"SPEAKER talk 1 {start:.3f} {end - start:.3f} <NA> <NA> s{who} <NA> <NA>\n" for start, end, who in turns]
    (folder / "talk.rttm").write_text("".join(rows))
    for name in ("audio", "rttm", "turns", "uem"):
        (folder / name).mkdir()
    (folder / "audio" / "talk.wav").write_bytes((folder / "talk.wav").read_bytes())
    (folder / "rttm" / "talk.rttm").write_text("".join(rows))
    (folder / "turns" / "talk.rttm").write_text("".join(rows))
    (folder / "uem" / "talk.uem").write_text("talk 1 0.0 6.0\n")
    (folder / "my_stages.py").write_text(blocks(ROOT / "docs" / "own_stage.md", "python")[0])
    (folder / "my_models.py").write_text(blocks(ROOT / "docs" / "models.md", "python")[0])
    words, activity = blocks(ROOT / "docs" / "optional_stages.md", "python")
    (folder / "my_words.py").write_text(words)
    (folder / "my_activity.py").write_text(activity)
    return folder


SHOWN = list({shlex.join(command): (page.name, command) for page in PAGES for command in commands(page)}.values())
# Without an end, or in need of a microphone.
ELSEWHERE = ("--mic", "devices", "top", "stage", "serve", "client", "--find-capacity", "--topology")


@pytest.mark.parametrize(("page", "command"), [each for each in SHOWN if not set(each[1]) & set(ELSEWHERE)])
def test_command_does_what_its_page_says(page: str, command: list[str], folder: Path) -> None:
    program, *arguments = command
    assert program == "diart-mp"
    extra = ["--seconds", "5", "--runs", "1"] if arguments[0] == "bench" else []
    if arguments[0] == "tune":
        extra = ["--num-iter", "3"]
    if "--speakers" in arguments and "list" not in arguments:  # a hum is nothing that the built-in models know
        extra = ["--segmentation", TONE_MODELS.segmentation, "--embedding", TONE_MODELS.embedding]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [PROGRAM, *arguments, *extra], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_pages_show_commands_and_there_is_no_dead_link() -> None:
    assert len(SHOWN) > 12
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


PROGRAMS = [
    (page, number)
    for page in ("own_stage.md", "blocks.md", "migration.md", "optional_stages.md", "models.md", "evaluating.md")
    for number in range(len(blocks(ROOT / "docs" / page, "python")))
]


@pytest.mark.parametrize(("page", "number"), PROGRAMS)
def test_python_of_a_page_runs(page: str, number: int, folder: Path) -> None:
    program = blocks(ROOT / "docs" / page, "python")[number].replace("num_iter=200", "num_iter=3")
    (folder / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == ("print(" in (folder / "program.py").read_text())


def test_tests_that_stand_behind_the_migration_page_are_there() -> None:
    text = (ROOT / "docs" / "migration.md").read_text()
    named = re.findall(r"\| \[(test_\w+)\]\(\.\./(tests/\S+\.py)\) \|$", text, flags=re.MULTILINE)
    rows = [
        line
        for line in text.partition("## Left out")[0].splitlines()
        if line.startswith("| ") and "| here |" not in line
    ]
    assert len(named) == len(rows) > 50
    for function, file in named:
        assert f"def {function}(" in (ROOT / file).read_text(), (function, file)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_microphone_command_of_the_readme(folder: Path, virtual_microphone: VirtualMicrophone) -> None:
    command = next(command for _, command in SHOWN if "--mic" in command and "--output" in command)
    with subprocess.Popen(
        [PROGRAM, *command[1:]], cwd=folder, env=virtual_microphone.env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert (folder / "meeting" / "microphone.rttm").exists()


def test_devices_are_listed(virtual_microphone: VirtualMicrophone) -> None:
    done = subprocess.run([PROGRAM, "devices"], env=virtual_microphone.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert any("pulse" in line for line in done.stdout.splitlines())


def test_topology_of_the_docs_is_one(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    whole, replica = blocks(ROOT / "docs" / "hosts.md", "toml")
    file.write_text(whole)
    topology = Topology.read(file)
    assert [stage.name for stage in topology.stages] == ["capture", "segmentation", "embedding", "clustering"]
    assert [stage.place for stage in topology.stages] == ["", "gpu", "gpu", ""]
    file.write_text(whole.replace('[[stage]]\nname = "embedding"', f'{replica}\n[[stage]]\nname = "embedding"'))
    assert Topology.read(file).stage("segmentation").device_of(0) == "cuda:0"


def test_makefile_has_the_commands_that_pages_name() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for name in re.findall(r"^    make (\w+)", page.read_text(), flags=re.MULTILINE)
    }
    assert {"run", "test", "check", "format", "bench"} <= named <= targets
