"""``diart-mp top``: the pipelines that run on this machine, stage by stage."""

import json
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_S = 0.5


@click.command()
@click.option("--once", is_flag=True, help="Show one picture and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per pipeline, once.")
def command(once: bool, as_json: bool) -> None:
    """Show running pipelines: stages, pids, rates, queues, restarts, streams and their lag. Ctrl-C ends."""
    import zmq

    from diart_mp.runtime.status import ask_all

    context = zmq.Context[zmq.Socket[bytes]]()
    try:
        if as_json:
            for status in ask_all(context):
                click.echo(json.dumps(status))
        elif once:
            _print(ask_all(context))
        else:
            _watch(lambda: ask_all(context))
    finally:
        context.destroy(linger=0)


def _print(pipelines: list[dict[str, Any]]) -> None:
    from rich.console import Console

    Console().print(picture(pipelines, {}, 0.0))


def _watch(ask: Any) -> None:
    from rich.live import Live

    before: dict[tuple[str, str], int] = {}
    at = time.monotonic()
    with Live(auto_refresh=False) as live:
        while True:
            try:
                pipelines, now = ask(), time.monotonic()
                live.update(picture(pipelines, before, now - at), refresh=True)
                before, at = _done(pipelines), now
                time.sleep(_REFRESH_S)
            except KeyboardInterrupt:
                return


def _done(pipelines: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Chunks that each stage of each run has done."""
    return {
        (each["run"], stage["stage"]): stage["done"] or 0
        for each in pipelines
        for stage in (*each["stages"], *each["elsewhere"])
    }


def picture(pipelines: list[dict[str, Any]], before: dict[tuple[str, str], int], passed_s: float) -> "RenderableType":
    """Tables of stages and streams; rates come from what was done ``before``, ``passed_s`` ago."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not pipelines:
        return Text("no pipeline is running on this machine")
    tables: list[RenderableType] = []
    for pipeline in pipelines:
        table = Table(title=f"run {pipeline['run']}, up {pipeline['up_s']:.0f} s", title_justify="left", box=None)
        for name in ("stage", "pid", "chunks", "per s", "queue", "ms each", "busy s", "restarts", "state"):
            table.add_column(name, justify="left" if name in ("stage", "state") else "right")
        for stage in pipeline["stages"]:
            table.add_row(*_row(stage, before.get((pipeline["run"], stage["stage"])), passed_s))
        for stage in pipeline["elsewhere"]:
            table.add_row(*_row(_placed(stage), before.get((pipeline["run"], stage["stage"])), passed_s))
        tables.append(table)
        for name, stream in sorted(pipeline["streams"].items()):
            lag = stream.get("lag_ms")
            heard, said = stream.get("seconds", 0.0), stream.get("end", 0.0)
            behind = "" if lag is None else f", lag {lag:.0f} ms"
            tables.append(Text(f"  {name}: heard {heard:.1f} s, said {said:.1f} s{behind}"))
    return Group(*tables)


def _placed(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage that somebody else has started, in the words of those that the supervisor starts."""
    state = f"at {stage['place']}" if stage["there"] else f"not there ({stage['place']})"
    return {**stage, "pid": None, "restarts": "", "state": state}


def _row(stage: dict[str, Any], before: int | None, passed_s: float) -> list[str]:
    done = stage["done"] or 0
    rate = "" if before is None or passed_s <= 0 else f"{max(0, done - before) / passed_s:.1f}"
    each = f"{1000 * (stage['compute_s'] or 0.0) / done:.1f}" if done else ""
    waiting = (stage["queue"] or 0) + (stage["waiting"] or 0)
    state = stage.get("state") or ("ready" if stage["ready"] else "starting")
    pid = "" if stage["pid"] is None else str(stage["pid"])
    busy = f"{stage['busy_s'] or 0.0:.1f}"
    return [stage["stage"], pid, str(done), rate, str(waiting), each, busy, str(stage["restarts"]), state]
