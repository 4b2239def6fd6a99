"""Small checkpoints with random weights, made by pyannote.audio itself."""

from pathlib import Path
from typing import Any

import torch


class Checkpoints:
    """Networks as pyannote.audio makes them, and the files it would save."""

    def __init__(self, pyannote: Any, folder: Path) -> None:
        torch.manual_seed(0)
        task, self.folder = pyannote.core.task, folder
        self.multilabel = task.Specifications(
            task.Problem.MULTI_LABEL_CLASSIFICATION, task.Resolution.FRAME, 5.0, classes=["a", "b", "c"]
        )
        self.powerset = task.Specifications(
            task.Problem.MONO_LABEL_CLASSIFICATION, task.Resolution.FRAME, 10.0, classes=["a", "b", "c"]
        )
        self.powerset.powerset_max_classes = 2
        self.representation = task.Specifications(task.Problem.REPRESENTATION, task.Resolution.CHUNK, 5.0)
        self.pyannote = pyannote

    def pyannet(self, specifications: Any, **settings: Any) -> Any:
        small = {"hidden_size": 8, "num_layers": 1}
        network = self.pyannote.models.segmentation.PyanNet(**{"lstm": small, "linear": small, **settings})
        return self.built(network, specifications)

    def xvector(self) -> Any:
        return self.built(self.pyannote.models.embedding.XVectorSincNet(dimension=16), self.representation)

    def wespeaker(self) -> Any:
        return self.built(self.pyannote.models.embedding.WeSpeakerResNet34(), self.representation)

    @staticmethod
    def built(model: Any, specifications: Any) -> Any:
        model.specifications = specifications
        model.setup()
        return model.eval()

    def save(self, model: Any, name: str, **changes: Any) -> str:
        content: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
        model.on_save_checkpoint(content)
        torch.save({**content, **changes}, self.folder / name)
        return str(self.folder / name)
