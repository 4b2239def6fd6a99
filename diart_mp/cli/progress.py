"""A progress bar for what is fetched before a command can begin; plain lines where standard error is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]


@contextmanager
def fetching() -> Iterator[Progress]:
    """Gives a function to call with what is fetched, the bytes so far and the bytes in all."""
    if not sys.stderr.isatty():
        named: set[str] = set()

        def line(what: str, done: int, total: int) -> None:
            if what not in named:
                named.add(what)
                sys.stderr.write(f"fetching {what} ({total / 1e6:.0f} MB)\n")

        yield line
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}

        def draw(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"fetching {what}", total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield draw
