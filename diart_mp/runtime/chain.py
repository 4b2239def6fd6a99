"""Which stages a pipeline has: found by name, entry point or ``module:Class``, put together, and checked before any of them runs.

    --chain capture,vad                          another chain altogether
    --insert my_package:Denoise@capture          one more stage, behind the named one
    --replace segmentation=tcp://127.0.0.1:7101  a foreign program in place of a stage, which listens there

Knows nothing of sockets or processes. Runs in commands and programs that start a pipeline, and in each stage for its own class.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diart_mp.config import check_names
from diart_mp.errors import UsageError
from diart_mp.runtime.stage import KeyedStage, Stage
from diart_mp.topology import FOREIGN, StageConfig

GROUP = "diart_mp.stages"  # of entry points
STAGES = {
    "capture": "diart_mp.stages.capture:Capture",
    "gateway": "diart_mp.stages.gateway:Gateway",
    "segmentation": "diart_mp.stages.segmentation:Segmentation",
    "embedding": "diart_mp.stages.embedding:Embedding",
    "clustering": "diart_mp.stages.clustering:Clustering",
    "vad": "diart_mp.stages.vad:Vad",
    "e2e": "diart_mp.stages.e2e:EndToEnd",
    "identify": "diart_mp.stages.identify:Identify",
    "record": "diart_mp.stages.record:Record",
    "transcribe": "diart_mp.stages.transcribe:Transcribe",
}
OWNERS = ("capture", "gateway")
_GIVEN = ("audio", "settings")  # fields that every chunk has from the beginning
_PORT = re.compile(r"(tcp://.*:)(\d+)")


def stage_class(config: StageConfig) -> Any:
    """The class of a stage, imported now: a built-in one, an entry point's, or the user's; UsageError if there is none."""
    reference = config.implementation or config.name
    if ":" not in reference:
        reference = STAGES.get(reference) or _entry_point(reference)
    elif str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing in the working folder hides an installed package
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the user's module may raise anything while it is imported
        why = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"cannot import the stage {reference}: {why}; is it written as package.module:Class, and installed or in this folder?"
        raise UsageError(msg) from error


def _entry_point(name: str) -> str:
    """The ``module:Class`` of a stage of another package; UsageError if no package has one of that name."""
    from importlib import metadata  # 30 ms, and 10 to read what is installed: stages of this package start without

    known = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    check_names({name: None}, {**known, **STAGES}, "stage")
    return known[name]


def make_stage(config: StageConfig, kind: Any) -> Stage:
    """A stage of class ``kind``; UsageError, one line, where it is none or cannot be made."""
    _check_kind(config, kind)
    if issubclass(kind, KeyedStage) and not config.keyed:
        msg = f"{config.name} is a keyed stage ({kind.__name__}), so the topology must say 'keyed = true' for it"
        raise UsageError(msg)
    try:
        stage: Stage = kind(config)
    except TypeError as error:
        msg = f"cannot make the stage {config.name} ({kind.__name__}(config) was called): {error}"
        raise UsageError(msg) from error
    stage.name = config.name
    return stage


def compose(
    stages: Sequence[StageConfig], *, insert: Iterable[str] = (), replacing: Iterable[str] = ()
) -> tuple[StageConfig, ...]:
    """``stages`` with others put in (``WHAT@AFTER``) or in place of them (``NAME=WHAT``), checked as a whole.

    WHAT is ``package.module:Class``, the name of an entry point, or ``tcp://HOST:PORT`` where a foreign program listens for the
    next stage (``NAME=tcp://...`` gives an inserted one its name). The stage before such a program listens at the port below.
    """
    chain = list(stages)
    for text in replacing:
        name, sign, what = text.partition("=")
        if not sign or not what:
            msg = f"'{text}' must be NAME=module:Class or NAME=tcp://HOST:PORT"
            raise UsageError(msg)
        _put(chain, _place(chain, name), replace(chain[_place(chain, name)], **_implementation(what)))
    for text in insert:
        what, sign, after = text.rpartition("@")
        if not sign or not what:
            msg = f"'{text}' must be WHAT@STAGE: what to put in, and behind which stage"
            raise UsageError(msg)
        name, equals, reference = what.partition("=")
        reference = reference if equals else what
        place = _place(chain, after) + 1
        chain.insert(place, StageConfig(name="", model=""))
        _put(chain, place, StageConfig(name=name if equals else _name_of(what), model="", **_implementation(reference)))
    return check_chain(chain)


def chain_of(names: str, stages: Sequence[StageConfig]) -> tuple[StageConfig, ...]:
    """The stages that a comma-separated list names, those of ``stages`` as they are there."""
    known = {stage.name: stage for stage in stages}
    chain = [name.strip() for name in names.split(",")]
    return tuple(
        known.get(each) or StageConfig(name=_name_of(each), model="", **_implementation(each)) for each in chain
    )


def check_chain(chain: Sequence[StageConfig]) -> tuple[StageConfig, ...]:
    """``chain`` with what its classes say about keys; UsageError where a stage reads a field that none before it gives."""
    if len(chain) < 2 or chain[0].name not in OWNERS:
        msg = f"a chain begins with {' or '.join(OWNERS)} and has a stage behind it, not {[stage.name for stage in chain]}"
        raise UsageError(msg)
    fields, checked = dict.fromkeys(_GIVEN, "every chunk"), [chain[0]]
    for config in chain[1:]:
        known = replace(config, implementation="") if config.name in STAGES and config.foreign else config
        kind: Any = Stage if known.foreign else stage_class(known)
        _check_kind(config, kind)
        for name in kind.consumes:
            if name not in fields:
                msg = f"stage {config.name} reads the field '{name}', which no stage before it gives (there are {', '.join(fields)})"
                raise UsageError(msg)
        fields |= dict.fromkeys(kind.produces, config.name)
        checked.append(replace(config, keyed=config.keyed or issubclass(kind, KeyedStage)))
    if "turns" not in fields:
        msg = f"no stage of the chain gives 'turns' (there are {', '.join(fields)}): a last stage like clustering, vad or e2e is missing"
        raise UsageError(msg)
    return tuple(checked)


def with_options(chain: Sequence[StageConfig], texts: Iterable[str]) -> tuple[StageConfig, ...]:
    """``chain`` with options of the form STAGE.KEY=VALUE; ``STAGE.model=...`` names the stage's model."""
    changed = list(chain)
    for text in texts:
        where, sign, value = text.partition("=")
        name, dot, key = where.partition(".")
        if not (sign and dot and key):
            msg = f"'{text}' must be STAGE.KEY=VALUE"
            raise UsageError(msg)
        place = _place(changed, name)
        stage = changed[place]
        changed[place] = (
            replace(stage, model=value) if key == "model" else replace(stage, options={**stage.options, key: value})
        )
    return tuple(changed)


def _check_kind(config: StageConfig, kind: Any) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        msg = f"{config.implementation or config.name} is no subclass of diart_mp.runtime.stage.Stage, so it cannot be stage {config.name}"
        raise UsageError(msg)


def _implementation(what: str) -> dict[str, Any]:
    if "://" in what:
        return {"implementation": FOREIGN, "bind": what, "keyed": False}
    return {"implementation": what, "keyed": False}


def _name_of(reference: str) -> str:
    """What a stage is called that nobody named: the class in small letters, or the name itself."""
    if "://" in reference:
        msg = f"a foreign program needs a name: NAME={reference}"
        raise UsageError(msg)
    return reference.rpartition(":")[2].lower()


def _place(chain: Sequence[StageConfig], name: str) -> int:
    check_names({name: None}, {stage.name: None for stage in chain}, "stage")
    return [stage.name for stage in chain].index(name)


def _put(chain: list[StageConfig], place: int, stage: StageConfig) -> None:
    """Set a stage of the chain; the one before a foreign program listens where that program can reach it."""
    if place == 0:
        msg = f"{chain[0].name} owns the streams and cannot be replaced"
        raise UsageError(msg)
    if stage.name in [each.name for each in chain[:place] + chain[place + 1 :]]:
        msg = f"there are two stages called {stage.name}; give one another name"
        raise UsageError(msg)
    chain[place] = stage
    if stage.foreign:
        found = _PORT.fullmatch(stage.bind)
        before = f"{found[1]}{int(found[2]) - 1}" if found else f"{stage.bind}-in"
        chain[place - 1] = replace(chain[place - 1], bind=before)
