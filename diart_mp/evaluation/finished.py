"""What of an evaluation is done already: one file per recording in the output folder, beside its turns.

``NAME.rttm`` are the turns; ``.evaluation/NAME.json`` are the updates that they come from, with a checksum of settings,
models and audio, so that results of different runs are never mixed. Runs in the command.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.errors import OutputError, ProtocolError
from diart_mp.evaluation.corpus import Recording
from diart_mp.models.checksum import file_checksum, model_checksum
from diart_mp.outputs.events import update_from_dict, update_to_dict
from diart_mp.outputs.lines import unwritable
from diart_mp.outputs.names import safe_file_name
from diart_mp.outputs.writer import OutputSet, check_outputs
from diart_mp.runtime.local import Models
from diart_mp.topology import StageConfig
from diart_mp.turns import Update

_FORMATS = ("rttm",)


@dataclass(frozen=True, slots=True)
class Finished:
    """A recording that was diarized to its end: its updates, its length and how long it took (s)."""

    updates: list[Update]
    audio_s: float
    work_s: float


class FinishedFolder:
    """The finished recordings in ``output``. Raises OutputError for results of other settings, unless ``force``."""

    def __init__(
        self, output: Path, settings: Settings, models: Models, *, stages: Sequence[StageConfig] = (), force: bool
    ) -> None:
        self._output, self._folder, self._force = output, output / ".evaluation", force
        self._settings = settings
        named = {role: model_checksum(getattr(models, role), role) for role in ("segmentation", "embedding")}
        chosen = {name: value for name, value in asdict(models).items() if name not in ("device", "threads", "workers")}
        chain = [asdict(stage) for stage in stages]
        self._key = _digest({"settings": settings.to_map(), "models": {**chosen, **named}, "stages": chain})
        head = self._read(self._folder / "key.json")
        if head and head.get("key") != self._key and not force:
            msg = f"{output} has results of other settings or models; name another folder, or replace them with --force"
            raise OutputError(msg)
        same = bool(head) and head.get("key") == self._key
        self.work_s = self._before_s = float(head.get("work_s", 0.0)) if same else 0.0
        self._same = same

    def load(self, recordings: Mapping[str, Recording]) -> dict[str, Finished]:
        """Those of the recordings that are finished; for the others it is checked that they can be written."""
        done: dict[str, Finished] = {}
        for name, recording in recordings.items():
            values = self._read(self._record(name)) if self._same else {}
            if values.get("audio") == _audio(recording) and values.get("key") == self._key:
                updates = [update_from_dict(line, rate=self._settings.rate) for line in values["updates"]]
                done[name] = Finished(updates, float(values["audio_s"]), float(values["work_s"]))
        left = [name for name in recordings if name not in done]
        check_outputs(self._output, left, _FORMATS, self._force)
        for name in done:  # whoever was killed may have written a part of them
            self._write_turns(name, done[name])
        self._write("key.json", {"key": self._key, "work_s": self.work_s})
        return done

    def save(self, recording: Recording, finished: Finished) -> None:
        """Keep a recording that has just been finished."""
        values = {key: value for key, value in asdict(finished).items() if key != "updates"}
        lines = [update_to_dict(update) for update in finished.updates]
        record = {"key": self._key, "audio": _audio(recording), **values, "updates": lines}
        self._write(self._record(recording.name).name, record)
        self._write_turns(recording.name, finished)

    def worked(self, seconds: float) -> None:
        """Note how long this run has worked so far."""
        self.work_s = self._before_s + seconds
        self._write("key.json", {"key": self._key, "work_s": self.work_s})

    def _write_turns(self, name: str, finished: Finished) -> None:
        with OutputSet(self._output, name, _FORMATS, rate=self._settings.rate, recorded=True, resume=True) as outputs:
            for update in finished.updates:
                outputs.write(update)

    def _record(self, name: str) -> Path:
        return self._folder / f"recording-{safe_file_name(name)}.json"

    def _read(self, path: Path) -> dict[str, Any]:
        """What a file holds; nothing if it is not there or damaged."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, ProtocolError):
            return {}
        return values if isinstance(values, dict) else {}

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a file as a whole."""
        path = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(values), encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            raise unwritable(path, error) from error


def _audio(recording: Recording) -> str:
    return file_checksum(recording.audio) if recording.audio is not None else ""


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
