"""The recordings of an evaluation with their references and the parts to score, from wherever they are kept.

A folder of audio with a folder (or one file) of RTTM, a Kaldi data directory, or a protocol of pyannote.database. What
is missing is found here, before any audio is processed. Knows nothing of models or scores. Runs in the command.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diart_mp.errors import AudioError, DiartMpError, UsageError
from diart_mp.outputs.names import one_field
from diart_mp.outputs.read import load_rttm, load_uem

Turns = list[tuple[float, float, str]]
Parts = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: its audio (None if only turns are scored), the truth, and the parts to score (None: all)."""

    name: str
    audio: Path | None
    reference: Turns
    uem: Parts | None


@dataclass(slots=True)
class Corpus:
    """The recordings that can be evaluated, by name, and why others cannot (a line each, by name)."""

    recordings: dict[str, Recording] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def open_corpus(
    audio: str | None, *, reference: Path | None = None, uem: Path | None = None, rate: int = 16_000
) -> Corpus:
    """The corpus at ``audio`` (see the module); without it, all that has a reference.

    ``reference``, ``uem``: a folder with one file per recording, or one file with all of them. Raises UsageError or
    AudioError if there is nothing to evaluate.
    """
    if audio is not None and not Path(audio).exists() and audio.count(".") >= 2:
        return _of_protocol(audio, rate)
    paths, found = _recordings(audio, rate)
    if reference is None:
        reference = Path(audio or "") / "rttm"
        if not reference.is_file():
            msg = "--reference is missing: name the folder or the file with the RTTM of the recordings"
            raise UsageError(msg)
    references = _Annotations(reference, ".rttm", load_rttm)
    uems = _Annotations(uem, ".uem", load_uem) if uem is not None else None
    if audio is None:
        paths = dict.fromkeys(references.names)
    for name, path in paths.items():
        try:
            parts = uems.of(name) if uems is not None else None
            found.recordings[name] = Recording(name, path, references.of(name), parts)
        except UsageError as error:
            found.problems[name] = str(error)
    return found


def load_hypotheses(path: Path, corpus: Corpus) -> dict[str, Turns]:
    """The turns to score for each recording of the corpus; those that have none become problems."""
    hypotheses = _Annotations(path, ".rttm", load_rttm)
    turns: dict[str, Turns] = {}
    for name in list(corpus.recordings):
        try:
            turns[name] = hypotheses.of(name)
        except UsageError as error:
            corpus.problems[name] = str(error)
            del corpus.recordings[name]
    known = {one_field(name) for name in (*corpus.recordings, *corpus.problems)}
    for name in hypotheses.names:
        if one_field(name) not in known:
            corpus.problems[name] = f"{name}: there is no reference for this hypothesis"
    return turns


class _Annotations:
    """What is written of recordings, one file per recording in a folder or all in one file."""

    def __init__(self, path: Path, suffix: str, load: Callable[[Path], dict[str, Any]]) -> None:
        self._path, self._suffix, self._load = path, suffix, load
        files = sorted(each for each in path.iterdir() if each.suffix == suffix) if path.is_dir() else [path]
        whole = load(files[0]) if len(files) == 1 else {}
        self._all = whole if not path.is_dir() or len(whole) > 1 else None
        self.names = [each.stem for each in files] if self._all is None else sorted(self._all)
        if not self.names:
            msg = f"{path} holds no {suffix[1:].upper()}"
            raise UsageError(msg)

    def of(self, name: str) -> Any:
        """Of one recording; UsageError if there is nothing or it cannot be read."""
        kind = self._suffix[1:].upper()
        if self._all is not None:
            if one_field(name) not in self._all:
                msg = f"{name}: nothing about it in {self._path}, which knows {len(self._all)} recordings"
                raise UsageError(msg)
            return self._all[one_field(name)]
        file = self._path / f"{name}{self._suffix}"
        if not file.is_file():
            msg = f"{name}: there is no {kind} {file}"
            raise UsageError(msg)
        found = self._load(file)
        if one_field(name) in found:
            return found[one_field(name)]
        if len(found) == 1:
            return next(iter(found.values()))
        if not found and not file.read_text(encoding="utf-8").strip():
            return []  # nobody speaks
        msg = f"{file} is about {', '.join(sorted(found)[:3]) or 'nothing'}, not about {name}"
        raise UsageError(msg)


