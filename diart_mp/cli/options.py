"""Options that several commands share, and what they mean: settings, models, stages, formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from diart_mp.cli.config_file import from_file
from diart_mp.config import CLUSTERINGS, STARTS, Settings
from diart_mp.errors import UsageError
from diart_mp.precision import Precision
from diart_mp.presets import PRESETS
from diart_mp.topology import Topology

Command = TypeVar("Command", bound=Callable[..., Any])

_MODEL_NAMES = ("segmentation", "embedding")
# What a topology says of its stages, with the defaults of the options that say it otherwise.
_OF_STAGES = {
    "models": "builtin",
    "segmentation": None,
    "embedding": None,
    "device": "cpu",
    "precision": Precision.EXACT.value,
    "chain": None,
    "insert": (),
    "replacing": (),
    "stage_options": (),
}
_SPELLED = {"replacing": "replace", "stage_options": "option"}
_PRESET_VALUES = ("tau_active", "rho_update", "delta_new")


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """The command with ``options``, which its help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


_SOURCE = (
    click.option(
        "--mic", is_flag=False, flag_value="", metavar="[ID|NAME]", help="Listen to a microphone (see devices)."
    ),
    click.option("--channel", type=click.IntRange(0), help="Take this channel, from 0; default: the mean of all."),
    click.option(
        "--jobs", "-j", type=click.IntRange(1, 256), default=1, show_default=True, help="Recordings at a time."
    ),
    click.option(
        "--input-format",
        type=click.Choice(["s16le", "s24le", "s32le", "f32le"]),
        default="s16le",
        show_default=True,
        help="Raw samples of SOURCE -.",
    ),
    click.option("--input-rate", type=click.IntRange(1), default=16_000, show_default=True, help="Hz of SOURCE -."),
    click.option(
        "--input-channels", type=click.IntRange(1), default=1, show_default=True, help="Channels of SOURCE -."
    ),
)


def source_options(command: Command) -> Command:
    """Where the audio comes from."""
    return _with(command, _SOURCE)


_PIPELINE = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=from_file,
        help="TOML file with any of these options.",
    ),
    click.option("--models", default="builtin", show_default=True, help="Preset: builtin, pyannote or community."),
    click.option("--segmentation", help="Model: builtin, hub id, path, or module:Class; default: the preset's."),
    click.option("--embedding", help="Model: builtin, hub id, path, or module:Class; default: the preset's."),
    click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="Published hyper-parameters of a data set, for --models pyannote; other options come first.",
    ),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda[:n], mps or auto."),
    click.option(
        "--precision",
        type=click.Choice([each.value for each in Precision]),
        default=Precision.EXACT.value,
        show_default=True,
        help="Of the built-in models on CPUs. fast: shortcuts that keep the error rate, not each number; "
        "reference: diart's numbers to the last bits, slower.",
    ),
    click.option("--hf-token", envvar="HF_TOKEN", help="Token for gated models of the hub."),
    click.option("--duration", type=float, default=5.0, show_default=True, help="Seconds of a window."),
    click.option("--step", type=float, default=0.5, show_default=True, help="Seconds from one window to the next."),
    click.option("--latency", help="Seconds, from step (min) to duration (max); default: step."),
    click.option("--tau-active", type=float, help="A speaker is active from this score on; default: the preset's."),
    click.option("--rho-update", type=float, help="Share of a window that changes a centroid; default: the preset's."),
    click.option("--delta-new", type=float, help="Distance from which a speaker is new; default: the preset's."),
    click.option("--gamma", type=float, default=3.0, show_default=True, help="Exponent of the overlap-aware weights."),
    click.option(
        "--beta", type=float, default=10.0, show_default=True, help="Temperature of the overlap-aware weights."
    ),
    click.option("--max-speakers", type=int, default=20, show_default=True, help="Most speakers of a stream."),
    click.option("--normalize-embedding-weights", is_flag=True, help="Scale the weights to [0, 1]."),
    click.option(
        "--start",
        type=click.Choice(STARTS),
        help="early: speak from the first step on; exact: after a whole window. Default: early with --mic.",
    ),
    click.option(
        "--clustering",
        type=click.Choice(CLUSTERINGS),
        default="exact",
        show_default=True,
        help="exact: diart's; adaptive: fewer wrong labels, from clean speech.",
    ),
)


