"""A corpus through the pipeline, several recordings at a time, and scored: ``Benchmark`` in Python, ``evaluate`` as a command.

    report = Benchmark("audio", "rttm", output_path="out", jobs=2)(Settings.from_seconds(latency=2.0))
    print(report.values()["total"]["der"])

With an output folder each finished recording is kept there at once, so that the next run with the same settings, models
and audio goes on where this one ended. Runs in the command; the stages are processes of their own.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from diart_mp import __version__
from diart_mp.config import Settings
from diart_mp.errors import AudioError, DiartMpError, UsageError
from diart_mp.evaluation.corpus import Corpus, Parts, Recording, Turns, load_hypotheses, open_corpus
from diart_mp.evaluation.finished import Finished, FinishedFolder
from diart_mp.evaluation.scores import Score, Scoring, Streaming, file_values, score, streaming, total_values
from diart_mp.outputs.events import update_from_dict
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.stitching import Stitcher
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig, StageConfig
from diart_mp.turns import Update

_SHORT_S = 0.1  # by which a recording may fall short of what its header says
OnFile = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class FileResult:
    """One recording: both sides in seconds, what was scored, and how it went.

    hypothesis: what was said at once. revised: the score of the turns as they are known in the end, which the output folder
    has, and known: these turns; None where nothing was taken back.
    """

    reference: Turns
    hypothesis: Turns
    duration: float | None
    uem: Parts | None
    score: Score
    streaming: Streaming | None
    revised: Score | None = None
    known: Turns | None = None


@dataclass(slots=True)
class Evaluation:
    """All recordings that were scored, why others were not (a line each), and what the figures hold for.

    settings: models and hyper-parameters, as far as anything was run, and how errors were counted, as JSON values.
    """

    files: dict[str, FileResult] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    work_s: float = 0.0
    scoring: Scoring = field(default_factory=Scoring)
    settings: dict[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The report as JSON values: ``settings``, ``files``, ``total``, ``problems``; rates in percent."""
        results = {name: self.files[name] for name in sorted(self.files)}
        files = {name: file_values(each.score, each.streaming, each.revised) for name, each in results.items()}
        scores, streams = [each.score for each in results.values()], [each.streaming for each in results.values()]
        total = total_values(scores, streams, self.work_s, [each.revised for each in results.values()])
        problems = dict(sorted(self.problems.items()))
        return {"settings": self.settings, "files": files, "total": total, "problems": problems}


