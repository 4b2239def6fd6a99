"""``evaluate``: published outputs, a corpus through the pipeline, what is broken or missing, and going on after an end."""

import csv
import json
import re
import signal
from pathlib import Path

import pytest

from .command import TONES, Argument, Diart, Done
from .conftest import CORPUS as NAMES

PAPER = {"1.0s": (30.40, 6.6, 9.4, 14.4), "5.0s": (27.46, 5.0, 10.0, 12.4)}  # DER, FA, miss, confusion in percent
PARTS = ("der", "false_alarm", "missed", "confusion")


def evaluate(diart: Diart, corpus: Path, *more: Argument) -> Done:
    arguments: list[Argument] = ["evaluate", corpus / "audio", "--reference", corpus / "rttm", *TONES, *more]
    return diart(*arguments)


@pytest.mark.parametrize("latency", PAPER)
@pytest.mark.parametrize("form", ["file", "folder"])
def test_the_published_outputs_have_the_published_scores(
    diart: Diart, shared: Path, tmp_path: Path, latency: str, form: str
) -> None:
    ami = shared / "paper" / "AMI"
    published = ami / "output" / latency / "AMI.rttm"
    if form == "folder":
        for line in published.read_text().splitlines(keepends=True):
            with (tmp_path / f"{line.split()[1]}.rttm").open("a") as file:
                file.write(line)
        published = tmp_path
    done = diart(
        "evaluate", "--hypothesis", published, "--reference", ami / "reference", "--uem", ami / "uem", "--json"
    )
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert [report["total"][part] for part in PARTS] == pytest.approx(PAPER[latency], abs=0.05)
    assert len(report["files"]) == 16


def test_the_scores_are_those_of_diart(diart: Diart, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.wav").symlink_to(shared / "data" / "sample.wav")
    (tmp_path / "ami_EN2009b.flac").symlink_to(shared / "data" / "ami_EN2009b.flac")
    golden = json.loads((shared / "golden" / "turns" / "scores.json").read_text())["0.5"]["files"]
    done = diart("evaluate", tmp_path, "--reference", shared / "data", "--json", "--jobs", "2")
    files = json.loads(done.out)["files"]
    assert done.code == 0
    assert files.keys() == {"sample", "ami_EN2009b"}
    for name, values in files.items():
        assert values["der"] == pytest.approx(golden[name]["der"], abs=0.1)
        assert values["speakers_found"] == golden[name]["speakers_found"]


def test_everything_is_reported(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    done = evaluate(diart, corpus, "-o", tmp_path, "--latency", "2")
    assert (done.code, done.complaints) == (0, [])
    head, *rows = done.out.splitlines()
    assert "DER" in head
    assert [row.split()[0] for row in rows] == [*NAMES, "all"]
    report = json.loads((tmp_path / "report.json").read_text())
    with (tmp_path / "report.csv").open() as file:
        lines = {line["recording"]: line for line in csv.DictReader(file)}
    for name in NAMES:
        values = report["files"][name]
        assert (
            float(lines[name]["der"])
            == values["der"]
            == pytest.approx(sum(values[part] for part in PARTS[1:]), abs=0.01)
        )
        assert values["der"] < 60
        assert 1.5 < values["label_latency_p50_s"] <= values["label_latency_p95_s"]
        assert values["real_time_factor"] > 0
        assert (tmp_path / f"{name}.rttm").read_text().startswith(f"SPEAKER {name} ")
    html = (tmp_path / "report.html").read_text()
    assert html.count("<svg") == len(NAMES)
    assert not re.search(r"(src|href)=|@import|url\(", html)
    assert "confusion" in html
    again = diart("evaluate", "--hypothesis", tmp_path, "--reference", corpus / "rttm", corpus / "audio", "--json")
    for name, values in json.loads(again.out)["files"].items():
        assert values["der"] == pytest.approx(report["files"][name]["der"], abs=0.1)  # RTTM has milliseconds


@pytest.fixture(scope="session")
def damaged(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus in a folder with much that is wrong."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "audio").mkdir()
    (folder / "rttm").mkdir()
    for kind in ("audio", "rttm"):
        for path in (corpus / kind).iterdir():
            (folder / kind / path.name).symlink_to(path)
    whole = (corpus / "audio" / "talk0.wav").read_bytes()
    for name, data in {"broken": whole[:30], "empty": b"", "nobody": whole, "cut": whole[:100_000]}.items():
        (folder / "audio" / f"{name}.wav").write_bytes(data)
        if name != "nobody":
            (folder / "rttm" / f"{name}.rttm").symlink_to(corpus / "rttm" / "talk0.rttm")
    (folder / "audio" / ".DS_Store").touch()
    (folder / "audio" / "notes.txt").touch()
    return folder


def test_what_cannot_be_scored_is_reported_and_left_out(diart: Diart, damaged: Path, corpus: Path) -> None:
    done = evaluate(diart, damaged, "--json", "--jobs", "3")
    report = json.loads(done.out)
    assert done.code == 1
    assert sorted(report["files"]) == NAMES
    assert report["problems"].keys() == {"broken", "empty", "nobody", "cut"}
    assert len(done.complaints) == 4
    assert "no RTTM" in report["problems"]["nobody"]
    assert "cut short" in report["problems"]["cut"]
    assert report["total"]["der"] == json.loads(evaluate(diart, corpus, "--json").out)["total"]["der"]


def test_strict_stops_before_any_audio_is_processed(diart: Diart, damaged: Path) -> None:
    done = evaluate(diart, damaged, "--strict")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "nowhere"], ["nowhere", "No such file"]),
        ([], ["--reference is missing"]),
        (["--reference", "audio"], ["audio", "no RTTM"]),
        (["--reference", "rttm", "--uem", "rttm"], ["rttm", "no UEM"]),
        (["--reference", "rttm", "-o", "taken"], ["report.csv", "exists already", "--force"]),
        (["--reference", "rttm", "--hypothesis", "nowhere"], ["nowhere"]),
        (["--reference", "rttm", "--step", "9"], ["step"]),
        (["--reference", "rttm", "--preset", "amy"], ["--preset", "ami"]),
    ],
)
def test_refused_before_anything_starts(diart: Diart, corpus: Path, arguments: list[str], words: list[str]) -> None:
    (corpus / "taken").mkdir(exist_ok=True)
    (corpus / "taken" / "report.csv").write_text("mine\n")
    done = diart("evaluate", "audio", *arguments, *TONES, cwd=corpus)
    assert done.code in (1, 2)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert [word for word in words if word not in done.err] == [], done.err
    assert (corpus / "taken" / "report.csv").read_text() == "mine\n"


