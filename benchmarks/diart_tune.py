"""One trial of diart's own Optimizer, for ``tuning.py``: run by the Python of diart's environment (``diart_env.py``), by nobody else.

    PYTHON benchmarks/diart_tune.py AUDIO_DIR RTTM_DIR --weights FOLDER [--batch-size N] [--threads N]

The trial is the first one that diart makes, the base configuration, with the built-in models. They are loaded before the clock runs.
Prints one JSON object: seconds of wall and processor time, and the DER in percent as diart counts it.
"""

import argparse
import json
import time
from pathlib import Path

from diart_run import ge2e, import_diart, segmentation


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("audio", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the built-in weights")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    diart = import_diart()
    import optuna
    import torch
    from diart.optim import Optimizer

    torch.set_num_threads(options.threads)
    models = (
        diart.models.SegmentationModel(lambda: segmentation(options.weights)),
        diart.models.EmbeddingModel(lambda: ge2e(options.weights)),
    )
    for model in models:
        model.load()
    values = {"tau_active": 0.5, "rho_update": 0.3, "delta_new": 0.35}
    config = diart.SpeakerDiarizationConfig(segmentation=models[0], embedding=models[1], latency=0.5, **values)
    paths = (options.audio, options.reference, optuna.create_study())
    optimizer = Optimizer(diart.SpeakerDiarization, *paths, batch_size=options.batch_size, base_config=config)
    wall, used = time.monotonic(), time.process_time()
    optimizer(1, show_progress=False)
    found = {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - used, "der": optimizer.best_performance}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
