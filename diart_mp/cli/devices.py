"""``diart-mp devices``: the microphones that ``run --mic`` can use."""

import dataclasses
import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per device.")
def command(as_json: bool) -> None:
    """List the microphones of this machine; the default one has a star."""
    from diart_mp.audio.devices import list_devices

    devices = list_devices()
    if not devices and not as_json:
        click.echo("no input device: plug in a microphone, or check the sound server", err=True)
    for device in devices:
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(device), ensure_ascii=False))
        else:
            star = "*" if device.default else " "
            click.echo(
                f"{star}{device.index:3d}  {device.name}  ({device.host_api}, {device.channels} channels, {device.rate} Hz)"
            )
