"""Loss of a small image encoder that learns the features of a large one."""

from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.adapters.features import EncoderFeatures

Levels = Literal["deep", "fpn", "embedding"]


class DistillationLoss(nn.Module):
    """Sum of mean squared differences between a student's features and its teacher's (UniUltra, arXiv 2511.15771).

    "deep": of the last block of each stage compared (strides 4, 8 and 16) three maps behind the neck's lateral
    convolution, see `BlockFeatures.compared`: nine terms. "fpn": the neck's maps, as in the public code.
    "embedding": the decoder's input alone, for teachers without such stages.

    `components` holds the last call's terms by name (`sum_1`, `block_1`, `adapter_1`, ...; `map_1`, ...;
    `embedding`) before weighting, detached. The teacher gets no gradient.

    Args:
        levels: see above.
        weights: of sum, block and adapter, for "deep" alone.

    Raises:
        ValueError: unknown levels, a negative weight, or weights beside other levels than "deep".
    """

    def __init__(self, levels: Levels = "deep", *, weights: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        if levels not in get_args(Levels):
            raise ValueError(f"levels must be one of {', '.join(get_args(Levels))}, found {levels!r}")
        if len(weights) != 3 or min(weights) < 0:
            raise ValueError(f"weights of sum, block and adapter: expected three values >= 0, found {weights}")
        if levels != "deep" and set(weights) != {1.0}:
            raise ValueError(f"weights of sum, block and adapter need levels='deep', found levels={levels!r}")
        self.levels: Levels = levels
        self.weights = dict(zip(("sum", "block", "adapter"), weights, strict=True))
        self.components: dict[str, Tensor] = {}

    def forward(self, student: "EncoderFeatures", teacher: "EncoderFeatures") -> Tensor:
        """Scalar loss of what both encoders make of the same images.

        Raises:
            ValueError: features that are missing, or of another shape than the teacher's.
        """
        with torch.no_grad():
            taught = self._features(teacher)
        found = self._features(student)
        if not found or found.keys() != taught.keys():
            raise ValueError(
                f"levels={self.levels!r} compares the same features of both, "
                f"found {', '.join(found) or 'none'} of the student and {', '.join(taught) or 'none'} of the teacher"
            )
        terms = {name: _difference(name, found[name], taught[name]) for name in found}
        self.components = {name: term.detach() for name, term in terms.items()}
        return torch.stack([self.weights.get(name.split("_")[0], 1.0) * term for name, term in terms.items()]).sum()

    def _features(self, features: "EncoderFeatures") -> dict[str, Tensor]:
        """The maps (B, C, h, w) that are compared, by name; the finest is number 1."""
        if self.levels == "embedding":
            return {} if features.embedding is None else {"embedding": features.embedding}
        if self.levels == "fpn":
            return {f"map_{number}": found for number, found in enumerate(features.maps, 1)}
        compared = enumerate((block.compared() for block in features.blocks), 1)
        return {f"{pair}_{number}": found for number, maps in compared for pair, found in maps.items()}


def _difference(name: str, found: Tensor, taught: Tensor) -> Tensor:
    if found.shape != taught.shape:
        raise ValueError(f"{name}: expected the teacher's {tuple(taught.shape)}, found {tuple(found.shape)}")
    return F.mse_loss(found.float(), taught.detach().float())
