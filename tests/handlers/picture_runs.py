"""Runs of the PictureEvaluator over pictures that are their own logits, for the tests of its handlers."""

from typing import Any

import torch
from monai.data import DataLoader, Dataset, MetaTensor

from ag_networks.handlers import PictureEvaluator


class AsLogits(torch.nn.Module):
    """Take the picture's first pixels for logits; batches of ``refuse`` pictures or more do not fit into memory."""

    def __init__(self, classes: int = 2, refuse: int = 1000) -> None:
        super().__init__()
        self.classes = classes
        self.refuse = refuse
        self.batches: list[int] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if len(image) >= self.refuse:
            raise MemoryError
        self.batches.append(len(image))
        return image.flatten(1)[:, : self.classes]


def picture(case: str, logits: list[float], size: int = 8, warnings: str = "") -> dict[str, Any]:
    values = torch.zeros(1, size, size)
    values.view(-1)[: len(logits)] = torch.tensor(logits)
    return {"case": case, "image": MetaTensor(values, meta={"picture_warnings": warnings})}


def make_evaluator(data: Any, handlers: list[Any], batch_size: int = 4, **options: Any) -> PictureEvaluator:
    return PictureEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=batch_size, collate_fn=list),
        network=options.pop("network", AsLogits()),
        val_handlers=handlers,
        **options,
    )
