"""``diart-mp evaluate``: a corpus through the pipeline, or turns that are there already, against their references."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click

from diart_mp.cli import options
from diart_mp.errors import OutputError, UsageError

_REPORTS = ("report.csv", "report.json", "report.html")


def corpus_options(command: options.Command) -> options.Command:
    """Which recordings, and the truth about them."""
    for option in reversed(
        [
            click.option("--reference", type=click.Path(path_type=Path), help="Folder or file with their RTTM."),
            click.option("--uem", type=click.Path(path_type=Path), help="Folder or file with the parts to score."),
            click.option("--strict", is_flag=True, help="Stop at the first recording that cannot be used."),
            click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("audio", required=False, metavar="AUDIO_DIR")
@corpus_options
@click.option("--hypothesis", type=click.Path(path_type=Path), help="Score this RTTM (folder or file); nothing is run.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder for turns and reports; made if missing.")
@click.option("--force", is_flag=True, help="Replace reports, and results of other settings or models.")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=2, show_default=True, help="Recordings at a time.")
@click.option(
    "--collar", type=click.FloatRange(0), default=0.0, show_default=True, help="Seconds around boundaries, total width."
)
@click.option("--skip-overlap", is_flag=True, help="Do not score where several people talk.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@options.pipeline_options
@options.stage_options
def command(**values: Any) -> int:
    """Diarize and score the recordings in AUDIO_DIR.

    AUDIO_DIR is a folder of audio, a Kaldi data directory (wav.scp), or a protocol of pyannote.database. Exits with 1
    if a recording had to be left out. With --output an interrupted evaluation goes on where it was.
    """
    complain = Complaints()
    report = _score(values) if values["hypothesis"] is not None else _run(values, complain)
    if values["preset"] is not None and values["hypothesis"] is None:
        report.settings["preset"] = values["preset"]
    figures = report.values()
    if values["output"] is not None:
        _write_reports(values["output"], report, figures)
    _print(values, figures)
    return complain(figures["problems"])


class Complaints:
    """Says of each recording that cannot be used why, once: before the work what is known then, after it the rest."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, problems: Mapping[str, str]) -> int:
        """Say what is new; the exit code of the command."""
        for problem in problems.values():
            if problem not in self._said:
                click.echo(f"diart-mp: error: {problem}", err=True)
        self._said.update(problems.values())
        return 1 if self._said else 0


def _score(values: Mapping[str, Any]) -> Any:
    from diart_mp.evaluation.benchmark import score_hypotheses
    from diart_mp.evaluation.corpus import open_corpus

    if values["output"] is not None:
        check_reports(values["output"], _REPORTS, force=values["force"])
    corpus = open_corpus(values["audio"], reference=values["reference"], uem=values["uem"])
    return score_hypotheses(values["hypothesis"], corpus, strict=values["strict"], scoring=_scoring(values))


def _run(values: Mapping[str, Any], complain: Complaints) -> Any:
    from diart_mp.evaluation.benchmark import Benchmark

    if values["audio"] is None:
        msg = "nothing to evaluate: name a folder of recordings, or turns that are there already with --hypothesis"
        raise UsageError(msg)
    settings, models = options.settings(values, values["start"] or "exact"), options.models(values)
    stages = options.stages(values, models)
    output = values["output"]
    if output is not None and not (output / ".evaluation").is_dir():
        check_reports(output, _REPORTS, force=values["force"])
    benchmark = Benchmark(
        values["audio"],
        values["reference"],
        output,
        uem_path=values["uem"],
        jobs=values["jobs"],
        strict=values["strict"],
        force=values["force"],
        scoring=_scoring(values),
    )
    complain(benchmark.corpus.problems)
    say_hints(values)
    models = options.with_workers(models, benchmark.audio_s)
    options.fetch_models(models)
    token = {"HF_TOKEN": values["hf_token"]} if values["hf_token"] else {}
    say = _counter(len(benchmark.corpus.recordings), quiet=values["quiet"])
    with_sigterm()
    return benchmark(settings, models, on_file=say, environment=token, stages=stages)


def say_hints(values: Mapping[str, Any]) -> None:
    """What is most likely not what somebody wants."""
    for hint in () if values["quiet"] else options.hints(values):
        click.echo(f"# {hint}", err=True)


def with_sigterm() -> None:
    """Let SIGTERM end this command as Ctrl-C does: processes are stopped, what is finished is kept."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def check_reports(output: Path, names: tuple[str, ...], *, force: bool) -> None:
    """Raise OutputError, before any work, for files that are there already and are not to be replaced."""
    existing = [output / name for name in names if os.path.lexists(output / name)]
    if existing and not force:
        msg = f"{existing[0]} exists already; name another folder or give --force"
        raise OutputError(msg)


def _counter(count: int, *, quiet: bool) -> Callable[[str, str], None]:
    """Says of each recording that it is finished."""
    number = 0

    def say(name: str, text: str) -> None:
        nonlocal number
        number += 1
        if not quiet:
            click.echo(f"# {number}/{count} {name}: {text}", err=True)

    return say


def _scoring(values: Mapping[str, Any]) -> Any:
    from diart_mp.evaluation.scores import Scoring

    return Scoring(collar=values["collar"], skip_overlap=values["skip_overlap"])


def _write_reports(output: Path, report: Any, figures: Mapping[str, Any]) -> None:
    from diart_mp.evaluation.html_report import page
    from diart_mp.evaluation.report import to_csv, to_json
    from diart_mp.outputs.lines import unwritable

    texts = (to_csv(figures), to_json(figures), page(report))
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in zip(_REPORTS, texts, strict=True):
            (output / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(output, error) from error


def _print(values: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    from diart_mp.evaluation.report import table, to_json

    if values["quiet"]:
        return
    if values["as_json"]:
        click.echo(to_json(figures), nl=False)
        return
    for line in table(figures):
        click.echo(line)
