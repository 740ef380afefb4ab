"""What a method is made of: its stages, what each starts from and leaves, and who builds, completes and exports it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ultrarefiner_monai.errors import DataError, did_you_mean
from ultrarefiner_monai.systems.classes import told_apart
from ultrarefiner_monai.systems.key import Key

Fold = Literal["same", "all"]

PROMPT_SOURCE = "prompt_source"  # configuration key: which lesions a network is asked about in validation and test
TEACHER = "teacher_checkpoint"  # configuration key: a model that a stage learns from and that is no part of its network
PROMPT_MAPS = "prompt_maps"  # configuration key: a folder of any model's maps, as a cross-validation leaves them


@dataclass(frozen=True)
class Stage:
    """One training of a system, which leaves a `model.pt`.

    Args:
        name: unique in all systems, such as "phase1".
        bundle: folder below `bundles/` whose configurations train it.
        outputs: the masks that it predicts by name; the first is the baseline, the last is what users get.
        configs: files of `bundles/<bundle>/configs`, laid over each other, that train it.
        after: what must be done before: ("same", stage) is that stage's same fold, ("all", stage) all of its folds with
            their out-of-fold maps.
        starts: configuration key -> stage whose `model.pt` of the same fold it names.
        feeds: configuration key -> stage whose out-of-fold maps it names; a batch then has such a map beside each image.
        all_folds: trained on every fold even where a cross-validation asks for some, since other stages need all its maps.
        scored: whether it enters the tables of a cross-validation; one whose masks a later stage has as its baseline does
            not.
        options: settings of a prediction that a MONAI Label client may change beside the threshold -> their dotted paths
            in the `network` of a model's card.
        settings: configuration key -> dotted path in the `network` of a model's card, for keys that decide the network.
        classes: configuration key that names the classes which it tells apart (`classes.told_apart`), one of `settings`; empty
            where it tells none.
        prompted: whether its network is asked about lesions. The keys `prompt_source` and `prompt_maps` say which, and a map
            beside the image whose lesions they are may be any model's.
        corrected: whether clicks and a box of a user correct the map that its network refines.
        weights: configuration keys that name files of published weights.
        completed: further configuration keys of its training that the system's resolver completes or checks.
        short_schedule: epochs that suffice on the embedded synthetic data set.
        rate: AdamW's learning rate where a trained model learns from the labels of a MONAI Label server.
        loss: the loss there, as a component of a configuration.
    """

    name: str
    bundle: str
    outputs: tuple[str, ...]
    configs: tuple[str, ...] = ("train",)
    after: tuple[tuple[Fold, str], ...] = ()
    starts: Mapping[str, str] = field(default_factory=dict)
    feeds: Mapping[str, str] = field(default_factory=dict)
    all_folds: bool = False
    scored: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    classes: str = ""
    prompted: bool = False
    corrected: bool = False
    weights: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()
    short_schedule: int = 3
    rate: float = 1e-5
    loss: Mapping[str, Any] = field(default_factory=lambda: {"_target_": "ultrarefiner_monai.losses.DiceCELoss"})

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Configuration keys that mean something to this stage alone."""
        prompts = (PROMPT_SOURCE, PROMPT_MAPS) if self.prompted else ()
        return (*self.settings, *self.weights, *self.starts, *self.feeds, *prompts, *self.completed)

    @property
    def folder(self) -> str:
        """Folder of its bundle that its models are in: stages that share a bundle have one each."""
        return "_".join(("models", *self.configs[1:]))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of its network in a card."""
        return tuple(dict.fromkeys(path.partition(".")[0] for path in self.settings.values()))

    @property
    def in_parts(self) -> bool:
        """Whether its network has more to give than one mask: other outputs, what classes are made of, masks of lesions."""
        return len(self.outputs) > 1 or bool(self.classes) or self.prompted

    @property
    def reads_map(self) -> bool:
        """Whether its network takes a map beside the image: to refine, or with the lesions that it is asked about."""
        return bool(self.feeds) or self.prompted

    @property
    def clickable(self) -> bool:
        """Whether clicks and a box of a user change what its network gives."""
        return self.prompted or self.corrected

    def classes_of(self, network: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes told apart by a network of this stage, as the `network` of its card describes it.

        Raises:
            DataError: they cannot be names of classes.
        """
        if not self.classes:
            return ()
        part, _, name = self.settings[self.classes].partition(".")
        return told_apart(network[part][name])


@dataclass(frozen=True)
class System:
    """A method with a name.

    The functions are given as `module:name` and imported when they are called, so that listing systems costs nothing.

    Args:
        name: as in `--system`.
        title: for people.
        reference: the paper.
        labels: what the values of its masks may mean: "lesion" (0 and 1), "classes" of an image, or "any", organs, too.
        prompts: whether a user adds points and boxes to an image: "none", "optional" or "required".
        stages: in the order of their training.
        instead: configuration key of a start or feed -> what takes its place in a demonstration, in words; one that is not
            here cannot be done without.
        quick: configuration keys of each stage for the demonstration, sized for two cores without a GPU.
        builder: `build(network) -> nn.Module`: an untrained network from what a model's card says of it.
        describer: `describe(network, settings) -> dict`: what `build` makes this network from; `settings` are those of the
            stage, nested by their paths. Empty where the settings say everything.
        resolver: `resolve(request, demonstration, substitutions) -> Networks`: variants and sizes completed, weights found;
            see `bundle.preflight.request`.
        exporter: `parts(network, size) -> dict[str, Part]`: the networks that an export writes; by default the whole one.
        adjuster: `adjusted(network, options) -> nn.Module`: the network with changed options of its stage; needed by stages
            that have any.
        keys: the configuration keys that other systems do not have.
        shared_keys: key of a whole cross-validation -> stage -> the stage's key that it sets, for keys that stand for one
            thing in one stage and for another in the next.
        weights: name -> `find() -> Path` of the pretrained weights that can be installed; it raises `FileNotFoundError` or
            `ValueError` with the next step.
    """

    name: str
    title: str
    reference: str
    stages: tuple[Stage, ...]
    quick: Mapping[str, Mapping[str, Any]]
    builder: str
    resolver: str
    exporter: str = "ultrarefiner_monai.networks.export_parts:whole_network"
    describer: str = ""
    adjuster: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)
    labels: Literal["lesion", "classes", "any"] = "lesion"
    prompts: Literal["none", "optional", "required"] = "none"
    keys: tuple[Key, ...] = ()
    shared_keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        """The stage `name`.

        Raises:
            DataError: the system has none of that name.
        """
        found = next((stage for stage in self.stages if stage.name == name), None)
        if found is None:
            names = [stage.name for stage in self.stages]
            raise DataError(f"unknown stage '{name}' of {self.name}: {did_you_mean(name, names)}")
        return found

    def function(self, role: Literal["builder", "describer", "resolver", "exporter", "adjuster"]) -> Callable[..., Any]:
        """The function that plays a role."""
        return _imported(getattr(self, role))

    def find_weights(self) -> dict[str, Path | str]:
        """Pretrained weights by name: their file, or why there is none and the next step."""
        found: dict[str, Path | str] = {}
        for name, finder in self.weights.items():
            try:
                found[name] = _imported(finder)()
            except (FileNotFoundError, ValueError) as error:
                found[name] = str(error)
        return found


def _imported(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)