def pipeline_options(command: Command) -> Command:
    """Models and hyper-parameters, under diart's names."""
    return _with(command, _PIPELINE)


_STAGE = (
    click.option("--chain", metavar="LIST", help="Other stages than capture,segmentation,embedding,clustering."),
    click.option(
        "--insert",
        multiple=True,
        metavar="WHAT@STAGE",
        help="One more stage behind STAGE: module:Class or name.",
    ),
    click.option(
        "--replace",
        "replacing",
        multiple=True,
        metavar="STAGE=WHAT",
        help="module:Class, or tcp:// of a program.",
    ),
    click.option(
        "--option",
        "stage_options",
        multiple=True,
        metavar="STAGE.KEY=VALUE",
        help="An option of a stage's own.",
    ),
    click.option(
        "--speakers",
        type=click.Path(path_type=Path),
        help="Give the people in this file their names (see `speakers enroll`).",
    ),
)


def stage_options(command: Command) -> Command:
    """Other stages than the four."""
    return _with(command, _STAGE)


_PLACE = (
    click.option(
        "--topology",
        type=click.Path(path_type=Path),
        help="File that says which stages run where, with which models; those without a place are started here.",
    ),
    click.option("--provisioner", metavar="KIND", help="Start the others, too: local, ssh or ray."),
    click.option("--address", default="", help="Of the Ray cluster; default: the one of this host."),
)


def place_options(command: Command) -> Command:
    """Stages on other hosts."""
    return _with(command, _PLACE)


def provision(values: Mapping[str, Any], plan: Topology | None) -> Any:
    """What makes ``Provisioned`` of a run, given what takes its notes; None where nobody is to start stages elsewhere."""
    if values["provisioner"] is None:
        return None
    if plan is None:
        msg = "--provisioner starts the stages that a topology places elsewhere; name it with --topology FILE"
        raise UsageError(msg)
    from diart_mp.runtime.provision import Provisioned, provisioner_of

    chosen = provisioner_of(values["provisioner"], plan, values["address"])
    return lambda on_note: Provisioned(plan, values["topology"], chosen, on_note=on_note)


