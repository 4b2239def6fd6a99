"""``tune``: better than the base, at the asked duration, step and latency, going on after an end, and what it leaves."""

import json
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .command import TONES, Argument, Diart, Done

PARAMETERS = ("tau_active", "rho_update", "delta_new")
FAR: tuple[str, ...] = ("--delta-new", "1.9", "--duration", "3", "--step", "0.25", "--latency", "2")  # a base to beat


def tune(diart: Diart, corpus: Path, cache: Path, *more: Argument) -> Done:
    arguments: list[Argument] = ["tune", corpus / "audio", "--reference", corpus / "rttm", *TONES, *more]
    return diart(*arguments, env={"DIART_MP_CACHE": str(cache)})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tuned(diart: Diart, corpus: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What a study of 10 trials printed, and its folder."""
    output = tmp_path_factory.mktemp("study")
    done = tune(diart, corpus, cache, *FAR, "-o", output, "--num-iter", "10", "--seed", "1", "--jobs", "2", "--json")
    assert (done.code, done.complaints) == (0, [])
    assert "10/10 trials" in done.err
    return json.loads(done.out), output


def test_the_first_trial_is_the_base_and_others_beat_it(tuned: tuple[Any, Path]) -> None:
    result, _ = tuned
    assert result["trials"] == 10
    assert {name: result["base"][name] for name in PARAMETERS} == {
        "tau_active": 0.5,
        "rho_update": 0.3,
        "delta_new": 1.9,
    }
    assert result["best"]["value"] < result["base"]["value"] - 5


def test_duration_step_and_latency_reach_every_trial(diart: Diart, corpus: Path, tuned: tuple[Any, Path]) -> None:
    """The values are those of whole runs at these lengths, and of no others."""
    result, output = tuned
    best = tomllib.loads((output / "best.toml").read_text())
    assert (best["duration"], best["step"], best["latency"]) == (3.0, 0.25, 2.0)
    runs: dict[str, list[Argument]] = {
        "base": list(FAR),
        "best": ["--config", output / "best.toml"],
        "other": ["--delta-new", "1.9"],
    }
    scores = {}
    for name, options in runs.items():
        arguments: list[Argument] = ["evaluate", corpus / "audio", "--reference", corpus / "rttm", *TONES, "--json"]
        scores[name] = json.loads(diart(*arguments, *options).out)["total"]["der"]
    assert scores["base"] == pytest.approx(result["base"]["value"], abs=0.001)
    assert scores["best"] == pytest.approx(result["best"]["value"], abs=0.001)
    assert scores["other"] != pytest.approx(scores["base"], abs=0.05)


def test_run_takes_the_result(diart: Diart, corpus: Path, tuned: tuple[Any, Path]) -> None:
    done = diart("run", corpus / "audio" / "talk0.wav", "--config", tuned[1] / "best.toml", "--json")
    assert done.code == 0
    windows = [line for line in done.objects if "seq" in line]
    assert windows[1]["end"] - windows[1]["start"] == 0.25


def test_there_are_plots(tuned: tuple[Any, Path]) -> None:
    for name in ("history.svg", "importance.svg"):
        assert "<svg" in (tuned[1] / name).read_text()


def test_a_study_goes_on_where_it_was_interrupted_or_killed(
    diart: Diart, corpus: Path, cache: Path, tmp_path: Path
) -> None:
    options: tuple[str, ...] = ("--storage", f"sqlite:///{tmp_path / 'study.db'}", "--metric", "latency-aware")
    options += ("--hparams", "delta_new,gamma,beta,latency")
    arguments: list[Argument] = ["tune", corpus / "audio", "--reference", corpus / "rttm", *TONES, *options]
    done = [0]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with diart.started(*arguments, "--num-iter", "40", env={"DIART_MP_CACHE": str(cache)}) as process:
            assert process.stderr is not None
            said = (re.search(r"(\d+)/40 trials", line) for line in process.stderr)
            done.append(next(int(found[1]) for found in said if found))
            process.send_signal(number)
            assert process.wait(30) == code
    assert 0 < done[1] < done[2] < 38
    again = tune(diart, corpus, cache, *options, "--num-iter", str(done[2] + 2), "--json")
    assert again.code == 0
    assert done[2] + 2 <= json.loads(again.out)["trials"] < 40
    best = json.loads(again.out)["best"]
    assert best.keys() == {"value", "delta_new", "gamma", "beta", "latency"}
    assert 0.5 <= best["latency"] <= 5.0
    other = tune(diart, corpus, cache, *options[:2], "--num-iter", "1")
    assert other.code == 2
    assert "begun with other" in other.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--output FOLDER or --storage URL"]),
        (["-o", "new", "--hparams", "tau"], ["tau", "tau_active"]),
        (["-o", "new", "--hparams", ","], ["nothing to tune"]),
        (["-o", "new", "--metric", "wer"], ["--metric"]),
        (["-o", "new", "--uem", "nowhere"], ["nowhere"]),
        (["-o", "new", "--clustering", "adaptive", "--hparams", "delta_new,gamma"], ["gamma", "adaptive"]),
        (["--storage", "sqlite://"], ["sqlite://", "keeps nothing"]),
        (["--storage", "nonsense"], ["storage", "cannot be opened"]),
    ],
)
def test_refused(diart: Diart, corpus: Path, cache: Path, arguments: list[str], words: list[str]) -> None:
    command = ["tune", "audio", "--reference", "rttm", *TONES, "--quiet", *arguments]
    done = diart(*command, cwd=corpus, env={"DIART_MP_CACHE": str(cache)})
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert [word for word in words if word not in done.err] == [], done.err


def test_what_cannot_be_used_is_left_out_or_stops(diart: Diart, corpus: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "talk0.wav").symlink_to(corpus / "audio" / "talk0.wav")
    (tmp_path / "audio" / "nobody.wav").symlink_to(corpus / "audio" / "talk1.wav")
    (tmp_path / "rttm").mkdir()
    (tmp_path / "rttm" / "talk0.rttm").symlink_to(corpus / "rttm" / "talk0.rttm")
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    done = tune(diart, tmp_path, cache, "--storage", storage, "--num-iter", "2", "--quiet")
    assert (done.code, done.out) == (1, "")
    assert "nobody: there is no RTTM" in done.err
    strict = tune(diart, tmp_path, cache, "-o", tmp_path / "other", "--strict")
    assert strict.code == 1
    assert "trials" not in strict.err