def _recordings(audio: str | None, rate: int) -> tuple[dict[str, Path | None], Corpus]:
    """The audio files by name, and a corpus that has no recording yet but the problems of those that are no good."""
    from diart_mp.audio.folder import recordings_in

    corpus, paths = Corpus(), dict[str, Path | None]()
    if audio is None:
        return paths, corpus
    folder = Path(audio)
    listed = _wav_scp(folder) if (folder / "wav.scp").is_file() else [(p.stem, p) for p in recordings_in(folder)]
    for name, path in listed:
        if name in paths:
            corpus.problems[path.name] = f"{path}: there is another recording called {name}"
            continue
        try:
            _check_whole(path, rate)
            paths[name] = path
        except DiartMpError as error:
            corpus.problems[name] = str(error)
    return paths, corpus


def _check_whole(path: Path, rate: int) -> None:
    """Raise AudioError for a recording that cannot be read, has no audio, or lacks some by its header."""
    from diart_mp.audio.file import FileSource

    with FileSource(path, rate=rate) as source:
        complaints = [*source.warnings(), *([f"{path}: holds no audio (0 s)"] if source.info.frames == 0 else [])]
    if complaints:
        raise AudioError(complaints[0])


def _wav_scp(folder: Path) -> list[tuple[str, Path]]:
    """``NAME PATH`` lines of a Kaldi data directory; relative paths count from there, commands with a pipe do not work."""
    try:
        lines = (folder / "wav.scp").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{folder / 'wav.scp'} cannot be read as text in UTF-8 ({getattr(error, 'strerror', None) or error})"
        raise UsageError(msg) from error
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    for pair in pairs:
        if len(pair) != 2 or pair[1].rstrip().endswith("|"):
            msg = f"{folder / 'wav.scp'}: '{' '.join(pair):.60}' is not 'NAME PATH'; write commands out to files first"
            raise UsageError(msg)
    return [(name, folder / path.strip()) for name, path in pairs]


def _of_protocol(name: str, rate: int) -> Corpus:
    """A protocol of pyannote.database, ``Database.SpeakerDiarization.Protocol[.subset]``; the subset is test if not said."""
    try:
        with redirect_stdout(sys.stderr):  # it tells there what it has found
            from pyannote.database import FileFinder, registry
    except ImportError as error:
        msg = (
            f"{name} is no folder, and protocols need pyannote.database ({error}); run: pip install 'diart-mp[models]'"
        )
        raise UsageError(msg) from error
    database, task, protocol, *rest = name.split(".")
    subset = rest[0] if rest else "test"
    corpus = Corpus()
    try:
        found = registry.get_protocol(f"{database}.{task}.{protocol}", preprocessors={"audio": FileFinder()})
        files = list(getattr(found, subset)())
    except (ValueError, KeyError, AttributeError, NotImplementedError, FileNotFoundError) as error:
        msg = f"{name} is neither a folder nor a protocol that pyannote.database can open ({_one_line(error)})"
        raise UsageError(msg) from error
    for file in files:
        uri = str(file["uri"])
        try:
            recording = _of_protocol_file(uri, file)
            _check_whole(Path(recording.audio or ""), rate)
            corpus.recordings[uri] = recording
        except DiartMpError as error:
            corpus.problems[uri] = str(error)
        except (KeyError, FileNotFoundError, ValueError) as error:
            corpus.problems[uri] = f"{uri}: incomplete in {name} ({_one_line(error)})"
    return corpus


def _one_line(error: Exception) -> str:
    """What pyannote.database says, whose sentences have line breaks in them."""
    return " ".join(str(error).split())


def _of_protocol_file(uri: str, file: Mapping[str, Any]) -> Recording:
    tracks = file["annotation"].itertracks(yield_label=True)
    turns = [(float(segment.start), float(segment.end), str(label)) for segment, _, label in tracks]
    annotated = file.get("annotated")
    parts = None if annotated is None else [(float(part.start), float(part.end)) for part in annotated]
    return Recording(uri, Path(str(file["audio"])), turns, parts)
