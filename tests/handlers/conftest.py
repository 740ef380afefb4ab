"""A tiny two-stage network in real MONAI engines."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import Activationsd, Compose, RandGaussianNoised
from monai.utils import set_determinism
from PIL import Image
from torch import nn

from ultrarefiner_monai.handlers.steps import TrainingStep

SIZE = 16
OUTPUTS = ("coarse", "refined")


class TwoStageLoss(nn.Module):
    """BCE of both channels with learned weights: the interface of JointLoss."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(2))
        self.components: dict[str, torch.Tensor] = {}

    @property
    def learned_weights(self) -> dict[str, tuple[float, float]]:
        variances = zip(OUTPUTS, self.log_variances.tolist(), strict=True)
        return {name: (s, math.exp(-s) / 2) for name, s in variances}

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = [nn.functional.binary_cross_entropy_with_logits(logits[:, i : i + 1], target) for i in (0, 1)]
        self.components = {"coarse": losses[0].detach(), "refined": losses[1].detach()}
        return sum(torch.exp(-s) * loss / 2 + s / 2 for s, loss in zip(self.log_variances, losses, strict=True))


@dataclass
class Run:
    """The parts that a bundle's config would name."""

    trainer: SupervisedTrainer
    evaluator: SupervisedEvaluator
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    loss: TwoStageLoss
    losses: list[float]

    @property
    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "scheduler": self.scheduler, "loss": self.loss}


def make_items(folder: Path, count: int = 6) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for i in range(count):
        truth = np.zeros((1, SIZE, SIZE), dtype=bool)
        truth[0, 4 : 8 + i, 5:12] = True
        image = (0.2 + 0.6 * truth + 0.2 * generator.random(truth.shape)).astype(np.float32)
        path = folder / f"case{i}.png"
        Image.fromarray((255 * image[0]).astype(np.uint8)).save(path)
        items.append(
            {
                "image": image,
                "label": truth.astype(np.float32),
                "truth": truth,
                "id": f"case{i}",
                "patient": f"p{i // 2}",
            }
            | {"class": "benign" if i % 2 else "malignant", "image_path": str(path)}
        )
    return items


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    return make_items(tmp_path / "images")


@pytest.fixture
def make_run(items: list[dict[str, Any]]) -> Callable[..., Run]:
    """Build fresh engines from seed 7: dropout, random noise and shuffling all draw random numbers."""

    def make(
        epochs: int = 4,
        train_handlers: list | None = None,
        val_handlers: list | None = None,
        channels: int = 2,
        step: TrainingStep | None = None,
    ) -> Run:
        set_determinism(7)
        network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, channels, 1))
        loss = TwoStageLoss()
        optimizer = torch.optim.AdamW([*network.parameters(), *loss.parameters()], lr=0.02)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(items), batch_size=2),
            network=network,
            postprocessing=Compose([Activationsd(keys="pred", sigmoid=True)]),
            val_handlers=val_handlers,
        )
        losses: list[float] = []
        noisy = Dataset(items, RandGaussianNoised(keys="image", prob=0.7, std=0.1))
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(noisy, batch_size=2, shuffle=True),
            network=network,
            optimizer=optimizer,
            loss_function=loss,
            decollate=False,
            iteration_update=step or TrainingStep(),
            train_handlers=[
                *(train_handlers or []),
                ValidationHandler(interval=1, validator=evaluator),
                LrScheduleHandler(scheduler, print_lr=False),
            ],
        )
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
        )
        return Run(trainer, evaluator, network, optimizer, scheduler, loss, losses)

    return make
