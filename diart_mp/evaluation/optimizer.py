"""Hyper-parameters that suit a corpus: ``Optimizer`` in Python, ``tune`` as a command.

    optimizer = Optimizer("audio", "rttm", "study")                # a folder, or the URL of an Optuna storage
    optimizer(num_iter=100, jobs=2)
    print(optimizer.best_performance, optimizer.best_hparams)

The models run once per recording (``evaluation.features``), a trial clusters. The first trial is the base configuration. A
study belongs to all processes that open it, here and on other hosts, and ends with as many trials as were asked for.
Runs in the command; further ``jobs`` are processes of ``evaluation.worker``.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from diart_mp.config import Settings, check_names
from diart_mp.errors import StageError, UsageError
from diart_mp.evaluation.benchmark import check_corpus
from diart_mp.evaluation.corpus import open_corpus
from diart_mp.evaluation.feature_files import LIMIT_GB
from diart_mp.evaluation.features import FeatureCache
from diart_mp.evaluation.trials import Trials, failures_of
from diart_mp.evaluation.tuning import Objective, bounds, values_of
from diart_mp.runtime.local import Models

SAMPLERS = ("tpe", "random", "qmc")
HPARAMS = ("tau_active", "rho_update", "delta_new")
IDLE = ("rho_update", "gamma", "beta")
"""What has no meaning with adaptive clustering."""

OnTrial = Callable[[int, float], None]
OnFile = Callable[[str], None]


class Optimizer:
    """Tunes ``hparams`` on one corpus.

    Args:
        speech_path: as for ``Benchmark``.
        reference_path: folder or file with the RTTM of the recordings.
        study_or_path: folder for ``study.db``, made if missing, or the URL of an Optuna storage.
        uem_path: folder or file with the parts to score.
        study: name of the study; default: that of the folder, or ``diart-mp``.
        hparams: what to tune (see ``tuning.BOUNDS``).
        base: everything else, and the first trial.
        models: segmentation and embedding.
        metric: ``der``, ``jer`` or ``latency-aware``.
        sampler: ``tpe``, ``random`` or ``qmc``.
        seed: of the sampler; with one job the trials are the same each time.
        strict: stop at the first recording that cannot be used.
        cache: folder of the features.
        cache_limit_gb: how much of them to keep.

    Raises:
        UsageError, AudioError: nothing to tune on, or options that make no sense.

    """

    def __init__(
        self,
        speech_path: str | Path,
        reference_path: str | Path | None,
        study_or_path: str | Path,
        *,
        uem_path: str | Path | None = None,
        study: str | None = None,
        hparams: Sequence[str] = HPARAMS,
        base: Settings | None = None,
        models: Models | None = None,
        metric: str = "der",
        sampler: str = "tpe",
        seed: int | None = None,
        strict: bool = False,
        cache: Path | None = None,
        cache_limit_gb: float = LIMIT_GB,
    ) -> None:
        base, models = base or Settings(), models or Models()
        check_names({sampler: None}, dict.fromkeys(SAMPLERS), "sampler")
        if not hparams:
            msg = "there is nothing to tune: name at least one hyper-parameter"
            raise UsageError(msg)
        idle = [name for name in hparams if base.clustering == "adaptive" and name in IDLE]
        if idle:
            msg = f"{' and '.join(idle)} cannot be tuned: adaptive clustering does not look at {'/'.join(IDLE)}"
            raise UsageError(msg)
        self._ranges = {name: bounds(name, base) for name in hparams}
        self._spec: dict[str, Any] = {
            "speech_path": str(speech_path),
            "reference_path": None if reference_path is None else str(reference_path),
            "study_or_path": _url(study_or_path),
            "uem_path": None if uem_path is None else str(uem_path),
            "study": study or _study_name(study_or_path),
            "hparams": list(hparams),
            "base": base.to_map(),
            "models": asdict(models),
            "metric": metric,
            "sampler": sampler,
            "seed": seed,
            "strict": strict,
            "cache": None if cache is None else str(cache),
            "cache_limit_gb": cache_limit_gb,
        }
        reference, uem = (None if path is None else Path(path) for path in (reference_path, uem_path))
        self.corpus = open_corpus(str(speech_path), reference=reference, uem=uem)
        check_corpus(self.corpus, strict=strict)
        features = FeatureCache(models, cache, limit_gb=cache_limit_gb)
        self._objective = Objective(self.corpus, base, models, metric=metric, cache=features)
        self._first, self._strict = values_of(base, hparams), strict
        self._trials: Trials | None = None

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """The optimizer that another process has, from its ``_spec`` as it came through JSON."""
        values = dict(spec)
        values["base"], values["models"] = Settings.from_map(values["base"]), Models(**values["models"])
        values["cache"] = None if values["cache"] is None else Path(values["cache"])
        return cls(values.pop("speech_path"), values.pop("reference_path"), values.pop("study_or_path"), **values)

    def __call__(
        self,
        num_iter: int = 100,
        *,
        jobs: int = 1,
        on_trial: OnTrial = lambda done, best: None,
        on_file: OnFile = lambda name: None,
    ) -> Self:
        """Go on until the study has ``num_iter`` trials, with ``jobs`` processes, this one among them.

        ``on_trial`` is told how many trials are done and the best value so far, ``on_file`` which recording is ready.
        """
        with failures_of(self._spec["study_or_path"]):
            with self._workers(num_iter, jobs) as workers:
                self._objective.prepare(on_file, strict=self._strict)
                self._trials = self._open(num_iter, several=jobs > 1)
                self._work(self._trials, on_trial)
            _tell(self._trials, on_trial)  # the last trial may have been another process's
        failed = [worker.returncode for worker in workers if worker.returncode]
        if failed:
            msg = f"{len(failed)} of {len(workers)} workers ended early (exit code {failed[0]}); the others did their trials"
            raise StageError(msg)
        return self

    @property
    def best_performance(self) -> float:
        """The lowest value of all trials, in percent."""
        return float(self.study.best_value)

    @property
    def best_hparams(self) -> dict[str, float]:
        """The hyper-parameters of the trial with the lowest value."""
        return dict(self.study.best_params)

    def close(self) -> None:
        """Let go of the storage's connections."""
        if self._trials is not None:
            self._trials.close()

    def values(self) -> list[tuple[dict[str, float], float]]:
        """Hyper-parameters and value of each finished trial, by number; the first is the base configuration."""
        done = sorted(self._opened().done(), key=lambda trial: trial.number)
        return [(dict(trial.params), float(trial.value or 0.0)) for trial in done]

    @property
    def study(self) -> Any:
        """The Optuna study as it is now."""
        return self._opened().study

    def _opened(self) -> Trials:
        if self._trials is None:
            msg = "the optimizer has not run yet; call it first"
            raise UsageError(msg)
        return self._trials

    def _open(self, num_iter: int, *, several: bool) -> Trials:
        setup = json.loads(json.dumps({**self._objective.setup(), "hparams": self._ranges}))
        return Trials(
            self._spec["study_or_path"],
            self._spec["study"],
            count=num_iter,
            setup=setup,
            first=self._first,
            sampler=_sampler(self._spec["sampler"], self._spec["seed"], several=several),
        )

    def _work(self, trials: Trials, on_trial: OnTrial) -> None:
        """Do trials until none is left."""
        while (trial := trials.claim()) is not None:
            try:
                values = {name: trial.suggest_float(name, *self._ranges[name]) for name in self._ranges}
                trials.finish(trial, self._objective(values))
            except BaseException:
                trials.release(trial)
                raise
            _tell(trials, on_trial)

    @contextmanager
    def _workers(self, num_iter: int, jobs: int) -> Iterator[list[subprocess.Popen[str]]]:
        """The further processes, which end with this one: at the end of their standard input."""
        workers: list[subprocess.Popen[str]] = []
        try:
            for number in range(1, jobs):
                seed = None if self._spec["seed"] is None else self._spec["seed"] + number
                workers.append(_start({**self._spec, "seed": seed, "num_iter": num_iter}))
            yield workers
            for worker in workers:
                worker.wait()
        finally:
            for worker in workers:
                worker.terminate()
                worker.communicate()


def _tell(trials: Trials, on_trial: OnTrial) -> None:
    done = trials.done()
    if done:
        on_trial(len(done), min(float(each.value or 0.0) for each in done))


def _start(spec: Mapping[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "diart_mp.evaluation.worker"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)  # noqa: S603  # our own module
    if worker.stdin is not None:
        worker.stdin.write(json.dumps(spec) + "\n")
        worker.stdin.flush()
    return worker


def _url(study_or_path: str | Path) -> str:
    """The storage of a study in a folder; a URL as it is."""
    text = str(study_or_path)
    if "://" in text:
        return text
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror}"
        raise UsageError(msg) from error
    return f"sqlite:///{folder.absolute() / 'study.db'}"


def _study_name(study_or_path: str | Path) -> str:
    return "diart-mp" if "://" in str(study_or_path) else Path(study_or_path).absolute().name


def _sampler(name: str, seed: int | None, *, several: bool) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if name == "qmc":
            return optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=several)
