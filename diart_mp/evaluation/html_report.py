"""An evaluation as one HTML page that needs nothing else: the table, and a time line for each recording.

A time line shows the speakers of the reference, below them those of the hypothesis in the colours of the speakers that
they were matched with, and between the two the errors. Runs in the command.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from diart_mp.evaluation.benchmark import Evaluation, FileResult
from diart_mp.evaluation.der import SpeakerTurn, compare
from diart_mp.evaluation.report import table

_COLOURS = (
    "#4477aa",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#997700",
    "#004488",
    "#bb5566",
    "#6699cc",
    "#44aa99",
)
_OTHER = "#999999"
_ERRORS = {"missed": "#ee7733", "false_alarm": "#7755cc", "confusion": "#cc0011"}
_ROW, _BAR, _LEFT = 18, 14, 130  # pixels
_PX_PER_S, _MAX_PX = 8.0, 20_000.0
_STYLE = """body{font:14px/1.4 sans-serif;margin:2em;color:#222}pre{overflow-x:auto}h2{margin-bottom:.2em}
.line{overflow-x:auto;border:1px solid #ddd}svg text{font:12px sans-serif}.problem{color:#a00}
.key span{display:inline-block;width:1em;height:1em;margin:0 .3em 0 1em;vertical-align:middle}"""


def page(evaluation: Evaluation) -> str:
    """The whole page."""
    values = evaluation.values()
    key = "".join(
        f'<span style="background:{c}"></span>{escape(kind.replace("_", " "))}' for kind, c in _ERRORS.items()
    )
    problems = "".join(f'<p class="problem">{escape(text)}</p>' for text in values["problems"].values())
    files = "".join(_file(name, evaluation.files[name], values["files"][name]) for name in values["files"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Diarization report</title>'
        f"<style>{_STYLE}</style></head><body><h1>Diarization report</h1>"
        f"<pre>{escape(chr(10).join(table(values)))}</pre>{problems}"
        f'<p class="key">errors:{key}</p>{files}</body></html>\n'
    )


def _file(name: str, result: FileResult, values: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{label} {values[key]:.2f} %" for key, label in (("der", "DER"), ("jer", "JER")))
    return f'<h2>{escape(name)}</h2><p>{parts}</p><div class="line">{"".join(_timeline(result))}</div>'


def _timeline(result: FileResult) -> Iterator[str]:
    turns = [*result.reference, *result.hypothesis]
    length = max([result.duration or 0.0, *(end for _, end, _ in turns), 1.0])
    scale = min(_PX_PER_S, _MAX_PX / length)
    found = compare(result.reference, result.hypothesis, duration=result.duration, uem=result.uem)
    spoken, said = _names(result.reference), _names(result.hypothesis)
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(spoken)}
    theirs = {name: colours.get(found.matched.get(name, ""), _OTHER) for name in said}
    height = _ROW * (len(spoken) + len(said) + 2)
    yield f'<svg width="{_LEFT + scale * length:.0f}" height="{height}" role="img">'
    yield from _rows(result.reference, spoken, colours, 0, scale, "")
    yield from _strip(found.errors, _ROW * len(spoken), scale)
    yield from _rows(result.hypothesis, said, theirs, len(spoken) + 1, scale, "→ ")
    yield from _axis(length, scale, height)
    yield "</svg>"


def _names(turns: Sequence[SpeakerTurn]) -> list[str]:
    return sorted({speaker for _, _, speaker in turns})


def _rows(
    turns: Sequence[SpeakerTurn], names: Sequence[str], colours: Mapping[str, str], first: int, scale: float, mark: str
) -> Iterator[str]:
    for row, name in enumerate(names, first):
        yield f'<text x="4" y="{_ROW * row + 13}">{mark}{escape(name)}</text>'
    rows = {name: _ROW * row for row, name in enumerate(names, first)}
    for start, end, name in turns:
        yield _bar(start, end, rows[name] + 2, colours[name], f"{name} {start:.2f} to {end:.2f} s", scale)


def _strip(errors: Sequence[tuple[float, float, str]], top: int, scale: float) -> Iterator[str]:
    yield f'<text x="4" y="{top + 13}" fill="#a00">errors</text>'
    for start, end, kind in errors:
        yield _bar(start, end, top + 2, _ERRORS[kind], f"{kind.replace('_', ' ')} {start:.2f} to {end:.2f} s", scale)


def _bar(start: float, end: float, top: int, colour: str, title: str, scale: float) -> str:
    left, width = _LEFT + scale * start, max(0.3, scale * (end - start))
    return (
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _axis(length: float, scale: float, height: int) -> Iterator[str]:
    every = next(step for step in (5, 10, 30, 60, 300, 600, 3600) if step * scale >= 60 or step == 3600)
    for mark in range(0, int(length) + 1, every):
        minutes, seconds = divmod(mark, 60)
        yield f'<text x="{_LEFT + scale * mark:.0f}" y="{height - 4}" fill="#666">{minutes}:{seconds:02d}</text>'
