"""The page of an evaluation: well-formed, complete in itself, errors where they are, and text from outside only as text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.evaluation.benchmark import Evaluation, FileResult, describe, score_hypotheses
from diart_mp.evaluation.corpus import open_corpus
from diart_mp.evaluation.html_report import page
from diart_mp.evaluation.scores import Scoring, score
from diart_mp.runtime.local import Models
from tests.browser.chromium import chromium

VOID = {"meta"}
EVIL = "<script>&\"'"


class Elements(HTMLParser):
    """Every element with its attributes and text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(self.found[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.found if name == tag]


def rttm(path: Path, *turns: tuple[float, float, str]) -> None:
    name = path.stem
    path.write_text("".join(f"SPEAKER {name} 1 {a:g} {b - a:g} <NA> <NA> {who} <NA> <NA>\n" for a, b, who in turns))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 s of which 3 to 19 are scored: missed from 4 to 6, false alarm from 10 to 11, confusion from 14 to 16."""
    folder = tmp_path_factory.mktemp("report")
    for kind in ("truth", "said", "uem"):
        (folder / kind).mkdir()
    rttm(folder / "truth" / "talk.rttm", (0, 10, "ann"), (12, 20, EVIL))
    rttm(folder / "said" / "talk.rttm", (0, 4, "A"), (6, 11, "A"), (12, 14, "B"), (14, 16, "C"), (16, 20, "B"))
    (folder / "uem" / "talk.uem").write_text("talk 1 3.000 13.000\ntalk 1 14.000 19.000\n")
    rttm(folder / "truth" / "other.rttm", (0, 2, "ann"))
    rttm(folder / "said" / "other.rttm", (0, 2, "A"))
    rttm(folder / "truth" / "lost.rttm", (0, 2, "ann"))
    (folder / "uem" / "other.uem").write_text("other 1 0 2\n")
    (folder / "uem" / "lost.uem").write_text("lost 1 0 2\n")
    corpus = open_corpus(None, reference=folder / "truth", uem=folder / "uem")
    return page(score_hypotheses(folder / "said", corpus))


def test_it_is_complete_and_needs_nothing_else(report: str) -> None:
    elements = Elements(report)
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(|<script""", report)
    assert len(elements.texts("svg")) == len(elements.texts("h2")) == 2
    targets = {values["href"] for tag, values, _ in elements.found if tag == "a"}
    assert targets == {f"#{values['id']}" for tag, values, _ in elements.found if tag == "h2"}
    assert [text for text in elements.texts("p") if "lost: there is no RTTM" in text]
    assert [text for text in elements.texts("div") if text][-5:] == [EVIL, "ann", "→ A", "→ B", "→ C"]
    assert [values["class"] for tag, values, _ in elements.found if tag == "rect"].count("nobody") == 1  # C


def test_errors_are_where_they_are(report: str) -> None:
    titles = Elements(report).texts("title")
    assert [title for title in titles if title.startswith(("missed", "false", "confusion"))] == [
        "missed 4.00 to 6.00 s",
        "false alarm 10.00 to 11.00 s",
        "confusion 14.00 to 16.00 s",
    ]
    shown = [values for tag, values, _ in Elements(report).found if tag == "rect" and values.get("class") == "out"]
    scale = 900 / 20
    assert [(float(box["x"] or ""), float(box["width"] or "")) for box in shown] == [
        (0, 3 * scale),
        (13 * scale, scale),
        (19 * scale, scale),
    ]


def test_time_lines_show_what_is_scored(tmp_path: Path) -> None:
    """A collar of 1 s takes half a second from each side of an error at a boundary; where two talk is grey, and no error."""
    for kind in ("truth", "said"):
        (tmp_path / kind).mkdir()
    rttm(tmp_path / "truth" / "talk.rttm", (0, 10, "ann"), (8, 20, "bob"))
    rttm(tmp_path / "said" / "talk.rttm", (0, 10, "A"), (12, 20, "B"))
    corpus = open_corpus(None, reference=tmp_path / "truth", uem=None)
    texts = {}
    for name, scoring in (("all", Scoring()), ("collar", Scoring(collar=1.0, skip_overlap=True))):
        report = score_hypotheses(tmp_path / "said", corpus, scoring=scoring)
        texts[name] = Elements(page(report)).texts("title")
        assert report.files["talk"].score.error.missed == {"all": 4.0, "collar": 1.5}[name]
    assert [title for title in texts["all"] if title.startswith("missed")] == ["missed 8.00 to 12.00 s"]
    assert [title for title in texts["collar"] if title.startswith("missed")] == ["missed 10.50 to 12.00 s"]
    assert texts["all"].count("not scored") == 0
    assert texts["collar"].count("not scored") == 3


def test_what_is_known_in_the_end_has_rows_and_errors_of_its_own() -> None:
    truth, said, known = [(0.0, 10.0, "ann")], [(0.0, 4.0, "A"), (4.0, 10.0, "B")], [(0.0, 9.0, "A")]
    scores = [score(truth, turns, duration=10.0) for turns in (said, known)]
    result = FileResult(truth, said, 10.0, None, scores[0], None, scores[1], known)
    elements = Elements(page(Evaluation({"talk": result})))
    assert [text for text in elements.texts("div") if text][-4:] == ["ann", "→ A", "→ B", "⇒ A"]
    assert elements.texts("b") == ["errors", "errors, as known in the end"]
    titles = elements.texts("title")
    assert "confusion 0.00 to 4.00 s" in titles
    assert "missed 9.00 to 10.00 s" in titles
    rows = [(values["y"], values["class"]) for tag, values, _ in elements.found if tag == "rect"]
    assert (str(20 * 5 + 3), "s0") in rows


def test_page_says_what_the_figures_hold_for() -> None:
    settings = describe(Scoring(collar=0.5), Settings.from_seconds(latency=2.0), Models())
    texts = Elements(page(Evaluation(settings=settings))).texts("p")
    for piece in ("collar 0.5", "skip overlap False", "segmentation builtin", "latency 2", "delta new 0.35"):
        assert any(piece in text for text in texts), piece


def test_a_browser_shows_it_in_both_themes(report: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report)
    with chromium(tmp_path, tmp_path / "silence.wav") as browser:
        browser.call("Page.navigate", url=f"file://{tmp_path / 'report.html'}")
        browser.until("document.querySelectorAll('svg').length === 2")
        seen = {}
        for theme in ("light", "dark"):
            browser.theme(theme)
            seen[theme] = browser.js(
                "[document.body, document.querySelector('rect.missed')].map(e => getComputedStyle(e))"
                ".map(style => [style.backgroundColor, style.color, style.fill])"
            )
        assert seen["light"][0] != seen["dark"][0]
        assert seen["light"][1][2] != seen["dark"][1][2]
        assert browser.js("document.documentElement.scrollWidth <= innerWidth")
        assert browser.errors == []
