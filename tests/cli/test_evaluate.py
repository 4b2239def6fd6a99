"""``evaluate``: published outputs, a corpus through the pipeline, what is broken or missing, and going on after an end."""

import csv
import json
import re
import signal
from pathlib import Path

import pytest
import soundfile

from diart_mp import __version__
from tests.fakes import conversation

from .command import TONES, Argument, Diart, Done, der, rttm, turns
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


def test_the_scores_and_the_turns_are_those_of_diart(diart: Diart, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.wav").symlink_to(shared / "data" / "sample.wav")
    (tmp_path / "ami_EN2009b.flac").symlink_to(shared / "data" / "ami_EN2009b.flac")
    golden = shared / "golden" / "turns"
    scores = json.loads((golden / "scores.json").read_text())["5.0"]["files"]
    options: list[Argument] = ["--latency", "5", "--json", "--jobs", "2", "-o", tmp_path / "out"]
    done = diart("evaluate", tmp_path, "--reference", shared / "data", *options)
    files = json.loads(done.out)["files"]
    assert done.code == 0
    assert files.keys() == {"sample", "ami_EN2009b"}
    for name, values in files.items():
        assert values["der"] == pytest.approx(scores[name]["der"], abs=0.1)
        assert values["speakers_found"] == scores[name]["speakers_found"]
        theirs, ours = (turns(folder / f"{name}.rttm") for folder in (golden / "latency5.0", tmp_path / "out"))
        assert der(theirs, ours, 30.0) <= 0.1


def test_everything_is_reported(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    done = evaluate(diart, corpus, "-o", tmp_path, "--latency", "2", "--preset", "voxconverse")
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
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(""", html)
    assert "confusion" in html
    named = report["settings"]
    assert (named["version"], named["collar"], named["skip_overlap"]) == (__version__, 0.0, False)
    assert named["models"]["segmentation"] == TONES[1]
    assert (named["hyper_parameters"]["latency"], named["hyper_parameters"]["tau_active"]) == (2.0, 0.576)
    assert named["preset"] == "voxconverse"
    assert "preset voxconverse" in html
    scored: list[Argument] = ["--hypothesis", tmp_path, "--reference", corpus / "rttm", corpus / "audio"]
    again = diart("evaluate", *scored, "--json")
    assert json.loads(again.out)["settings"] == {"version": __version__, "collar": 0.0, "skip_overlap": False}
    for name, values in json.loads(again.out)["files"].items():
        assert values["der"] == pytest.approx(report["files"][name]["der"], abs=0.1)  # RTTM has milliseconds


def test_what_is_revised_has_the_score_of_the_turns_in_the_folder(diart: Diart, corpus: Path, tmp_path: Path) -> None:
    """``der`` is of what was said at once; the turns in the folder are those that are known in the end."""
    done = evaluate(diart, corpus, "-o", tmp_path, "--clustering", "adaptive", "--json")
    report = json.loads(done.out)
    again = diart("evaluate", "--hypothesis", tmp_path, "--reference", corpus / "rttm", corpus / "audio", "--json")
    known = json.loads(again.out)
    assert "revised_der" not in known["total"]
    for name, values in report["files"].items():
        assert values["revised_der"] == pytest.approx(known["files"][name]["der"], abs=0.1)
        assert values["revised_jer"] == pytest.approx(known["files"][name]["jer"], abs=0.1)
    total = report["total"]
    assert total["revisions"] > 0
    assert 0 < total["revised_s"] < total["audio_s"]
    assert abs(total["revised_der"] - total["der"]) > 0.5
    assert f"DER {report['files'][NAMES[0]]['revised_der']:.2f} %" in (tmp_path / "report.html").read_text()


GOOD = [f"clip{number}" for number in range(90)]
FLAWS = {
    "broken": "broken.wav",
    "cut": "cut short",
    "empty": "empty.wav",
    "garbled": "garbled.rttm",
    "misnamed": "not about misnamed",
    "nobody": "no RTTM",
    "none": "no audio",
    "nothing": "nothing.wav",
    "text": "text.wav",
    "torn": "torn: left out",  # which shows only when it is read to its end
}  # name: what must be said of it


@pytest.fixture(scope="session")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred short recordings, some of them of no use, and files that are no recordings."""
    folder = tmp_path_factory.mktemp("hundred")
    (folder / "audio").mkdir()
    (folder / "rttm").mkdir()
    for seed, name in enumerate(GOOD):
        said = conversation(folder / "audio" / f"{name}.wav", seconds=2.0, seed=seed)
        (folder / "rttm" / f"{name}.rttm").write_text(rttm(name, said))
    samples, rate = soundfile.read(folder / "audio" / "clip1.wav", dtype="int16")
    whole = (folder / "audio" / "clip1.wav").read_bytes()
    soundfile.write(folder / "audio" / "none.wav", samples[:0], rate)
    soundfile.write(folder / "audio" / "torn.flac", samples, rate)
    for name, data in {
        "broken.wav": whole[:30],
        "cut.wav": whole[:40_000],
        "empty.wav": b"",
        "garbled.wav": whole,
        "misnamed.wav": whole,
        "nobody.wav": whole,
        "nothing.wav": bytes(5000),
        "text.wav": b"these are not samples\n" * 300,
        "torn.flac": (folder / "audio" / "torn.flac").read_bytes()[:-12_000],
        ".DS_Store": b"",
        "notes.txt": b"not a recording\n",
    }.items():
        (folder / "audio" / name).write_bytes(data)
    for name in FLAWS:
        (folder / "rttm" / f"{name}.rttm").write_text(rttm(name, [(0.5, 1.5, 1)]))
    (folder / "rttm" / "garbled.rttm").write_text("SPEAKER garbled 1 zero one <NA>\n")
    (folder / "rttm" / "misnamed.rttm").write_text(rttm("one", [(0.5, 1.5, 1)]) + rttm("other", [(0.5, 1.5, 1)]))
    (folder / "rttm" / "nobody.rttm").unlink()
    return folder


@pytest.fixture(scope="session")
def of_hundred(diart: Diart, hundred: Path) -> Done:
    """What an evaluation of them printed."""
    return evaluate(diart, hundred, "--json", "--jobs", "4")


def test_what_cannot_be_scored_is_reported_and_left_out(of_hundred: Done) -> None:
    report, total = json.loads(of_hundred.out), json.loads(of_hundred.out)["total"]
    assert of_hundred.code == 1
    assert sorted(report["files"]) == sorted(GOOD)
    assert report["problems"].keys() == FLAWS.keys()
    assert [name for name in FLAWS if FLAWS[name] not in report["problems"][name]] == [], report["problems"]
    assert sorted(of_hundred.complaints) == sorted(f"diart-mp: error: {text}" for text in report["problems"].values())
    files = report["files"].values()
    assert total["speech_s"] == pytest.approx(sum(values["speech_s"] for values in files), abs=0.1)
    wrong = sum(values["der"] * values["speech_s"] for values in files)
    assert total["der"] == pytest.approx(wrong / total["speech_s"], abs=0.05)


def test_what_is_missing_is_said_before_any_audio_is_processed(of_hundred: Done) -> None:
    lines = of_hundred.err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("# "))
    early = "".join(lines[:first])
    assert [name for name in FLAWS if FLAWS[name] not in early] == ["torn"]
    assert len(lines[first:]) == len(GOOD) + 2  # the note on torn.flac, and the complaint


def test_strict_stops_before_any_audio_is_processed(diart: Diart, hundred: Path) -> None:
    done = evaluate(diart, hundred, "--strict")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1


def test_strict_stops_at_what_shows_late(diart: Diart, hundred: Path, tmp_path: Path) -> None:
    for kind, name in (("audio", "torn.flac"), ("rttm", "torn.rttm"), ("audio", "clip0.wav"), ("rttm", "clip0.rttm")):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / name).symlink_to(hundred / kind / name)
    done = evaluate(diart, tmp_path, "--strict", "--quiet")
    assert (done.code, done.out) == (1, "")
    assert "torn" in done.err


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


def test_an_evaluation_goes_on_where_it_was_interrupted_or_killed(
    diart: Diart, hundred: Path, of_hundred: Done, tmp_path: Path
) -> None:
    arguments: list[Argument] = ["evaluate", hundred / "audio", "--reference", hundred / "rttm", *TONES, "-o", tmp_path]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with diart.started(*arguments, "--jobs", "2") as process:
            assert process.stderr is not None
            notes = (line for line in process.stderr if line.startswith("# ") and "done before" not in line)
            finished = [line.split()[2].rstrip(":") for _, line in zip(range(3), notes, strict=False)]
            process.send_signal(number)
            assert process.wait(30) == code
        assert not (tmp_path / "report.json").exists()
    records = {name: tmp_path / ".evaluation" / f"recording-{name}.json" for name in finished}
    kept = {name: record.stat().st_mtime_ns for name, record in records.items()}
    assert len(kept) == 3
    said = (tmp_path / f"{finished[0]}.rttm").read_text()
    (tmp_path / f"{finished[0]}.rttm").write_text(said[:-20])  # killed while it was written
    done = evaluate(diart, hundred, "--json", "-o", tmp_path)
    assert done.code == 1
    before = done.err.count("was done before")
    assert 6 <= before < len(GOOD)
    assert [name for name in finished if f"{name}: was done before" not in done.err] == []
    assert {name: record.stat().st_mtime_ns for name, record in records.items()} == kept
    assert (tmp_path / f"{finished[0]}.rttm").read_text() == said
    report, whole = json.loads(done.out), json.loads(of_hundred.out)
    for values in (*report["files"].values(), *whole["files"].values(), report["total"], whole["total"]):
        assert values.pop("real_time_factor") > 0
    assert report == whole
    other = evaluate(diart, hundred, "-o", tmp_path, "--latency", "2", "--quiet")
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
    (tmp_path / "parts.uem").write_text("talk0 1 0.000 4.000\ntalk2 1 2.000 6.000\n")
    environment = {"PYANNOTE_DATABASE_CONFIG": str(tmp_path / "database.yml")}
    options: list[Argument] = ["--json", "-o", tmp_path / "out"]
    done = diart("evaluate", "Talks.SpeakerDiarization.Short", *TONES, *options, env=environment)
    assert done.code == 0, done.err
    options = ["--reference", corpus / "rttm", "--uem", tmp_path / "parts.uem", "--json"]
    same = json.loads(diart("evaluate", "--hypothesis", tmp_path / "out", *options).out)["files"]
    assert same.keys() == {"talk0", "talk2"}
    for name, values in json.loads(done.out)["files"].items():
        assert [values[part] for part in PARTS] == pytest.approx([same[name][part] for part in PARTS], abs=0.1)
    unknown = diart("evaluate", "Talks.SpeakerDiarization.Long", *TONES, env=environment)
    assert unknown.code == 2
    assert "neither a folder nor a protocol" in unknown.err
