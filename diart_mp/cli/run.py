"""``diart-mp run``: diarize recordings, a microphone or a pipe with all stages on this machine."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from diart_mp.cli import options
from diart_mp.cli.entry import INTERRUPTED
from diart_mp.cli.report import Reporter, make_view
from diart_mp.cli.sources import recorded_s, sources
from diart_mp.errors import OutputError
from diart_mp.outputs.log import EventLog
from diart_mp.topology import Job

_DRAIN_S = 1.5  # that a run has, after Ctrl-C, to finish what it has heard


@dataclass(slots=True)
class _Interrupt:
    """Whether somebody wants the run to end, and when they said so first (monotonic s)."""

    at: float | None = None
    again: bool = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.again = self.at is not None
        self.at = self.at or time.monotonic()


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@options.source_options
@options.pipeline_options
@options.stage_options
@options.place_options
@options.output_options
def command(**values: Any) -> int:
    """Diarize SOURCE...: audio files (wav, flac, ogg, mp3), folders of them, or - for raw samples on standard input.

    Without a file name, --mic listens to a microphone until Ctrl-C. Turns go to standard output, and with --output
    to files in that folder.
    """
    job, problems = _job(values)
    plan = options.plan(values)
    provision = options.provision(values, plan)
    models = options.with_workers(options.models(values, plan), recorded_s(job.sources))
    stages = options.stages(values, models)
    reference = _reference(values["reference"])
    view = make_view(as_json=values["as_json"], quiet=values["quiet"], several=len(job.sources) > 1)
    live = job.sources[0].kind == "microphone"
    options.fetch_models(models, stages)
    with view:
        log = EventLog(values["log"]) if values["log"] is not None else None
        reporter = Reporter(view, reference=reference, settings=job.settings, live=live, log=log)
        for problem in problems:
            view.note(f"left out: {problem}")
        for hint in options.hints(values) if plan is None else ():
            view.note(hint)
        interrupt = _Interrupt()
        summary = _run(
            job, models, reporter, interrupt, values["hf_token"], stages=stages, plan=plan, provision=provision
        )
        summary.failures[:0] = problems
        reporter.finish(summary)
    for failure in summary.failures:
        click.echo(f"diart-mp: error: {failure}", err=True)
    if interrupt.at is not None and not live:
        return INTERRUPTED
    return 1 if summary.failures else 0


def _run(job: Job, models: Any, reporter: Reporter, interrupt: _Interrupt, token: str | None, **chain: Any) -> Any:
    """The run itself, with Ctrl-C and SIGTERM as the wish to end it well."""
    from diart_mp.runtime.local import LocalPipeline

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup the end of the terminal is not ours
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    inherit = tuple(source.fd for source in job.sources if source.kind == "pcm")
    environment = {"HF_TOKEN": token} if token else {}
    try:
        with LocalPipeline(
            job, models, on_event=reporter.event, inherit=inherit, environment=environment, **chain
        ) as pipeline:
            return pipeline.run(_each_step(interrupt, pipeline, reporter.refresh))
    except _TimeUp:
        return pipeline.summary
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _TimeUp(Exception):  # noqa: N818  # not an error: the wish to end now
    """The run was asked to end, and the time to end well is over."""


def _each_step(interrupt: _Interrupt, pipeline: Any, refresh: Callable[[], None]) -> Callable[[], None]:
    """A function to call often: it passes the first Ctrl-C on as a drain and ends the run when that takes too long.

    Nothing has been heard yet while models are loaded: the run ends at once.
    """
    drained = False

    def check() -> None:
        nonlocal drained
        refresh()
        if interrupt.at is None:
            return
        loading = pipeline.summary.ready_at is None
        if loading or interrupt.again or time.monotonic() - interrupt.at > _DRAIN_S:
            raise _TimeUp
        if not drained:
            drained = True
            pipeline.supervisor.drain()

    return check


def _job(values: Mapping[str, Any]) -> tuple[Job, list[str]]:
    """The job that the options ask for, with everything checked that can be before a process starts.

    And what is wrong with the recordings that are no part of it.
    """
    found, problems = sources(values)
    start = values["start"] or ("early" if values["mic"] is not None else "exact")
    settings = options.settings(values, start)
    formats = options.formats(values["formats"])
    output = values["output"]
    if output is None and formats:
        output = Path()
    if output is not None:
        from diart_mp.outputs.writer import check_outputs

        formats = formats or ("rttm",)
        check_outputs(output, [source.name for source in found], formats, values["force"])
    job = Job(
        sources=found,
        settings=settings,
        output="" if output is None else str(output.absolute()),
        formats=formats,
        force=values["force"],
        jobs=values["jobs"],
    )
    return job, problems


def _reference(path: Path | None) -> dict[str, list[tuple[float, float, str]]] | None:
    if path is None:
        return None
    from diart_mp.outputs.read import load_rttm

    turns = load_rttm(path)
    if not turns:
        msg = f"the reference {path} has no turns"
        raise OutputError(msg)
    return turns
