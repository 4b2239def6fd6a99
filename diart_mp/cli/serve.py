"""``diart-mp serve``: the pipeline behind a WebSocket gateway, for many clients at once."""

import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from diart_mp.cli import options
from diart_mp.errors import UsageError

_DRAIN_S = 6.0  # that the gateway has to end its streams after Ctrl-C
_SHOWN = ("ready", "restart", "note", "error", "failed", "serving", "session")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=7007, show_default=True, help="0: a free one.")
@click.option("--token", envvar="DIART_MP_TOKEN", help="Clients must show this token; better in DIART_MP_TOKEN.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="A token per line: TOKEN [streams=N] [expires=TIME]."
)
@click.option("--cert", type=click.Path(path_type=Path), help="Certificate (PEM): serve wss:// and https://.")
@click.option("--key", type=click.Path(path_type=Path), help="Its private key, if it is not in the same file.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without any token.")
@click.option("--origin", metavar="URL[,URL]", help="Where a proxy shows the page: https://talk.example.org.")
@click.option("--protect-metrics", is_flag=True, help="Ask for a token at /metrics, too.")
@click.option("--max-streams", type=click.IntRange(1), default=32, show_default=True, help="Streams at a time.")
@click.option("--topology", type=click.Path(path_type=Path), help="Only the gateway, of the stages in this file.")
@click.option("--json", "as_json", is_flag=True, help="The log as one JSON object per line.")
@options.pipeline_options
@options.stage_options
def command(**values: Any) -> int:
    """Diarize what clients stream, each on its own: see diart-mp client, or the page that this serves.

    The other options are what a client gets that asks for nothing else.
    """
    options.need_websockets()
    if values["topology"] is not None:
        from diart_mp.runtime.process import run_stage

        _refuse_beside_topology()
        return run_stage("gateway", values["topology"], epoch=int(time.time()))
    gateway = _gateway(values)
    models = options.models(values)
    stages = options.stages(values, models, "gateway")
    options.fetch_models(models, stages)
    listening = _listen(gateway.host, gateway.port)
    try:
        return _run(values, gateway, models, listening, stages)
    finally:
        listening.close()


def _run(values: dict[str, Any], gateway: Any, models: Any, listening: socket.socket, stages: Any) -> int:
    from dataclasses import replace

    from diart_mp.runtime.local import LocalPipeline

    gateway = replace(gateway, fd=listening.fileno(), port=listening.getsockname()[1])
    scheme = "https" if gateway.cert else "http"
    url = f"{scheme}://{f'[{gateway.host}]' if ':' in gateway.host else gateway.host}:{gateway.port}/"

    def tell(event: dict[str, Any]) -> None:
        _log(event, as_json=values["as_json"])
        if event["event"] == "ready":
            _log({"event": "serving", "text": f"serving at {url}; Ctrl-C ends", "url": url}, as_json=values["as_json"])

    asked: list[float] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.append(time.monotonic()))
    environment = {"HF_TOKEN": values["hf_token"]} if values["hf_token"] else {}
    inherit = (listening.fileno(),)
    with LocalPipeline(
        gateway, models, on_event=tell, inherit=inherit, environment=environment, stages=stages
    ) as pipeline:
        supervisor = pipeline.supervisor
        supervisor.start()
        drained = False
        while not supervisor.finished:
            supervisor.step()
            if asked and (len(asked) > 1 or time.monotonic() - asked[0] > _DRAIN_S or not pipeline.summary.ready_at):
                break
            if asked and not drained:
                drained = True
                supervisor.drain()
    return 0


def _refuse_beside_topology() -> None:
    """What is in the file would win without a word, with --token for one."""
    context = click.get_current_context()
    sources = {each: context.get_parameter_source(str(each.name)) for each in context.command.params}
    given = [
        each.opts[0]
        for each, source in sources.items()
        if (source is ParameterSource.COMMANDLINE and each.name != "topology")
        or (source is ParameterSource.ENVIRONMENT and each.name == "token")
    ]
    if given:
        msg = f"{given[0]} has no effect beside --topology: what is served is what the file says, in [gateway]"
        raise UsageError(msg)


def _gateway(values: dict[str, Any]) -> Any:
    from diart_mp.topology import GatewayConfig
    from diart_mp.web.http import parse_origin
    from diart_mp.web.tokens import Tokens

    host = values["host"]
    file = values["token_file"]
    tokens = Tokens(values["token"] or "", file)
    tokens.check_host(host, insecure=values["insecure"])
    tokens.check_metrics(protect=values["protect_metrics"])
    if values["key"] and not values["cert"]:
        msg = "--key needs the certificate that it belongs to: give --cert, too"
        raise UsageError(msg)
    config = GatewayConfig(
        settings=options.settings(values, values["start"] or "early"),
        host=host,
        port=values["port"],
        token=values["token"] or "",
        token_file=str(file.absolute()) if file else "",
        cert=str(values["cert"].absolute()) if values["cert"] else "",
        key=str(values["key"].absolute()) if values["key"] else "",
        insecure=values["insecure"],
        origins=tuple(map(parse_origin, (values["origin"] or "").split(","))) if values["origin"] else (),
        protect_metrics=values["protect_metrics"],
        max_streams=values["max_streams"],
    )
    if config.cert:
        from diart_mp.web.tls import make_tls

        make_tls(config.cert, config.key)
    return config


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket. It stays this process's: while a new gateway starts, clients wait instead of being refused."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        msg = f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --port or --host"
        raise UsageError(msg) from error
    return listening


def _log(event: dict[str, Any], *, as_json: bool) -> None:
    """One line of the log, on standard error."""
    if as_json:
        line = json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False, default=str)
    elif event["event"] in _SHOWN and "text" in event:
        line = f"# {event['text']}"
    else:
        return
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
