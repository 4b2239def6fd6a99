"""``diart-mp speakers``: the file of enrolled speakers, whose names then stand in the turns."""

from pathlib import Path
from typing import Any

import click

from diart_mp.cli import options
from diart_mp.errors import UsageError
from diart_mp.speakers import EnrolledSpeakers, default_file

_file_option = click.option(
    "--speakers",
    "file",
    type=click.Path(path_type=Path),
    help="The file of speakers. Default: speakers.json in the user's data folder.",
)


@click.group()
def command() -> None:
    """Enrol people, so that `run --speakers` names them."""


@command.command()
@click.argument("name")
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_file_option
@click.option("--models", default="builtin", show_default=True, help="Preset: builtin, pyannote or community.")
@click.option("--segmentation", help="Model; default: the preset's.")
@click.option("--embedding", help="Model, the one that `run` will use; default: the preset's.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda[:n], mps or auto.")
def enroll(name: str, recordings: tuple[Path, ...], file: Path | None, **values: Any) -> None:
    """Enrol NAME from recordings FILE... in which he or she alone talks (10 s of speech and more are good, 1.5 s are the least).

    Enrolling a name again adds to what is known of it.
    """
    from diart_mp.enrolment import enrol
    from diart_mp.models.load import load_embedding, load_segmentation

    models = options.models({**values, "precision": "exact"})
    path = file or default_file()
    speakers = EnrolledSpeakers.load(path) if path.exists() else EnrolledSpeakers(embedding=models.embedding)
    speakers.check_model(models.embedding, path)
    speakers.check_name(name)
    options.fetch_models(models)
    rows, seconds = enrol(
        list(recordings),
        load_segmentation(models.segmentation, device=models.device),
        load_embedding(models.embedding, device=models.device),
    )
    speakers.add(name, rows).save(path)
    click.echo(f"{name}: {len(rows)} embeddings of {seconds:.1f} s of speech, in {path}")


@command.command(name="list")
@_file_option
def list_speakers(file: Path | None) -> None:
    """Show who is enrolled."""
    path = file or default_file()
    speakers = EnrolledSpeakers.load(path)
    for name, voice in speakers.voices.items():
        click.echo(f"{name}\t{len(voice)} embeddings")
    click.echo(f"{len(speakers.voices)} speakers, model {speakers.embedding}, {path}")


@command.command()
@click.argument("name")
@_file_option
def remove(name: str, file: Path | None) -> None:
    """Take NAME out of the file."""
    path = file or default_file()
    speakers = EnrolledSpeakers.load(path)
    if name not in speakers.voices:
        msg = f"nobody called {name!r} is in {path}; there are {', '.join(speakers.voices) or 'no speakers'}"
        raise UsageError(msg)
    speakers.remove(name).save(path)
    click.echo(f"{name} is no longer in {path}")
