"""What README and docs show is run: commands with a real recording, the topology file as it stands. Programs: test_docs_programs."""

import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from diart_mp.topology import Topology
from tests.conftest import VirtualMicrophone
from tests.doc_pages import PAGES, ROOT, Done, blocks, commands, fill
from tests.fakes import TONE_MODELS

PROGRAM = Path(sys.executable).with_name("diart-mp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the pages mention."""
    return fill(tmp_path_factory.mktemp("docs"))


SHOWN = list({shlex.join(command): (page.name, command) for page in PAGES for command in commands(page)}.values())
# Without an end, or in need of a microphone.
ELSEWHERE = ("--mic", "devices", "top", "stage", "serve", "client", "--find-capacity", "--topology")
COMMANDS = [each for each in SHOWN if not set(each[1]) & set(ELSEWHERE)]
AT_A_TIME = 3  # of what pages show: a pipeline that starts waits more than it works
MODELS = {"--segmentation": TONE_MODELS.segmentation, "--embedding": TONE_MODELS.embedding}


def more_of(command: list[str]) -> list[str]:
    """What makes a command quick: less work, and models that load at once, but for the plain run and where others are named."""
    _, name, *arguments = command
    less = {"bench": ["--seconds", "2", "--runs", "1"], "tune": ["--num-iter", "3"]}.get(name, [])
    if name in ("run", "bench", "evaluate", "tune"):
        quick = command[1:] != ["run", "talk.wav"] and not {"--hypothesis", "--null", *MODELS} & set(arguments)
    else:
        quick = name == "speakers" and arguments[0] == "enroll"  # a hum is nothing that the built-in models know
    return less + [word for pair in MODELS.items() for word in pair if quick]


def carry_out(command: list[str], folder: Path, after: Future[Done] | None) -> Done:
    if after is not None:
        after.result()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    whole = [str(PROGRAM), *command[1:], *more_of(command)]
    return subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def under_way(folder: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """All commands whose tests are to run, some at a time, in the order of the pages."""
    wanted = {item.name for item in request.session.items}
    started: dict[str, Future[Done]] = {}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for _, command in COMMANDS:
            key = shlex.join(command)
            tuning = next((done for name, done in started.items() if name.startswith("diart-mp tune")), None)
            if f"test_command_does_what_its_page_says[{key}]" in wanted:
                after = tuning if "--config" in command else None
                started[key] = pool.submit(carry_out, command, folder, after)
        yield started


@pytest.mark.parametrize("command", [shlex.join(command) for _, command in COMMANDS])
def test_command_does_what_its_page_says(command: str, under_way: dict[str, Future[Done]]) -> None:
    assert command.startswith("diart-mp ")
    done = under_way[command].result()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_pages_show_commands_and_there_is_no_dead_link() -> None:
    assert len(SHOWN) > 12
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_site_has_no_link_out_of_its_pages() -> None:
    """``mkdocs build --strict`` refuses those; where the repository is read they are of use."""
    hook = runpy.run_path(str(ROOT / "docs" / "hooks.py"))["on_page_markdown"]
    texts = [page.read_text() for page in PAGES[1:]]
    assert any("](../" in text for text in texts)
    assert not any("](../" in hook(text, page=None) for text in texts)
    assert hook("[a](../b.md) [c](d.md)") == "a [c](d.md)"


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
