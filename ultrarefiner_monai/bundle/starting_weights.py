"""What a network starts from, and the card that it is remembered by."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.models.card import build_network, read_card
from ultrarefiner_monai.models.weights import bare, compare_card, load_model
from ultrarefiner_monai.networks import Sam, TransUNet, build_sam
from ultrarefiner_monai.systems import DEFAULT
from ultrarefiner_monai.systems.sequence_keys import SEQUENCE_OF
from ultrarefiner_monai.systems.system import TEACHER

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.sam2 import Sam2
    from ultrarefiner_monai.networks.uniultra import UniUltra


def model_card(plan: Plan, network: nn.Module) -> dict[str, Any]:
    """What decides a prediction of `network` and where it comes from; stored beside its weights, checked on loading."""
    system, stage = plan.request.system, plan.stage
    return {
        **_identity(plan, stage.name),
        **({"teacher_sha256": file_sha256(Path(teacher))} if (teacher := plan.starts.get(TEACHER)) else {}),
        "version": __version__,
        **plan.trained_on,
        "outputs": list(stage.outputs),
        "labels": plan.labels,
        "prompts": system.prompts,
        "image_size": plan.networks.image_size,
        "network": _described(plan, network),
        **_sequences(plan),
        **({"islands": plan.islands} if plan.islands else {}),
        **({"clip": list(clip)} if plan.data is not None and (clip := plan.manifest.clip) else {}),
    }


def _identity(plan: Plan, stage: str) -> dict[str, str]:
    """Names of system and stage, and UltraRefiner's older name of a stage, by which earlier versions know its cards."""
    name = plan.request.system.name
    return {"system": name, "stage": stage} | ({"phase": stage} if name == DEFAULT else {})


def _sequences(plan: Plan) -> dict[str, dict[str, Any]]:
    """Which frames the network saw together, and how many in a piece; empty where each was alone."""
    kind = plan.networks.settings.get(SEQUENCE_OF)
    return {} if kind is None else {"sequence": {"of": kind, "frames": plan.networks.settings["frames"]}}


def _described(plan: Plan, network: nn.Module) -> dict[str, Any]:
    """What the system's builder makes `network` from: the plan's settings, and the network's own."""
    system, nested = plan.request.system, _nested(plan)
    return system.function("describer")(bare(network), nested) if system.describer else nested


def _nested(plan: Plan) -> dict[str, Any]:
    """The plan's settings of the stage's network, nested by their paths."""
    nested: dict[str, Any] = {}
    for key, path in plan.stage.settings.items():
        if key in plan.networks.settings:
            part, _, name = path.partition(".")
            nested.setdefault(part, {})[name] = plan.networks.settings[key]
    return nested


def untrained_network(plan: Plan) -> nn.Module:
    """The network of the plan's stage with random weights, which those of a trained model are to replace."""
    return plan.request.system.function("builder")(_nested(plan))


def _expected(plan: Plan, stage: str, network: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of a model must say to be loaded into this run; single images belong to no data set."""
    return {"stage": stage, **plan.trained_on, "network": network}


@one_line_errors
def load_pretrained(network: TransUNet, path: str | None) -> TransUNet:
    """Load Google's `R50+ViT-B_16.npz` into the encoder of `network` if a file is named.

    Raises:
        SystemExit: the file is missing or of another network.
    """
    if path is not None:
        with _named_by_the_user():
            network.load_npz(path)
    return network


@one_line_errors
def load_sam(variant: str, image_size: int | None = None, checkpoint: str | None = None, lora_rank: int = 0) -> Sam:
    """`build_sam` for a configuration: a wrong weights file ends in one line."""
    with _named_by_the_user():
        return build_sam(variant, image_size, checkpoint, lora_rank)


@one_line_errors
def load_prompted(
    variant: str, image_size: int | None = None, checkpoint: str | None = None, version: str | None = None
) -> "Sam | Sam2":
    """`build_prompted`, LiteMedSAM or a SAM 2, for a configuration: a wrong weights file ends in one line."""
    from ultrarefiner_monai.networks.uniultra import build_prompted

    with _named_by_the_user():
        return build_prompted(variant, image_size, checkpoint, version)


@one_line_errors
def load_teacher(plan: Plan) -> "UniUltra | None":
    """The trained model that the stage learns from, in eval mode and without gradients; None where nothing is learnt.

    Raises:
        SystemExit: it is of another stage, data set or fold, or does not load.
    """
    if plan.starts[TEACHER] is None:
        return None
    path = Path(str(plan.starts[TEACHER]))
    card = read_card(path)
    compare_card(path, card, {"stage": plan.stage.starts[TEACHER], **plan.trained_on})
    teacher: Any = build_network(card)
    load_model(teacher, path)
    return teacher.eval().requires_grad_(False)


@one_line_errors
def load_student(variant: str, image_size: int, teacher: "UniUltra | None", version: str | None = None) -> "Sam | Sam2":
    """A student's SAM: a new image encoder, and what is behind it from the teacher, where there is one.

    Raises:
        SystemExit: an unknown variant, or a size that cannot be.
    """
    from ultrarefiner_monai.networks.sam2.students import copy_decoder

    sam = load_prompted(variant, image_size, version=version)
    if teacher is not None:
        copy_decoder(teacher.sam, sam)
    return sam


@contextmanager
def _named_by_the_user() -> Iterator[None]:
    """What fails in here is a file or a size that the user named."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from error


@one_line_errors
def load_starts(plan: Plan, network: nn.Module) -> nn.Module:
    """Load the models that the stage starts from into the parts of `network` that they have trained.

    A part is the submodule named as in the card: `coarse` and `refiner` of an UltraRefiner.

    Raises:
        SystemExit: a checkpoint is of another stage, data set, fold or network, or does not load.
    """
    described = _described(plan, network)
    for key, name in plan.stage.starts.items():
        path = plan.starts[key]
        if path is not None:
            parts = plan.request.system.stage(name).parts
            target = getattr(network, parts[0]) if len(parts) == 1 else network
            load_model(target, path, _expected(plan, name, {part: described[part] for part in parts}))
    return network


@one_line_errors
def load_trained(plan: Plan, network: nn.Module) -> None:
    """Load the trained model of the plan's stage, data set and fold, or those of its cascade, into `network`.

    Raises:
        SystemExit: a file is missing, damaged, or of another stage, data set, fold or network.
    """
    if plan.request.cascade:
        load_starts(plan, bare(network))
    else:
        expected = _expected(plan, plan.stage.name, _described(plan, network))
        load_model(network, plan.models[plan.stage.name], expected)
