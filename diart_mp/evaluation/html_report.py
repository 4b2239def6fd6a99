"""An evaluation as one HTML page that needs nothing else, in light and dark: a table, and a time line for each recording.

A time line shows the speakers of the reference, below them the errors, and below these the speakers of the hypothesis in the
colours of those that they were matched with; where something was taken back, the same again of what is known in the end. Grey is
not scored. Runs in the command.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from diart_mp.evaluation.benchmark import Evaluation, FileResult
from diart_mp.evaluation.der import Comparison, SpeakerTurn, compare
from diart_mp.evaluation.report import cells
from diart_mp.evaluation.scores import Scoring

_COLOURS = 10  # of speakers; further ones begin again
_ERRORS = {"missed": "missed", "false_alarm": "false alarm", "confusion": "confusion"}
_ROW, _BAR, _TOP = 20, 14, 3  # px
_PX_PER_S, _LEAST_PX, _MAX_PX = 8.0, 900.0, 20_000.0
_STYLE = """:root{color-scheme:light dark;--page:#fff;--text:#1d232b;--faint:#66707c;--line:#d9dee4;--band:#f3f5f8;--bad:#b3151c;
--missed:#e0701b;--false_alarm:#7a58d1;--confusion:#cc0f1f;--s0:#3f74b0;--s1:#23873a;--s2:#b59a13;--s3:#2fa4cf;--s4:#a93478;
--s5:#8a6a00;--s6:#25508f;--s7:#b8545f;--s8:#5f8fc4;--s9:#2f9584;--nobody:#9aa1a9}
@media(prefers-color-scheme:dark){:root{--page:#14181d;--text:#e4e8ed;--faint:#98a2ad;--line:#343c46;--band:#1d232a;--bad:#ff8a8a;
--missed:#ff9a4a;--false_alarm:#a98bff;--confusion:#ff5c67;--s0:#6fa3e0;--s1:#5cc274;--s2:#dcc44a;--s3:#70d0f4;--s4:#de79b4;
--s5:#c7a341;--s6:#7f9fe0;--s7:#e88e97;--s8:#9cc2ec;--s9:#67cdbb;--nobody:#6f7781}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1.5rem;max-width:1280px;background:var(--page);color:var(--text)}
h1{margin:0}h2{margin:2rem 0 .2rem;font-size:1.15rem}p{margin:.3rem 0 .6rem}a{color:inherit}.faint{color:var(--faint)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.2rem .55rem;text-align:right;border-bottom:1px solid var(--line)}th{color:var(--faint);font-weight:600}
th:first-child,td:first-child,th:last-child{text-align:left}th:first-child,td:first-child{padding-left:0}tr.all{font-weight:600}tbody tr:hover{background:var(--band)}
.share{display:flex;width:160px;height:10px}.share i{height:100%}.problem{color:var(--bad)}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem}.key i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;vertical-align:-.1em}
.line{display:flex;border:1px solid var(--line);border-radius:4px}.names{flex:none;max-width:220px;border-right:1px solid var(--line)}
.names div{height:20px;line-height:20px;font-size:12px;padding:0 10px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.line .wide{flex:1}svg{display:block}text{font:11px system-ui,sans-serif;fill:var(--faint)}.band{fill:var(--band)}
.mark{stroke:var(--line)}.out{fill:var(--faint);opacity:.3}"""
_FILLS = "".join(
    f".{name}{{fill:var(--{name});background:var(--{name})}}"
    for name in (*_ERRORS, *(f"s{number}" for number in range(_COLOURS)), "nobody")
)


def page(evaluation: Evaluation) -> str:
    """The whole page."""
    values = evaluation.values()
    problems = "".join(f'<p class="problem">{escape(text)}</p>' for text in values["problems"].values())
    files = "".join(
        _file(number, name, evaluation.files[name], values["files"][name], evaluation.scoring)
        for number, name in enumerate(values["files"])
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Diarization report</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}{_FILLS}</style></head><body><h1>Diarization report</h1>{''.join(_summary(values))}"
        f"{problems}<div class='wide'><table>{''.join(_table(values))}</table></div>{_key()}{files}</body></html>\n"
    )


def _summary(values: Mapping[str, Any]) -> Iterator[str]:
    total, count = values["total"], len(values["files"])
    yield f'<p class="faint">{count} recording{"s" * (count != 1)}, {total["speech_s"] / 60:.1f} minutes of speech in the reference'
    if values["problems"]:
        yield f", {len(values['problems'])} left out"
    yield "</p>"
    if values["settings"]:
        yield f'<p class="faint">{escape("; ".join(_settings(values["settings"])))}</p>'


def _settings(values: Mapping[str, Any]) -> Iterator[str]:
    """What the figures hold for, a piece each."""
    for name, value in values.items():
        title = name.replace("_", " ")
        if name == "stages":
            yield f"stages {' → '.join(stage['name'] for stage in value)}"
        elif isinstance(value, Mapping):
            yield from _settings(value)
        else:
            yield f"{title} {f'{value:g}' if isinstance(value, float) else value}"


def _table(values: Mapping[str, Any]) -> Iterator[str]:
    """A row per recording, with a bar of its errors: the whole width is the worst DER."""
    titles, rows = cells(values)
    yield f"<thead><tr>{''.join(f'<th>{escape(title)}</th>' for title in titles)}<th>errors</th></tr></thead><tbody>"
    found = [*values["files"].values(), values["total"]]
    worst = max(100.0, *(each["der"] for each in found))
    for number, (row, each) in enumerate(zip(rows, found, strict=True)):
        last = number == len(rows) - 1
        name = escape(row[0]) if last else f'<a href="#r{number}">{escape(row[0])}</a>'
        parts = "".join(f'<i class="{kind}" style="width:{100 * each[kind] / worst:.1f}%"></i>' for kind in _ERRORS)
        yield f"<tr{' class=all' if last else ''}><td>{name}</td>{''.join(f'<td>{escape(text)}</td>' for text in row[1:])}"
        yield f'<td><div class="share">{parts}</div></td></tr>'
    yield "</tbody>"


def _key() -> str:
    parts = "".join(f'<span><i class="{kind}"></i>{title}</span>' for kind, title in _ERRORS.items())
    matched = '<span><i class="s0"></i>a speaker, and who was matched with that one</span>'
    return f'<p class="key">{parts}{matched}<span><i class="nobody"></i>matched with nobody</span></p>'


def _file(number: int, name: str, result: FileResult, values: Mapping[str, Any], scoring: Scoring) -> str:
    parts = ", ".join(f"{title} {values[kind]:.2f}" for kind, title in _ERRORS.items())
    text = f"DER {values['der']:.2f} % ({parts}), JER {values['jer']:.2f} %; {values['speakers']} speakers, {values['speakers_found']} found"
    if "revised_der" in values:
        text += f"; as known in the end: DER {values['revised_der']:.2f} %, JER {values['revised_jer']:.2f} %"
    head = f'<h2 id="r{number}">{escape(name)}</h2><p class="faint">{text}</p>'
    return f'{head}<div class="line">{"".join(_timeline(result, scoring))}</div>'


def _timeline(result: FileResult, scoring: Scoring) -> Iterator[str]:
    sides = {"→": result.hypothesis} | ({} if result.known is None else {"⇒": result.known})
    turns = [*result.reference, *(turn for side in sides.values() for turn in side)]
    length = max([result.duration or 0.0, *(end for _, end, _ in turns), 1.0])
    scale = min(max(_PX_PER_S, _LEAST_PX / length), _MAX_PX / length)
    spoken = _names(result.reference)
    colours = {name: f"s{index % _COLOURS}" for index, name in enumerate(spoken)}
    labels = list(map(escape, spoken))
    for arrow, side in sides.items():
        title = "errors" if arrow == "→" else "errors, as known in the end"
        labels += [f"<b>{title}</b>", *(f"{arrow} {escape(name)}" for name in _names(side))]
    height = _ROW * (len(labels) + 1)
    yield f'<div class="names">{"".join(f"<div>{label}</div>" for label in labels)}<div></div></div>'
    yield f'<div class="wide"><svg width="{scale * length + 24:.0f}" height="{height}" role="img">'
    yield from _axis(length, scale, height)
    yield from _rows(result.reference, spoken, colours, 0, scale)
    row, scored = len(spoken), list[tuple[float, float]]()
    for side in sides.values():
        found = compare(result.reference, side, duration=result.duration, uem=result.uem, **asdict(scoring))
        yield from _side(side, found, colours, row, scale)
        row, scored = row + 1 + len(_names(side)), found.scored
    yield from _unscored(scored, length, scale, height)
    yield "</svg></div>"


def _side(
    turns: Sequence[SpeakerTurn], found: Comparison, colours: Mapping[str, str], row: int, scale: float
) -> Iterator[str]:
    """Errors, and the speakers of a hypothesis, from a row on."""
    said = _names(turns)
    theirs = {name: colours.get(found.matched.get(name, ""), "nobody") for name in said}
    yield f'<rect class="band" y="{_ROW * row}" width="100%" height="{_ROW}"/>'
    yield from _strip(found.errors, _ROW * row, scale)
    yield from _rows(turns, said, theirs, row + 1, scale)


def _names(turns: Sequence[SpeakerTurn]) -> list[str]:
    return sorted({speaker for _, _, speaker in turns})


def _rows(
    turns: Sequence[SpeakerTurn], names: Sequence[str], colours: Mapping[str, str], first: int, scale: float
) -> Iterator[str]:
    rows = {name: _ROW * row for row, name in enumerate(names, first)}
    for start, end, name in turns:
        yield _bar(start, end, rows[name] + _TOP, colours[name], f"{name} {start:.2f} to {end:.2f} s", scale)


def _strip(errors: Sequence[tuple[float, float, str]], top: int, scale: float) -> Iterator[str]:
    for start, end, kind in errors:
        yield _bar(start, end, top + _TOP, kind, f"{_ERRORS[kind]} {start:.2f} to {end:.2f} s", scale)


def _bar(start: float, end: float, top: int, kind: str, title: str, scale: float) -> str:
    left, width = scale * start, max(0.3, scale * (end - start))
    return (
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" class="{kind}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _unscored(scored: Sequence[tuple[float, float]], length: float, scale: float, height: int) -> Iterator[str]:
    """Grey what does not count: outside the UEM or the recording, collars, overlap."""
    at = 0.0
    for start, end in [*scored, (length, length)]:
        if start > at:
            box = f'x="{scale * at:.1f}" width="{scale * (min(start, length) - at):.1f}" height="{height - _ROW}"'
            yield f'<rect {box} class="out"><title>not scored</title></rect>'
        at = max(at, end)


def _axis(length: float, scale: float, height: int) -> Iterator[str]:
    steps = (1, 2, 5, 10, 30, 60, 300, 600, 3600)
    every = next(step for step in steps if step * scale >= 60 or step == steps[-1])
    for mark in range(0, int(length) + 1, every):
        minutes, seconds = divmod(mark, 60)
        x = f"{scale * mark:.0f}"
        yield f'<line class="mark" x1="{x}" x2="{x}" y2="{height - _ROW}"/>'
        yield f'<text x="{x}" y="{height - 6}">{minutes}:{seconds:02d}</text>'
