"""diart's own server and client, for ``benchmarks.serving``: run by the Python of diart's own environment (``diart_env.py``).

    PYTHON benchmarks/diart_web.py serve --port N --weights FOLDER     diart.serve with the built-in models; says "ready"
    PYTHON benchmarks/diart_web.py client ARGUMENTS...                 diart.client, as it is

The server is ``diart.serve`` but for its models, which are handed to it as in ``diart_run.py``.
"""

import argparse
import sys
from pathlib import Path

from diart_run import ge2e, import_diart, segmentation


def serve(options: argparse.Namespace) -> None:
    """One client, to the end of the process."""
    diart = import_diart()
    import torch

    torch.set_num_threads(options.threads)
    config = diart.SpeakerDiarizationConfig(
        segmentation=diart.models.SegmentationModel(lambda: segmentation(options.weights)),
        embedding=diart.models.EmbeddingModel(lambda: ge2e(options.weights)),
        latency=0.5,
        tau_active=0.5,
        rho_update=0.3,
        delta_new=0.35,
        device=torch.device("cpu"),
    )
    source = diart.sources.WebSocketAudioSource(config.sample_rate, "127.0.0.1", options.port)
    pipeline = diart.SpeakerDiarization(config)
    inference = diart.inference.StreamingInference(
        pipeline, source, batch_size=1, do_profile=False, do_plot=False, show_progress=False
    )
    inference.attach_hooks(lambda found: source.send(found[0].to_rttm()))
    print("ready", flush=True)
    inference()


def client(arguments: list[str]) -> None:
    """``diart.client``."""
    import_diart()
    from diart.console.client import run

    sys.argv = ["diart.client", *arguments]
    run()


def main() -> None:
    if sys.argv[1:2] == ["client"]:
        client(sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["serve"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
