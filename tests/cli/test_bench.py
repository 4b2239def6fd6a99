"""``diart-mp bench`` as a user calls it, with models that compute nothing or almost nothing."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import soundfile

from diart_mp.cli import bench
from diart_mp.cli.main import run
from diart_mp.models.base import FloatArray
from diart_mp.topology import CHAIN
from tests.fakes import ToneSegmentation, conversation

LATE_S = 0.4  # more than a step of these tests
TONES = ["--segmentation", "tests.fakes:ToneSegmentation", "--embedding", "tests.fakes:ToneEmbedding"]


class SlowSegmentation(ToneSegmentation):
    """Late by design: it waits for what never comes."""

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        threading.Event().wait(LATE_S)
        return super().__call__(waveforms)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of humming."""
    path = tmp_path_factory.mktemp("bench") / "hum.wav"
    conversation(path, seconds=8.0, seed=6)
    return path


@pytest.fixture(scope="module")
def report(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report as --json gives it, with "files": the folder of trace and picture."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("click.echo", printed.append)
        files = ["--trace", str(folder / "trace.json"), "--plot", str(folder / "plot.png")]
        assert run(["bench", str(recording), "--runs", "2", "--streams", "2", "--json", *files, *TONES]) == 0
    (line,) = printed
    return {**json.loads(line), "files": folder}


def test_keys_of_the_report(report: dict[str, Any]) -> None:
    assert report["throughput"].keys() == {"chunks_per_s", "real_time_factor"}
    assert report["latency_ms"].keys() == {"p50", "p95", "p99"}
    assert report["stages"].keys() == set(CHAIN)
    for stage in report["stages"].values():
        for kind in ("wait_ms", "compute_ms", "transport_ms"):
            assert 0 <= stage[kind]["p50"] <= stage[kind]["p95"] <= stage[kind]["p99"]
        assert stage.keys() >= {"chunks_per_s", "cpu_s", "memory_mb", "batch"}
        assert stage["batch"] >= 1
    assert (report["mode"], report["streams"], report["chunks"]) == ("throughput", 2, 14)
    assert report["machine"]["cores"] >= 1
    assert report["settings"]["step"] == 8000


def test_medians_of_the_runs(report: dict[str, Any]) -> None:
    rates = [each["throughput"]["chunks_per_s"] for each in report["runs"]]
    assert len(rates) == 2
    assert report["throughput"]["chunks_per_s"] == pytest.approx(sum(rates) / 2)
    assert rates[0] == pytest.approx(14 / report["runs"][0]["wall_s"], rel=0.02)


def test_trace_and_picture_are_written(report: dict[str, Any]) -> None:
    trace = json.loads((report["files"] / "trace.json").read_text())
    assert sum(event["ph"] == "f" for event in trace["traceEvents"]) == 14
    assert (report["files"] / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_text_and_comparison(report: dict[str, Any], recording: Path, tmp_path: Path, capsys: Any) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"bench": 1, "audio_s": 4.0, "throughput": {"chunks_per_s": 1e9}}))
    assert run(["bench", str(recording), "--compare", str(old), *TONES]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("throughput: 1 streams, 8.0 s of audio in ")
    for name in (*CHAIN, "supervisor", "chunks/s", "latency", "start", "cost"):
        assert any(line.startswith(name) for line in lines)
    assert lines[-3:-1] == ["new / old", f"{'audio_s':<23}     2.000"]
    assert lines[-1].split() == ["throughput.chunks_per_s", "0.000"]


def test_null_models_live(capsys: Any) -> None:
    arguments = ["--null", "--live", "--seconds", "2", "--duration", "1", "--step", "0.25", "--json"]
    assert run(["bench", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mode"], found["chunks"], found["audio_s"]) == ("live", 5, 2.0)
    assert found["models"]["segmentation"] == "diart_mp.models.null:NullSegmentation"
    assert found["wall_s"] >= 2.0


def test_capacity_of_a_pipeline_that_is_too_slow(recording: Path, capsys: Any) -> None:
    slow = ["--segmentation", f"{__name__}:SlowSegmentation", *TONES[2:]]
    quick = ["--duration", "1", "--step", "0.25", "--seconds", "2"]
    assert run(["bench", str(recording), "--find-capacity", *slow, *quick, "--json"]) == 0
    output = capsys.readouterr()
    capacity = json.loads(output.out)["capacity"]
    assert (capacity["streams"], capacity["bound_ms"]) == (0, 250.0)
    assert [(probe["streams"], probe["holds"]) for probe in capacity["probes"]] == [(1, False)]
    assert capacity["probes"][0]["p99"] > 250.0
    assert output.err.startswith("1 live streams: p99 ")


def test_figures_are_said_before_files_that_cannot_be_written(capsys: Any) -> None:
    short = ["--duration", "1", "--step", "0.25", "--seconds", "2"]
    assert run(["bench", "--null", "--trace", "/dev/full", *short]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("throughput: 1 streams, 2.0 s of audio in ")
    assert said.err.splitlines() == ["diart-mp: error: cannot write /dev/full: No space left on device"]


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        (["--null", "--plot", "x.doc"], "cannot draw x.doc: .doc is no format", 2),
        (["--null", "--segmentation", "builtin"], "--null takes models of its own", 2),
        (["--find-capacity", "--streams", "2"], "--find-capacity makes many live runs", 2),
        (["a.wav", "b.wav", "--streams", "1"], "--streams 1 leaves out some of the 2 sources", 2),
        (["--null", "--trace", "/nowhere/at/all.json"], "there is no folder /nowhere/at", 1),
        (["--null", "--compare", "/nowhere.json"], "cannot read /nowhere.json", 1),
        (["--null", "/nowhere.wav"], "/nowhere.wav: cannot be opened", 1),
        (["--null", "--seconds", "0"], "--seconds", 2),
    ],
)
def test_mistakes(arguments: list[str], expected: str, code: int, capsys: Any) -> None:
    assert run(["bench", *arguments]) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert expected in errors[0]


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"throughput": {}}'])
def test_what_cannot_be_compared(text: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    assert run(["bench", "--null", "--compare", str(path)]) == 2
    assert "old.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, None),
        ({"live": True}, 60.0),
        ({"find_capacity": True}, 30.0),
        ({"seconds": 12.5, "live": True}, 12.5),
        ({"seconds": 3.0}, 3.0),
    ],
)
def test_length_of_a_given_recording(
    options: dict[str, Any], seconds: float | None, recording: Path, tmp_path: Path
) -> None:
    values = {"sources": (str(recording),) * 2, "seconds": None, "live": False, "find_capacity": False, "null": False}
    paths = bench._recordings({**values, **options}, tmp_path)
    assert len(paths) == 2
    if seconds is None:
        assert paths == (recording, recording)
    else:
        assert [soundfile.info(path).duration for path in paths] == [seconds] * 2


@pytest.mark.parametrize(("null", "seconds"), [(True, 1800.0), (False, 120.0)])
def test_length_without_a_recording(null: bool, seconds: float, tmp_path: Path) -> None:
    values = {"sources": (), "seconds": None, "live": False, "find_capacity": False, "null": null}
    (path,) = bench._recordings(values, tmp_path)
    assert soundfile.info(path).duration == seconds
