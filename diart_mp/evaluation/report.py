"""An evaluation for people and programs: a table, CSV and JSON. ``values`` is what ``Evaluation.values`` gives.

Runs in the command.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

_COLUMNS = {
    "der": "DER %",
    "false_alarm": "FA %",
    "missed": "miss %",
    "confusion": "conf %",
    "jer": "JER %",
    "revised_der": "DER at end",
    "revised_jer": "JER at end",
    "speakers": "spk",
    "speakers_found": "found",
    "speaker_count_error": "spk error",
    "label_latency_p50_s": "late p50 s",
    "label_latency_p95_s": "p95 s",
    "revisions": "revised",
    "flicker_per_minute": "flick/min",
    "real_time_factor": "RTF",
}
_TOTAL = "all"


def table(values: Mapping[str, Any]) -> Iterator[str]:
    """Lines for a terminal: a row per recording, and all seconds together."""
    titles, rows = cells(values)
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        name, *others = (f"{text:{'>' if number else '<'}{widths[number]}}" for number, text in enumerate(row))
        yield "  ".join([name, *others])


def cells(values: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows of that table, as text."""
    shown = [key for key in _COLUMNS if any(key in row for row in values["files"].values())]
    rows = [[name, *(_cell(key, row.get(key)) for key in shown)] for name, row in _rows(values)]
    return ["recording", *(_COLUMNS[key] for key in shown)], rows


def to_csv(values: Mapping[str, Any]) -> str:
    """A line per recording, the total last."""
    rows = _rows(values)
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["recording", *keys], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"recording": name, **row} for name, row in rows)
    return text.getvalue()


def to_json(values: Mapping[str, Any]) -> str:
    """All of it as one JSON object."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _rows(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [*values["files"].items(), (_TOTAL, values["total"])]


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if key == "real_time_factor" else f"{value:.2f}" if isinstance(value, float) else str(value)
