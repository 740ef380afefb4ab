"""How a network is called in training and prediction; MONAI's engines take these as inferers."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ultrarefiner_monai.devices import out_of_memory
from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

logger = logging.getLogger(__name__)

NO_MEMORY_ADVICE = (
    "choose a smaller image_size or variant, or fewer workers, end what else uses the memory, or take another device"
)


class OutOfMemoryError(DataError):
    """There is no memory left, not even for a single image."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the errors that say that there is no memory left, wherever they come from, into `OutOfMemoryError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise OutOfMemoryError(f"out of memory ({one_line(error)}); {NO_MEMORY_ADVICE}") from error
        raise


class AutocastInferer:
    """Call the network under bf16 autocast on any device.

    MONAI's engines only autocast on CUDA; bf16 needs no gradient scaler and is about twice as fast on CPUs that have it.
    The network sees a plain tensor: MONAI's metadata would cost time at each of its operations.

    Where nothing is learnt and memory runs out, the batch is taken in halves, and all later ones in pieces of that size.

    Args:
        amp: whether to autocast at all.
    """

    def __init__(self, amp: bool = False) -> None:
        self.amp = amp
        self.micro_batch: int | None = None  # images at once; None while all have fitted
        self._before = 0  # images of a piece that are there for the others alone

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `network(inputs, *args, **kwargs)` returns; a tensor in full precision."""
        if torch.is_grad_enabled():
            return self._whole(inputs, network, *args, **kwargs)
        while True:
            size = min(self.micro_batch or len(inputs), len(inputs))
            try:
                return self._in_pieces(size, inputs, network, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                del error
            # Out of the handler, which would keep alive what the failed attempt holds.
            self.micro_batch = halved(size, inputs.device)

    def _in_pieces(self, size: int, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take `size` images at once, and those before that they need; tensors of as many images are cut like these."""
        self._before = 0
        if size >= len(inputs):
            return self._whole(inputs, network, *args, **kwargs)

        def part(value: Any, cut: slice) -> Any:
            if hasattr(value, "of_images"):  # prompts, of which an image may have several or none
                return value.of_images(cut)
            return value[cut] if isinstance(value, Tensor) and len(value) == len(inputs) else value

        outputs = []
        for start in range(0, len(inputs), size):
            before = self._before = self._needed_before(start, kwargs)
            cut = slice(start - before, start + size)
            found = self._whole(
                *(part(inputs, cut), network, *(part(value, cut) for value in args)),
                **{name: part(value, cut) for name, value in kwargs.items()},
            )
            outputs.append(found[before:])
        return torch.cat(outputs)

    def _needed_before(self, start: int, kwargs: Mapping[str, Any]) -> int:
        """How many images before the one at `start` a piece that begins there must have, too: none, images stand alone."""
        return 0

    def _whole(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.amp):
            output = network(inputs.as_subclass(Tensor), *args, **kwargs)
        return output.float() if isinstance(output, Tensor) else output


class OutputsInferer(AutocastInferer):
    """Return the logits of a network's outputs and of the classes that it tells apart, (B, outputs + K, H, W), in their order.

    Beside them it keeps, until the next batch, what the network was asked about, see `asked`.
    """

    def __init__(self, amp: bool = False) -> None:
        super().__init__(amp)
        self._size = 1
        self._asked: list[LesionPrompts | None] = []  # of each piece

    def asked(self, number: int) -> "LesionPrompts | None":
        """The prompts for an image of the latest batch, in pixels of what the network saw; None where it has no prompts."""
        piece, within = divmod(number, self._size)
        prompts = self._asked[piece]
        return None if prompts is None else prompts.of_images(slice(within, within + 1)).to("cpu")

    def _in_pieces(self, size: int, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._size, self._asked = size, []
        return super()._in_pieces(size, inputs, network, *args, **kwargs)

    def _whole(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Call a network whose parts hold `outputs`, name -> logits (B, 1, H, W), and may hold such `classes` and `asked`."""
        parts = super()._whole(inputs, network, *args, **{**kwargs, "return_parts": True})
        if not torch.is_grad_enabled():
            prompts = getattr(parts, "asked", None)
            self._asked.append(None if prompts is None else prompts.of_images(slice(self._before, len(inputs))))
        return torch.cat([*parts.outputs.values(), *getattr(parts, "classes", {}).values()], dim=1).float()


class SequenceInferer(OutputsInferer):
    """`OutputsInferer` for a network that looks back: long sequences are taken in pieces, and nothing changes by it.

    A piece begins with the frames before it that its first one remembers, whose own logits are dropped. For a network whose
    frame at position p depends on itself and on the frames of its sequence at p - window to p - 1 alone, and on these without
    what they remember, that equals the whole sequence at once. Short sequences share a piece.

    Call it with `sequence` (N,) and `position` (N,), whole numbers, a sequence's frames one after the other by position.

    Args:
        window: how far back the network looks, in positions.
        frames: new frames of a piece; half as many, for all later ones, where memory runs out.
        amp: whether to autocast.
    """

    def __init__(self, window: int, frames: int, amp: bool = False) -> None:
        super().__init__(amp)
        self.window = window
        self.micro_batch = frames

    def _needed_before(self, start: int, kwargs: Mapping[str, Any]) -> int:
        """The frames of the same sequence within the window before the one at `start`."""
        sequence, position = kwargs["sequence"], kwargs["position"]
        near = position[:start] >= position[start] - self.window
        return int((near & (sequence[:start] == sequence[start])).sum())


def halved(size: int, device: torch.device) -> int:
    """Half of the images that did not fit into memory, which is freed; said in the log.

    Raises:
        OutOfMemoryError: it was a single image.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if size == 1:
        raise OutOfMemoryError(f"out of memory on {device} with a single image; {NO_MEMORY_ADVICE}")
    logger.warning("out of memory on %s with %d images at once: from now on %d at once", device, size, size // 2)
    return size // 2