class Benchmark:
    """Evaluates settings and models on one corpus; ``corpus`` is what it found.

    Args:
        speech_path: folder of audio, Kaldi data directory or protocol of pyannote.database.
        reference_path: folder or file with the RTTM of the recordings (protocols bring their own).
        output_path: folder for turns and for the results of finished recordings.
        uem_path: folder or file with the parts to score; None: the whole recordings.
        jobs: recordings at a time.
        strict: stop at the first recording that cannot be used.
        force: replace results of other settings in the output folder.
        scoring: collar and overlap.

    Raises:
        UsageError, AudioError: nothing to evaluate; with ``strict``, anything that is missing or broken.

    """

    def __init__(
        self,
        speech_path: str | Path,
        reference_path: str | Path | None = None,
        output_path: str | Path | None = None,
        *,
        uem_path: str | Path | None = None,
        jobs: int = 2,
        strict: bool = False,
        force: bool = False,
        scoring: Scoring | None = None,
    ) -> None:
        reference, uem = (None if path is None else Path(path) for path in (reference_path, uem_path))
        self.corpus = open_corpus(str(speech_path), reference=reference, uem=uem)
        self._strict = strict
        self._output = None if output_path is None else Path(output_path)
        self._jobs, self._force, self._scoring = jobs, force, scoring or Scoring()
        check_corpus(self.corpus, strict=strict)

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the corpus, as far as headers tell."""
        return sum(_duration(recording) or 0.0 for recording in self.corpus.recordings.values())

    def __call__(
        self,
        settings: Settings | None = None,
        models: Models | None = None,
        *,
        on_file: OnFile = lambda name, text: None,
        environment: Mapping[str, str] | None = None,
        stages: Sequence[StageConfig] | None = None,
    ) -> Evaluation:
        """Diarize what is not finished yet and score everything. Raises StageError where the pipeline cannot go on.

        ``on_file`` is told of each recording that ended: its name and how (a line). ``stages``: another chain than the
        default one.
        """
        settings, models = settings or Settings(), models or Models()
        folder: FinishedFolder | None = None
        if self._output:
            folder = FinishedFolder(self._output, settings, models, stages=stages or (), force=self._force)
        recordings = self.corpus.recordings
        done = folder.load(recordings) if folder else {}
        for name in done:
            on_file(name, "was done before")
        described = describe(self._scoring, settings, models, stages)
        result = Evaluation(problems=dict(self.corpus.problems), scoring=self._scoring, settings=described)
        run = _Run(recordings, settings, folder, strict=self._strict, on_file=on_file)
        try:
            if len(done) < len(recordings):
                run.to_the_end(
                    models, [name for name in recordings if name not in done], self._jobs, environment or {}, stages
                )
        finally:
            if folder:
                folder.worked(run.work_s)
        result.work_s = folder.work_s if folder else run.work_s
        result.problems |= run.problems
        for name, finished in {**done, **run.finished}.items():
            result.files[name] = _result(recordings[name], finished, settings, self._scoring)
        return result


def describe(
    scoring: Scoring,
    settings: Settings | None = None,
    models: Models | None = None,
    stages: Sequence[StageConfig] | None = None,
) -> dict[str, Any]:
    """What figures hold for, as JSON values; durations in seconds."""
    values: dict[str, Any] = {"version": __version__, **asdict(scoring)}
    if models is not None:
        names = ("segmentation", "embedding", "device", "precision")
        values["models"] = {name: getattr(models, name) for name in names}
    if settings is not None:
        lengths = {name: getattr(settings, name) / settings.rate for name in ("duration", "step", "latency")}
        values["hyper_parameters"] = settings.to_map() | lengths
    if stages:
        values["stages"] = [
            {"name": each.name, "implementation": each.implementation, "options": dict(each.options)} for each in stages
        ]
    return values


def check_corpus(corpus: Corpus, *, strict: bool) -> None:
    """Raise AudioError if nothing is left, or (``strict``) anything is missing."""
    if corpus.problems and (strict or not corpus.recordings):
        first, count = next(iter(corpus.problems.values())), len(corpus.problems)
        others = f" (and {count - 1} more recordings cannot be used)" if count > 1 else ""
        raise AudioError(first + others)
    if not corpus.recordings:
        msg = "there is nothing to evaluate: no recording has a reference"
        raise UsageError(msg)


def score_hypotheses(
    hypothesis: Path, corpus: Corpus, *, strict: bool = False, scoring: Scoring | None = None
) -> Evaluation:
    """Score turns that are there already (a folder of RTTM, or one file); no audio is read."""
    turns = load_hypotheses(hypothesis, corpus)
    check_corpus(corpus, strict=strict)
    scoring = scoring or Scoring()
    result = Evaluation(problems=dict(corpus.problems), scoring=scoring, settings=describe(scoring))
    for name, recording in corpus.recordings.items():
        length = None if recording.audio is None else _duration(recording)
        found = score(recording.reference, turns[name], duration=length, uem=recording.uem, scoring=scoring)
        result.files[name] = FileResult(recording.reference, turns[name], length, recording.uem, found, None)
    return result


class _Run:
    """The recordings on their way through one pipeline."""

    def __init__(
        self,
        recordings: Mapping[str, Recording],
        settings: Settings,
        folder: FinishedFolder | None,
        *,
        strict: bool,
        on_file: OnFile,
    ) -> None:
        self._recordings, self._settings, self._folder = recordings, settings, folder
        self._strict, self._on_file = strict, on_file
        self._updates: dict[str, list[Update]] = {}
        self._starts: dict[str, float] = {}
        self._orphans: list[str] = []  # failures that name no recording
        self._ready_at: float | None = None
        self._waiting: list[str] = []
        self._jobs = 1
        self.finished: dict[str, Finished] = {}
        self.problems: dict[str, str] = {}

    @property
    def work_s(self) -> float:
        """Seconds since the models were loaded."""
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    def to_the_end(
        self,
        models: Models,
        names: Sequence[str],
        jobs: int,
        environment: Mapping[str, str],
        stages: Sequence[StageConfig] | None,
    ) -> None:
        """Diarize the recordings of these names."""
        sources = tuple(
            SourceConfig(kind="file", name=name, path=str(Path(self._recordings[name].audio or "").absolute()))
            for name in names
        )
        self._waiting, self._jobs = list(names), jobs
        job = Job(sources=sources, settings=self._settings, jobs=jobs)
        with LocalPipeline(job, models, on_event=self._event, environment=environment, stages=stages) as pipeline:
            pipeline.run()
        for name in names:
            if name not in self.finished and name not in self.problems:
                why = next(
                    (text for text in self._orphans if str(self._recordings[name].audio) in text), "it was not opened"
                )
                self._fail(name, f"{name}: not diarized: {why}")

    def _event(self, event: Mapping[str, Any]) -> None:
        name = str(event.get("stream", ""))
        match event["event"]:
            case "ready":
                self._ready_at = time.monotonic()
                self._starts = dict.fromkeys(self._waiting[: self._jobs], self._ready_at)
                del self._waiting[: self._jobs]
            case "result":
                update = update_from_dict(event["update"], rate=event["rate"])
                self._updates.setdefault(update.stream, []).append(update)
            case "failed" if not name:
                self._orphans.append(str(event["text"]))
            case "failed" | "error":
                self._fail(name, f"{name}: left out, not all of it was diarized: {event['text']}")
            case "done" if name not in self.problems:
                self._done(name, event["seconds"])

    def _done(self, name: str, seconds: float) -> None:
        expected = _duration(self._recordings[name])
        if expected is not None and seconds < expected - _SHORT_S:
            text = f"{name}: left out, it ends after {seconds:.1f} s of the {expected:.1f} s that its header promises"
            self._fail(name, text)
            return
        now = time.monotonic()
        work = now - self._starts.get(name, self._ready_at or now)
        self._next_starts(now)
        self.finished[name] = Finished(self._updates.pop(name, []), seconds, work)
        if self._folder:
            self._folder.save(self._recordings[name], self.finished[name])
            self._folder.worked(self.work_s)
        self._on_file(name, f"{seconds:.0f} s in {work:.1f} s")

    def _next_starts(self, now: float) -> None:
        """One recording has ended, so that the next one begins."""
        if self._waiting:
            self._starts[self._waiting.pop(0)] = now

    def _fail(self, name: str, text: str) -> None:
        if name not in self.problems:
            self.problems[name] = text
            self._updates.pop(name, None)
            self._on_file(name, text)
            if self._strict:
                raise AudioError(text)


def _duration(recording: Recording) -> float | None:
    """What the header of the audio says (s); None where it leaves the length open or cannot be read."""
    from diart_mp.audio.file import check

    try:
        return check(recording.audio or "").duration
    except DiartMpError:
        return None


def _result(recording: Recording, finished: Finished, settings: Settings, scoring: Scoring) -> FileResult:
    length = finished.audio_s
    rated = partial(score, recording.reference, duration=length, uem=recording.uem, scoring=scoring)
    hypothesis, known = turns_of(finished.updates, settings.rate), _known(finished.updates, settings.rate)
    live = streaming(finished.updates, settings, audio_s=length, work_s=finished.work_s)
    revised = None if known is None else rated(known)
    return FileResult(recording.reference, hypothesis, length, recording.uem, rated(hypothesis), live, revised, known)


def turns_of(updates: Sequence[Update], rate: int) -> Turns:
    """The turns in seconds, as they were said."""
    stitcher = Stitcher(rate)
    turns = [turn for update in updates for turn in stitcher.push(update)] + stitcher.finish()
    return [(turn.start / rate, turn.end / rate, turn.speaker) for turn in turns]


def _known(updates: Sequence[Update], rate: int) -> Turns | None:
    """The turns as they are known in the end; None where nothing was taken back."""
    known = RevisedTurns(rate)
    for update in updates:
        known.push(update)
    return [(turn.start / rate, turn.end / rate, turn.speaker) for turn in known.turns()] if known.revised else None
