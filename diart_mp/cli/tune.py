"""``diart-mp tune``: hyper-parameters that suit a corpus."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from diart_mp.cli import options
from diart_mp.cli.evaluate import Complaints, corpus_options, say_hints, with_sigterm
from diart_mp.errors import UsageError


@click.command()
@click.argument("audio", metavar="AUDIO_DIR")
@corpus_options
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder for the study and its results.")
@click.option("--storage", metavar="URL", help="Optuna storage, for a study that several hosts share.")
@click.option("--study", metavar="NAME", help="Name of the study; default: that of the output folder, or diart-mp.")
@click.option(
    "--hparams",
    metavar="LIST",
    help="Of tau_active,rho_update,delta_new,gamma,beta,latency. Default: the first three; adaptive: delta_new.",
)
@click.option("--num-iter", type=click.IntRange(1), default=100, show_default=True, help="Trials of the study in all.")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--sampler", type=click.Choice(["tpe", "random", "qmc"]), default="tpe", show_default=True)
@click.option("--seed", type=int, help="Of the sampler; with one job the trials are then the same each time.")
@click.option(
    "--metric",
    type=click.Choice(["der", "jer", "latency-aware"]),
    default="der",
    show_default=True,
    help="To minimize.",
)
@click.option(
    "--cache-limit",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="GB of features to keep; what was used longest ago goes first.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
@options.pipeline_options
def command(**values: Any) -> int:
    """Tune hyper-parameters on the recordings in AUDIO_DIR.

    The models run once per recording, trials only cluster. The first trial is the configuration that the options give.
    The same command goes on with a study that was interrupted, and any number of them may share a study. --output gets
    best.toml, for --config of the other commands, and two plots.
    """
    optimizer, complain = _optimizer(values), Complaints()
    complain(optimizer.corpus.problems)
    say_hints(values)
    with_sigterm()
    with _progress(values["num_iter"], shown=not values["quiet"]) as progress:
        optimizer(values["num_iter"], jobs=values["jobs"], on_trial=progress.trial, on_file=progress.file)
    result = _result(optimizer)
    optimizer.close()
    if values["output"] is not None:
        _write(values, optimizer, result)
    _print(values, result)
    return complain(optimizer.corpus.problems)


def _optimizer(values: Mapping[str, Any]) -> Any:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        msg = f"tuning needs Optuna, which cannot be imported ({error}); run: pip install 'diart-mp[tune]'"
        raise UsageError(msg) from error
    from diart_mp.evaluation.optimizer import Optimizer

    output, storage = values["output"], values["storage"]
    if output is None and storage is None:
        msg = "a study has to be kept somewhere: give --output FOLDER or --storage URL"
        raise UsageError(msg)
    if storage is not None and "://" not in storage:
        msg = f"the storage {storage!r} cannot be opened: it is no URL such as sqlite:///study.db"
        raise UsageError(msg)
    settings, models = options.settings(values, values["start"] or "exact"), options.models(values)
    options.fetch_models(models)
    return Optimizer(
        values["audio"],
        values["reference"],
        output if storage is None else storage,
        uem_path=values["uem"],
        study=values["study"] or (output.absolute().name if output is not None else None),
        hparams=_hparams(values["hparams"], settings.clustering),
        base=settings,
        models=models,
        metric=values["metric"],
        sampler=values["sampler"],
        seed=values["seed"],
        strict=values["strict"],
        cache_limit_gb=values["cache_limit"],
    )


def _hparams(text: str | None, clustering: str) -> list[str]:
    """What to tune; of the adaptive clustering, by default, only what does not need the embedding model again."""
    if text is None:
        return ["tau_active", "rho_update", "delta_new"] if clustering == "exact" else ["delta_new"]
    return [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]


class _Progress:
    """A bar on standard error, or a note now and then where that is no terminal."""

    def __init__(self, count: int, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._lines = shown and not console.is_terminal
        self._count, self._said = count, 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not shown or not console.is_terminal)
        self._task = self._bar.add_task("features", total=count)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def file(self, name: str) -> None:
        """The features of a recording are there."""
        self._bar.update(self._task, description=name)
        if self._lines:
            click.echo(f"# {name}: features are ready", err=True)

    def trial(self, done: int, best: float) -> None:
        """So many trials are done."""
        self._bar.update(self._task, completed=done, description=f"best {best:.2f} %")
        if self._lines and (done >= self._said + self._count / 10 or done == self._count) and done != self._said:
            self._said = done
            click.echo(f"# {done}/{self._count} trials, best {best:.2f} %", err=True)


def _progress(count: int, *, shown: bool) -> _Progress:
    return _Progress(count, shown=shown)


def _result(optimizer: Any) -> dict[str, Any]:
    trials = optimizer.values()
    return {
        "trials": len(trials),
        "best": {"value": round(optimizer.best_performance, 3), **optimizer.best_hparams},
        "base": {"value": round(trials[0][1], 3), **trials[0][0]},
    }


def _write(values: Mapping[str, Any], optimizer: Any, result: Mapping[str, Any]) -> None:
    """The best parameters and the plots."""
    import tomli_w

    from diart_mp.outputs.lines import unwritable

    output: Path = values["output"]
    best = {name: value for name, value in result["best"].items() if name != "value"}
    head = f"# {values['metric']} {result['best']['value']} % after {result['trials']} trials; base {result['base']['value']} %\n"
    try:
        output.mkdir(parents=True, exist_ok=True)
        text = head + tomli_w.dumps(_configuration(values, best))
        (output / "best.toml").write_text(text, encoding="utf-8")
        missing = _plot(output, optimizer, [value for _, value in optimizer.values()])
    except OSError as error:
        raise unwritable(output, error) from error
    if missing and not values["quiet"]:
        click.echo(f"# {missing}", err=True)


def _configuration(values: Mapping[str, Any], best: Mapping[str, float]) -> dict[str, Any]:
    """All that a run with these parameters has to be told, under the names of its options."""
    settings = options.settings(values, "exact")
    rate = settings.rate
    found: dict[str, Any] = {"models": values["models"], "precision": values["precision"]}
    found |= {name: values[name] for name in ("segmentation", "embedding") if values[name]}
    found |= {name: getattr(settings, name) / rate for name in ("duration", "step", "latency")}
    names = ("tau_active", "rho_update", "delta_new", "gamma", "beta", "max_speakers", "normalize_embedding_weights")
    found |= {name: getattr(settings, name) for name in names} | dict(best)
    found["clustering"] = settings.clustering
    if values["start"]:
        found["start"] = values["start"]
    return {name.replace("_", "-"): value for name, value in found.items()}


def _plot(output: Path, optimizer: Any, history: Sequence[float]) -> str:
    """Draw what can be drawn; why something is missing."""
    from diart_mp.evaluation.tune_plot import plot_history, plot_importance

    try:
        plot_history(history, output / "history.svg")
        drawn = plot_importance(optimizer.study, output / "importance.svg")
    except ImportError as error:
        return f"no plots, matplotlib cannot be imported ({error})"
    return "" if drawn else "no importances: they need trials that differ, and scikit-learn"


def _print(values: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    if values["quiet"]:
        return
    if values["as_json"]:
        import json

        click.echo(json.dumps(result))
        return
    for title in ("base", "best"):
        shown = {name: value for name, value in result[title].items() if name != "value"}
        click.echo(f"{title} {result[title]['value']:7.2f} %  " + "  ".join(f"{k} {v:.4f}" for k, v in shown.items()))