_OUTPUT = (
    click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder for the files; made if missing."),
    click.option(
        "--format",
        "formats",
        metavar="LIST",
        help="Of rttm,jsonl,srt,vtt,audacity, or module:Class. Default: rttm.",
    ),
    click.option("--force", is_flag=True, help="Replace files that exist."),
    click.option("--reference", type=click.Path(path_type=Path), help="RTTM to score the turns against."),
    click.option("--log", type=click.Path(path_type=Path), help="File to append what stages report to."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object per result, then a summary."),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
)


def output_options(command: Command) -> Command:
    """Where the turns go."""
    return _with(command, _OUTPUT)


def settings(values: Mapping[str, Any], start: str) -> Settings:
    """The hyper-parameters; what was not given is the preset's."""
    from diart_mp.models.reference import preset

    chosen = preset(values["models"])
    published = PRESETS.get(values["preset"] or "", {})
    tunable = {
        name: published.get(name, getattr(chosen, name)) if values[name] is None else values[name]
        for name in _PRESET_VALUES
    }
    latency = _latency(values["latency"]) if values["latency"] is not None else published.get("latency")
    names = ("duration", "step", "gamma", "beta", "max_speakers", "normalize_embedding_weights", "clustering")
    return Settings.from_seconds(**{name: values[name] for name in names}, **tunable, latency=latency, start=start)


def _latency(text: str | float | None) -> float | str | None:
    if text is None or text in ("min", "max"):
        return text
    try:
        return float(text)
    except ValueError as error:
        msg = f"--latency must be a number of seconds, min or max, not '{text}'"
        raise UsageError(msg) from error


def plan(values: Mapping[str, Any]) -> Topology | None:
    """The topology that the options name; UsageError where it is said twice what stages run, and how."""
    if values["topology"] is None:
        return None
    for name, default in _OF_STAGES.items():
        if values[name] != default:
            msg = f"--{_SPELLED.get(name, name)} says what stages run, and so does {values['topology']}; say it in that file"
            raise UsageError(msg)
    found = Topology.read(values["topology"])
    if not found.is_plan or found.job is not None:
        msg = f"{values['topology']} is of stages that are all started by hand; leave out 'directory' and [job] for diart-mp run"
        raise UsageError(msg)
    if found.keys:
        from diart_mp.keys import own_key

        own_key(Path(found.keys), found.home)
    return found


def models(values: Mapping[str, Any], plan: Topology | None = None) -> Any:
    """The models that run here, checked as far as that goes without loading them."""
    from diart_mp.models.reference import check, not_faster, preset
    from diart_mp.runtime.local import Models

    chosen = preset(values["models"])
    references = {name: values[name] or getattr(chosen, name) for name in _MODEL_NAMES}
    if plan is not None:
        here = {stage.name: stage.model for stage in plan.stages if not all(map(stage.place_of, range(stage.replicas)))}
        references = {name: here.get(name, "") for name in _MODEL_NAMES}
    for reference in filter(None, references.values()):
        check(reference)
    if values["precision"] == Precision.FAST and (
        note := not_faster(filter(None, references.values()), values["device"])
    ):
        click.echo(note, err=True)
    return Models(**references, device=values["device"], precision=values["precision"])


def hints(values: Mapping[str, Any]) -> list[str]:
    """What is allowed and most likely not what somebody wants, a line each."""
    from diart_mp.models.reference import preset

    found = list[str]()
    named, embedding = values["preset"], values["embedding"] or preset(values["models"]).embedding
    if named is not None and embedding == "builtin" and values["delta_new"] is None:
        found.append(
            f"--preset {named} is tuned for --models pyannote; with the built-in embedding its delta_new of "
            f"{PRESETS[named]['delta_new']:g} makes nearly everybody one speaker: give --delta-new too (its default: "
            f"{preset('builtin').delta_new:g})"
        )
    if values.get("speakers") is not None and values["clustering"] == "exact":
        found.append("--speakers gives more of what is said its right name together with --clustering adaptive")
    return found


def with_workers(models: Any, audio_s: float) -> Any:
    """The models in as many processes as pay for so much recorded audio; elsewhere than on a CPU one of each is enough."""
    from diart_mp.models.reference import Form, parse_reference
    from diart_mp.runtime.local import workers_for

    if models.device != "cpu" or not models.embedding:
        return models
    costly = parse_reference(models.embedding).form not in (Form.BUILTIN, Form.CLASS)
    return replace(models, workers=workers_for(audio_s, costly=costly))


def stages(values: Mapping[str, Any], models: Any, owner: str = "capture") -> Any:
    """The stages that the options ask for, checked; None for the default ones."""
    if not any(values[name] for name in ("chain", "insert", "replacing", "stage_options", "speakers")):
        return None
    from diart_mp.runtime.chain import chain_of, compose, with_options
    from diart_mp.runtime.local import default_stages

    chain = default_stages(models, owner)
    if values["chain"]:
        chain = chain_of(values["chain"], chain)
    named, insert, own = values["speakers"], list(values["insert"]), list(values["stage_options"])
    if named is not None:
        from diart_mp.speakers import EnrolledSpeakers

        EnrolledSpeakers.load(named).check_model(models.embedding, named)
        insert.append("identify@clustering")
        own.append(f"identify.speakers={named.absolute()}")
    return with_options(compose(chain, insert=insert, replacing=values["replacing"]), own)


def fetch_models(models: Any, stages: Any = None) -> None:
    """Bring built-in models that are not in the cache, with a progress bar; only those of ``stages`` where these are given."""
    from diart_mp.cli.progress import fetching
    from diart_mp.models import builtin

    with fetching() as progress:
        for role in _MODEL_NAMES:
            wanted = stages is None or any(stage.name == role and not stage.implementation for stage in stages)
            if wanted and getattr(models, role) == "builtin":
                builtin.ensure(role, progress)


def formats(text: str | None) -> tuple[str, ...]:
    """The formats in a comma-separated list; UsageError for an unknown one."""
    if text is None:
        return ()
    from diart_mp.outputs.formats import known_formats

    return tuple(known_formats([name.strip() for name in text.split(",") if name.strip()]))


def need_websockets() -> None:
    """UsageError in one line where the library is missing."""
    import importlib.util

    if importlib.util.find_spec("websockets") is None or importlib.util.find_spec("prometheus_client") is None:
        msg = "this needs the extra 'serve': pip install 'diart-mp[serve]'"
        raise UsageError(msg)
