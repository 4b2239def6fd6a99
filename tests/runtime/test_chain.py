"""Chains: put together from names, classes and places, checked before anything runs, and run."""

from dataclasses import replace
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.runtime.chain import chain_of, check_chain, compose, make_stage, stage_class, with_options
from diart_mp.runtime.local import default_stages
from diart_mp.topology import StageConfig
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, run
from tests.runtime.stages import Denoise

LATE = Settings.from_seconds(latency=5.0)
DEFAULT = default_stages(TONE_MODELS)
DENOISE, MARK, WISH = (f"tests.runtime.stages:{name}" for name in ("Denoise", "Mark", "Wish"))


def names(chain: tuple[StageConfig, ...]) -> list[str]:
    return [stage.name for stage in chain]


def test_stage_of_an_installed_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = tmp_path / "quiet_rooms-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet-rooms\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[diart_mp.stages]\nhush = {DENOISE}\nvad = {MARK}\n")
    monkeypatch.syspath_prepend(tmp_path)
    chain = compose(DEFAULT, insert=["hush@capture"])
    assert names(chain)[:2] == ["capture", "hush"]
    assert stage_class(chain[1]) is Denoise
    assert stage_class(StageConfig(name="vad")).__name__ == "Vad"  # nobody takes the name of a stage that is there
    with pytest.raises(UsageError, match="hush"):
        compose(DEFAULT, insert=["hus@capture"])


def test_stage_is_put_in_behind_another() -> None:
    chain = compose(DEFAULT, insert=[f"{DENOISE}@capture"])
    assert names(chain) == ["capture", "denoise", "segmentation", "embedding", "clustering"]
    assert stage_class(chain[1]) is Denoise


def test_stage_is_replaced_and_keeps_its_name_and_model() -> None:
    chain = compose(DEFAULT, replacing=["segmentation=diart_mp.stages.segmentation:Segmentation"])
    assert names(chain) == names(DEFAULT)
    assert chain[1].model == DEFAULT[1].model


def test_foreign_program_is_reached_at_its_place_and_the_port_below() -> None:
    chain = compose(DEFAULT, replacing=["segmentation=tcp://127.0.0.1:7101"])
    assert (chain[0].bind, chain[1].bind) == ("tcp://127.0.0.1:7100", "tcp://127.0.0.1:7101")
    assert chain[1].foreign


def test_chain_says_which_stages_are_keyed() -> None:
    chain = compose(DEFAULT, insert=[f"{MARK}@clustering"], replacing=["clustering=clustering"])
    assert [stage.keyed for stage in chain] == [False, False, False, True, False]


def test_options_of_a_stage() -> None:
    chain = with_options(DEFAULT, ["embedding.colour=red", "embedding.model=x.onnx"])
    assert (chain[2].options, chain[2].model) == ({"colour": "red"}, "x.onnx")


@pytest.mark.parametrize(
    ("insert", "replacing", "says"),
    [
        (f"{WISH}@capture", "", "stage wish reads the field 'words', which no stage before it gives"),
        (f"{MARK}@segmentation", "", "stage mark reads the field 'turns'"),
        (f"{DENOISE}@captur", "", "did you mean 'capture'"),
        (DENOISE, "", "WHAT@STAGE"),
        ("tests.fakes:ToneSegmentation@capture", "", "is no subclass of"),
        ("no_such_module:X@capture", "", "cannot import the stage no_such_module:X: ModuleNotFoundError"),
        ("denois@capture", "", "unknown stage 'denois'"),
        ("tcp://127.0.0.1:7101@capture", "", "needs a name"),
        ("", f"capture={DENOISE}", "cannot be replaced"),
        ("", f"clustering={DENOISE}", "no stage of the chain gives 'turns'"),
    ],
)
def test_wrong_chain_is_refused_in_one_line(insert: str, replacing: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose(DEFAULT, insert=[insert] if insert else [], replacing=[replacing] if replacing else [])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_chain_of_names_takes_the_known_ones_as_they_are() -> None:
    assert chain_of("capture, segmentation", DEFAULT) == DEFAULT[:2]
    with pytest.raises(UsageError, match="no stage of the chain gives 'turns'"):
        check_chain(chain_of("capture,segmentation", DEFAULT))


def test_keyed_class_needs_a_keyed_table() -> None:
    config = replace(DEFAULT[-1], keyed=False)
    kind = stage_class(config)
    with pytest.raises(UsageError, match="keyed = true"):
        make_stage(config, kind)


def test_stages_of_the_users_run_and_survive_kills(tmp_path: Path) -> None:
    recording = tmp_path / "hum.wav"
    conversation(recording, seconds=10.0, seed=3)
    stages = compose(DEFAULT, insert=[f"{MARK}@clustering", f"{DENOISE}@capture"])
    plain = run(recording, tmp_path / "plain", models=TONE_MODELS, settings=LATE)
    undisturbed = run(recording, tmp_path / "undisturbed", models=TONE_MODELS, settings=LATE, stages=stages)
    kills = [Kill(3, ("mark",)), Kill(6, ("denoise", "mark")), Kill(8, ("clustering",))]
    disturbed = run(
        recording,
        tmp_path / "disturbed",
        models=TONE_MODELS,
        settings=LATE,
        stages=stages,
        kills=kills,
        max_in_flight=4,
        environment={"DIART_MP_FAULTS": "segmentation:slow=0.02"},  # else the recording ends before the last kill
    )
    assert disturbed.kills == 4
    assert undisturbed.summary.results == plain.summary.results
    assert undisturbed.files["hum.rttm"].count(b"!") == undisturbed.files["hum.rttm"].count(b"\n") > 0
    assert disturbed.files == undisturbed.files
