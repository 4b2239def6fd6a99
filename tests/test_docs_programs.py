"""Python of README and docs is run, as written."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.doc_pages import PAGES, Done, blocks, fill

PROGRAMS = [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))]
AT_A_TIME = 3  # a pipeline that starts waits more than it works
LESS = {"num_iter=200": "num_iter=3"}


def carry_out(page: Path, number: int, folder: Path) -> Done:
    program = blocks(page, "python")[number]
    for much, little in LESS.items():
        program = program.replace(much, little)
    file = folder / f"program_{page.stem}_{number}.py"
    file.write_text(program)
    return subprocess.run([sys.executable, file.name], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def under_way(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Done]]]:
    """All programs whose tests are to run, some at a time."""
    folder = fill(tmp_path_factory.mktemp("docs"))
    wanted = {item.name for item in request.session.items}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            f"{page.name}-{number}": pool.submit(carry_out, page, number, folder)
            for page, number in PROGRAMS
            if f"test_python_of_a_page_runs[{page.name}-{number}]" in wanted
        }


@pytest.mark.parametrize("program", [f"{page.name}-{number}" for page, number in PROGRAMS])
def test_python_of_a_page_runs(program: str, under_way: dict[str, Future[Done]]) -> None:
    done = under_way[program].result()
    page, _, number = program.rpartition("-")
    assert done.returncode == 0, done.stderr
    (shown,) = [blocks(each, "python")[int(number)] for each in PAGES if each.name == page]
    assert bool(done.stdout) == ("print(" in shown)


def test_there_are_programs() -> None:
    pages = {page.stem for page, _ in PROGRAMS}
    assert {"own_stage", "blocks", "migration", "optional_stages", "models", "evaluating"} <= pages
