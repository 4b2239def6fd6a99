"""Enrolled speakers: names with the embeddings of their voices, in one file that can be carried anywhere.

    {"version": 1, "embedding": "builtin", "dimension": 256, "speakers": [{"name": "Ann", "embeddings": [[0.1, ...], ...]}]}

JSON, so that any program can read and write it; ``embedding`` is the reference of the model that the numbers come from, which is
the only one that they mean anything to. Every embedding has unit length. Knows nothing of audio, models or streams. Runs in the
command that enrols and in the identify stage.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import OutputError, UsageError

VERSION = 1
_MAX_SPEAKERS, _MAX_EMBEDDINGS = 10_000, 1000  # of a file, of one speaker
_MAX_NAME = 256  # characters, as of a speaker in a turn
_MAX_DIMENSION = 8192
_NOBODY = re.compile(r"speaker\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledSpeakers:
    """Voices by name: arrays (embeddings, dimension) float32 of unit rows, made by the model ``embedding``."""

    embedding: str = "builtin"
    voices: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def dimension(self) -> int | None:
        """Length of an embedding; None while nobody is enrolled."""
        return next((voice.shape[1] for voice in self.voices.values()), None)

    def add(self, name: str, embeddings: NDArray[np.floating]) -> Self:
        """A copy with more ``embeddings`` (n, dimension) of a speaker, known or new; UsageError if they do not fit."""
        self.check_name(name)
        rows = _unit(embeddings)
        if self.dimension not in (None, rows.shape[1]):
            msg = f"embeddings of {name} have {rows.shape[1]} numbers, those of the file {self.dimension}"
            raise UsageError(msg)
        known = self.voices.get(name, np.zeros((0, rows.shape[1]), np.float32))
        return replace(self, voices={**self.voices, name: np.concatenate([known, rows])[-_MAX_EMBEDDINGS:]})

    def remove(self, name: str) -> Self:
        """A copy without a speaker."""
        return replace(self, voices={known: voice for known, voice in self.voices.items() if known != name})

    def check_model(self, embedding: str, path: Path) -> None:
        """UsageError unless ``embedding`` is the model that the numbers come from."""
        if embedding != self.embedding:
            msg = f"the speakers in {path} were enrolled with the embedding model '{self.embedding}', not '{embedding}'; numbers of different models cannot be compared"
            raise UsageError(msg)

    def save(self, path: Path) -> None:
        """Write the file as a whole, readable by its owner alone: it is there completely or not at all. OutputError."""
        speakers = [
            {"name": name, "embeddings": [[float(f"{number:.7g}") for number in row] for row in rows]}
            for name, rows in self.voices.items()
        ]
        values = {"version": VERSION, "embedding": self.embedding, "dimension": self.dimension, "speakers": speakers}
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.touch(0o600)
            draft.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            msg = f"cannot write the speakers to {path}: {error.strerror or error}"
            raise OutputError(msg) from error

    @staticmethod
    def check_name(name: str) -> None:
        """UsageError unless ``name`` may be that of an enrolled speaker."""
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
            msg = f"{name!r:.80} is no name: up to {_MAX_NAME} printable characters, no space at its ends"
            raise UsageError(msg)
        if _NOBODY.fullmatch(name):
            msg = f"'{name}' is what somebody is called whom nobody knows; give another name"
            raise UsageError(msg)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The speakers in a file; UsageError, one line, if it cannot be read or is not one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            msg = f"there is no file of speakers {path}; run: diart-mp speakers enroll NAME FILE... --speakers {path}"
            raise UsageError(msg) from error
        except OSError as error:
            msg = f"cannot read the speakers in {path}: {error.strerror or error}"
            raise UsageError(msg) from error
        except ValueError as error:
            msg = f"{path} is no file of speakers: {error}"
            raise UsageError(msg) from error
        try:
            return cls._from_json(values)
        except UsageError as error:
            msg = f"{path} is no file of speakers: {error}"
            raise UsageError(msg) from error

    @classmethod
    def _from_json(cls, values: Any) -> Self:
        match values:
            case {"version": version, "embedding": str(embedding), "speakers": list(rows)} if version == VERSION:
                if len(rows) > _MAX_SPEAKERS:
                    msg = f"{len(rows)} speakers are more than the {_MAX_SPEAKERS} that a file may hold"
                    raise UsageError(msg)
            case _:
                msg = f"'version': {VERSION}, 'embedding' and 'speakers' are needed"
                raise UsageError(msg)
        speakers = cls(embedding=embedding)
        voices = dict[str, NDArray[np.float32]]()
        for row in rows:
            match row:
                case {"name": str(name), "embeddings": list(numbers)} if name not in voices:
                    voices[name] = speakers.add(name, _matrix(name, numbers)).voices[name]
                case _:
                    msg = f"a speaker needs a 'name' of its own and 'embeddings', not {row!r:.60}"
                    raise UsageError(msg)
        if len({voice.shape[1] for voice in voices.values()}) > 1:
            msg = "its speakers have embeddings of different lengths"
            raise UsageError(msg)
        return replace(speakers, voices=voices)


def default_file() -> Path:
    """``speakers.json`` in the user's data folder (``DIART_MP_SPEAKERS`` names another file)."""
    from platformdirs import user_data_path

    named = os.environ.get("DIART_MP_SPEAKERS")
    return Path(named) if named else user_data_path("diart-mp") / "speakers.json"


def _matrix(name: str, numbers: list[Any]) -> NDArray[np.floating]:
    try:
        return np.array(numbers, np.float64)
    except (ValueError, TypeError) as error:
        msg = f"the embeddings of {name} are no lists of numbers of one length"
        raise UsageError(msg) from error


def _unit(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """The rows at unit length."""
    if embeddings.ndim != 2 or not embeddings.size or embeddings.shape[1] > _MAX_DIMENSION:
        msg = f"embeddings of shape {embeddings.shape} are not (at least one, up to {_MAX_DIMENSION} numbers)"
        raise UsageError(msg)
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        msg = "an embedding holds only zeros, or numbers that are not finite"
        raise UsageError(msg)
    rows: NDArray[np.float32] = (embeddings / norms).astype(np.float32)
    return rows
