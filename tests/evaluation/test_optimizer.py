"""``Optimizer`` and ``Benchmark`` as a program uses them."""

from dataclasses import replace
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.evaluation.benchmark import Benchmark
from diart_mp.evaluation.optimizer import Optimizer
from tests.fakes import TONE_MODELS

BASE = Settings.from_seconds(latency=1.5, delta_new=1.9)


def optimizer(corpus: Path, folder: Path, name: str, **options: object) -> Optimizer:
    paths = (corpus / "audio", corpus / "rttm", folder / name)
    return Optimizer(*paths, base=BASE, models=TONE_MODELS, cache=folder / "cache", **options)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_trials(corpus: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        study = optimizer(corpus, tmp_path, name, seed=seed)
        study(4)
        found.append(study.values())
        assert study.best_performance == min(value for _, value in study.values())
        study.close()
    assert found[0] == found[1] != found[2]
    assert found[0][0] == found[2][0]  # the base


def test_a_trial_is_a_benchmark(corpus: Path, tmp_path: Path) -> None:
    study = optimizer(
        corpus, tmp_path, "study", hparams=["gamma", "beta", "tau_active"], sampler="random", metric="jer"
    )
    study(2, on_trial=lambda done, best: None)
    for values, error in study.values()[1:]:  # the first is the base, which has whole runs in tests/cli/test_tune.py
        settings = replace(BASE, **values)  # type: ignore[arg-type]
        report = Benchmark(corpus / "audio", corpus / "rttm")(settings, TONE_MODELS)
        assert report.values()["total"]["jer"] == pytest.approx(error, abs=0.001)
        assert report.problems == {}
    study.close()


def test_adaptive_clustering_can_be_tuned(corpus: Path, tmp_path: Path) -> None:
    base = replace(BASE, clustering="adaptive", delta_new=0.35)
    paths = (corpus / "audio", corpus / "rttm", tmp_path / "study")
    study = Optimizer(*paths, base=base, models=TONE_MODELS, cache=tmp_path / "cache", hparams=["delta_new"], seed=1)
    study(6)
    report = Benchmark(corpus / "audio", corpus / "rttm")(base, TONE_MODELS)
    assert study.values()[0][1] == pytest.approx(report.values()["total"]["der"], abs=0.001)
    assert len({value for _, value in study.values()}) > 1
    study.close()
    with pytest.raises(UsageError, match="rho_update cannot be tuned"):
        Optimizer(*paths, base=base, models=TONE_MODELS)


def test_other_references_are_another_study(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "rttm").mkdir(parents=True)
    (folder / "audio").symlink_to(corpus / "audio")
    for path in (corpus / "rttm").iterdir():
        (folder / "rttm" / path.name).write_text(path.read_text())
    optimizer(folder, tmp_path, "study")(1).close()
    optimizer(folder, tmp_path, "study")(1).close()
    with (folder / "rttm" / "long.rttm").open("a") as file:
        file.write("SPEAKER long 1 13.000 1.000 <NA> <NA> somebody <NA> <NA>\n")
    with pytest.raises(UsageError, match="begun with other references"):
        optimizer(folder, tmp_path, "study")(2)


def test_a_study_can_be_gone_on_with(corpus: Path, tmp_path: Path) -> None:
    for count in (2, 3):
        study = optimizer(corpus, tmp_path, "study", sampler="qmc")
        done = list[int]()

        def note(number: int, _best: float, done: list[int] = done) -> None:
            done.append(number)

        study(count, on_trial=note)
        assert done[-1] == count
        assert len(study.values()) == count
        study.close()
    assert done[0] == 3
    with pytest.raises(UsageError, match="begun with other metric"):
        optimizer(corpus, tmp_path, "study", metric="jer")(3)


def test_what_makes_no_sense(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'tau_active'"):
        optimizer(corpus, tmp_path, "study", hparams=["tau_activ"])
    with pytest.raises(UsageError, match="call it first"):
        _ = optimizer(corpus, tmp_path, "study").best_hparams
