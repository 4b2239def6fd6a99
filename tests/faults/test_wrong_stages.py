"""Wrong stages in a run: each is named in one line, and what is wrong at one chunk costs no other one."""

from pathlib import Path

from diart_mp.config import Settings
from diart_mp.runtime.chain import compose, with_options
from diart_mp.runtime.local import default_stages
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run

# What each says of itself, at a chunk of its own; a stage that hangs is in test_hangs, one that dies in test_kills.
COSTLY = {
    "Raises": "raises: RuntimeError: out of paper",
    "Twice": "twice: twice gave 2 answers to 1 chunks; it must answer each one",
    "Never": "never: never gave 0 answers to 1 chunks; it must answer each one",
    "Shape": "shape: it gives segmentation of shape (7,) in place of (",
    "Mutates": "mutates: ValueError: output array is read-only",
}
HARMLESS = {
    "Prints": "prints prints to standard output ('here I am'); it goes to the log of the stage",
    "Forks": "forks starts processes; a killed stage leaves them behind",
}


def test_each_is_named_in_one_line_and_costs_its_chunk_alone(tmp_path: Path) -> None:
    audio = tmp_path / "hum.wav"
    conversation(audio, seconds=10.0, seed=3)
    kinds = [*COSTLY, *HARMLESS]
    insert = [f"{kind.lower()}=tests.wrong_stages:Once@segmentation" for kind in kinds]
    insert.append("early=tests.wrong_stages:ForksAtOnce@segmentation")
    options = [
        text for at, kind in enumerate(kinds) for text in (f"{kind.lower()}.kind={kind}", f"{kind.lower()}.at={at}")
    ]
    stages = with_options(compose(default_stages(TONE_MODELS), insert=insert), options)
    done = run(audio, tmp_path / "out", settings=Settings.from_seconds(latency=2.0), models=TONE_MODELS, stages=stages)
    assert len(done.summary.failures) == len(COSTLY)
    for at, (kind, says) in enumerate(COSTLY.items()):
        (line,) = [line for line in done.summary.failures if f"chunk {at} " in line]
        assert says in line, kind
        assert "\n" not in line
    notes = [event["text"] for event in done.events if event["event"] == "note"]
    early = "early starts processes; a killed stage leaves them behind"
    assert sorted(notes) == sorted([*HARMLESS.values(), early])
    assert done.shown == list(range(14))
    assert done.summary.restarts == 0
    assert b"SPEAKER" in done.files["hum.rttm"]
