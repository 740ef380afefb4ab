"""TODO."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.handlers.checkpoint import load_model
from ultrarefiner_monai.networks import Sam, SamRefiner, TransUNet, UltraRefiner, build_sam
from ultrarefiner_monai.networks.sam import lora_rank


def model_card(plan: Plan, network: nn.Module) -> dict[str, Any]:
    """What decides a prediction of `network` and where it comes from; stored beside its weights, checked on loading."""
    return {"phase": plan.phase, "version": __version__, **plan.trained_on, **_architecture(plan, network)}


def expected_card(plan: Plan, network: nn.Module) -> dict[str, Any]:
    """The part of `model_card` that a checkpoint must share to be loaded into this run.

    Pictures named one by one belong to no data set: there only phase and architecture count.
    """
    provenance = plan.trained_on if plan.images is None else {}
    return {"phase": plan.phase, **provenance, **_architecture(plan, network)}


def _architecture(plan: Plan, network: nn.Module) -> dict[str, Any]:
    card: dict[str, Any] = {}
    if plan.phase in ("phase1", "phase3"):
        card["coarse"] = {"variant": plan.coarse_variant, "size": plan.coarse_size}
    if isinstance(network, SamRefiner | UltraRefiner):
        refiner = network.refiner if isinstance(network, UltraRefiner) else network
        card["refiner"] = {"variant": plan.variant, "image_size": plan.image_size, **refiner.settings}
        card["refiner"]["lora_rank"] = lora_rank(refiner.sam.image_encoder)
    return card


@one_line_errors
def start_phase1(network: TransUNet, pretrained: str | None) -> TransUNet:
    """Load Google's `R50+ViT-B_16.npz` into the encoder of `network` if a file is named.

    Raises:
        SystemExit: the file is missing or of another network.
    """
    if pretrained is not None:
        with _named_by_the_user():
            network.load_npz(pretrained)
    return network


@one_line_errors
def load_sam(variant: str, image_size: int | None = None, checkpoint: str | None = None, lora_rank: int = 0) -> Sam:
    """`build_sam` for a configuration: a wrong weights file ends in one line."""
    with _named_by_the_user():
        return build_sam(variant, image_size, checkpoint, lora_rank)


@contextmanager
def _named_by_the_user() -> Iterator[None]:
    """What fails in here is a file or a size that the user named."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from error


@one_line_errors
def start_phase3(plan: Plan, network: UltraRefiner) -> UltraRefiner:
    """Load the models of phases 1 and 2 that `plan` names into the two halves of `network`.

    Raises:
        SystemExit: a checkpoint is of another phase, data set, fold or network, or does not load.
    """
    card = {**plan.trained_on, **_architecture(plan, network)}
    if plan.phase1_checkpoint:
        expected = {key: value for key, value in card.items() if key != "refiner"}
        load_model(network.coarse, plan.phase1_checkpoint, {"phase": "phase1", **expected})
    if plan.phase2_checkpoint:
        expected = {key: value for key, value in card.items() if key != "coarse"}
        load_model(network.refiner, plan.phase2_checkpoint, {"phase": "phase2", **expected})
    return network


@one_line_errors
def load_trained(plan: Plan, network: nn.Module) -> None:
    """Load the trained model of `plan`'s phase, data set and fold, or the two of its cascade, into `network`.

    Raises:
        SystemExit: a file is missing, damaged, or of another phase, data set, fold or network.
    """
    if plan.cascade and isinstance(network, UltraRefiner):
        start_phase3(plan, network)
    else:
        load_model(network, plan.model, expected_card(plan, network))