def test_an_interrupted_evaluation_goes_on_where_it_was(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    whole = json.loads(evaluate(diart, corpus, "--json").out)
    arguments: list[Argument] = ["evaluate", corpus / "audio", "--reference", corpus / "rttm", *TONES, "-o", tmp_path]
    with diart.started(*arguments, "--jobs", "1") as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert "talk0" in first
    assert not (tmp_path / "report.json").exists()
    kept = (tmp_path / ".evaluation" / "recording-talk0.json").stat().st_mtime_ns
    done = evaluate(diart, corpus, "--json", "-o", tmp_path)
    assert done.code == 0
    assert "talk0: was done before" in done.err
    assert "talk3: was done before" not in done.err
    assert (tmp_path / ".evaluation" / "recording-talk0.json").stat().st_mtime_ns == kept
    report = json.loads(done.out)
    assert {name: values["der"] for name, values in report["files"].items()} == {
        name: values["der"] for name, values in whole["files"].items()
    }
    other = evaluate(diart, corpus, "-o", tmp_path, "--latency", "2")
    assert other.code == 1
    assert "results of other settings" in other.err


def test_a_kaldi_folder(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    lines = [f"{name} {corpus / 'audio' / name}.wav\n" for name in NAMES[:2]]
    (tmp_path / "wav.scp").write_text("".join(lines))
    texts = [(corpus / "rttm" / f"{name}.rttm").read_text() for name in NAMES]
    (tmp_path / "rttm").write_text("".join(texts))
    done = diart("evaluate", tmp_path, *TONES, "--json")
    assert done.code == 0
    assert sorted(json.loads(done.out)["files"]) == NAMES[:2]


def test_a_protocol_of_pyannote_database(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyannote.database")
    rttm = corpus / "rttm" / "{uri}.rttm"
    (tmp_path / "database.yml").write_text(
        f"Databases:\n  Talks: {corpus / 'audio' / '{uri}.wav'}\n"
        "Protocols:\n  Talks:\n    SpeakerDiarization:\n      Short:\n        test:\n"
        f"          uri: {tmp_path / 'list.txt'}\n          annotation: {rttm}\n"
        f"          annotated: {tmp_path / 'parts.uem'}\n"
    )
    (tmp_path / "list.txt").write_text("talk0\ntalk2\n")
    (tmp_path / "parts.uem").write_text("talk0 1 0.000 8.000\ntalk2 1 2.000 9.000\n")
    environment = {"PYANNOTE_DATABASE_CONFIG": str(tmp_path / "database.yml")}
    done = diart("evaluate", "Talks.SpeakerDiarization.Short", *TONES, "--json", env=environment)
    assert done.code == 0, done.err
    options: list[Argument] = ["--reference", corpus / "rttm", "--uem", tmp_path / "parts.uem", "--json"]
    same = json.loads(diart("evaluate", corpus / "audio", *TONES, *options).out)["files"]
    assert same.keys() == {"talk0", "talk2"}
    for name, values in json.loads(done.out)["files"].items():
        assert [values[part] for part in PARTS] == [same[name][part] for part in PARTS]
    unknown = diart("evaluate", "Talks.SpeakerDiarization.Long", *TONES, env=environment)
    assert unknown.code == 2
    assert "neither a folder nor a protocol" in unknown.err
