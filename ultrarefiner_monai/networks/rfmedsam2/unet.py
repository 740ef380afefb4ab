"""The U-Net that finds where to look: nnU-Net's (Isensee et al., Nature Methods 2021) by MONAI's `DynUNet`, or a TransUNet."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.label_logits import with_background
from ultrarefiner_monai.networks.rfmedsam2.steps import Steps
from ultrarefiner_monai.networks.transunet import build_transunet

Unet = Literal["2d", "3d", "transunet"]

WIDTHS = {"2d": (32, 64, 128, 256, 512, 512, 512, 512), "3d": (32, 64, 128, 256, 320, 320, 320)}  # nnU-Net's
SMALL = (16, 32, 64, 128, 128)  # of a network for two cores
LEAST_SIDE = 4  # pixels of the coarsest map; instance normalisation needs several
HEADS = 3  # for deep supervision, beside the last


class FrameUnet(nn.Module):
    """Logits l_1..l_K of frames (N, 1, S, S), each by itself ("2d"), or with those of its sequence ("3d").

    The network has 1 + K channels; the background's is subtracted from the others, which leaves the softmax as it is.

    Args:
        kind: U-Net in two or three dimensions, the third being the frames of a sequence; "transunet": the R50-ViT-B/16, or
            with features "tiny" the small one.
        features: channels of the stages, as "32+64+128"; "" for nnU-Net's, as many stages as leave 4 pixels along a side.
        image_size: side S in pixels.
        classes: names of the labels; none: a single one, lesion.
        frames: of a sequence in training, for "3d": how often its length can be halved.

    Raises:
        ValueError: an unknown kind, or features or a size that do not go together.
    """

    def __init__(
        self, kind: Unet = "2d", features: str = "", image_size: int = 256, classes: Sequence[str] = (), frames: int = 1
    ) -> None:
        super().__init__()
        if kind not in (*WIDTHS, "transunet"):
            raise ValueError(f"unet must be one of 2d, 3d, transunet, found {kind!r}")
        self.kind, self.features, self.image_size, self.frames = kind, features, image_size, frames
        self.classes = tuple(classes)
        channels = 1 + max(1, len(self.classes))
        self.network: Any
        if kind == "transunet":
            self.network = build_transunet(features or "r50_vit_b16", image_size, out_channels=channels)
        else:
            widths = read_widths(features) if features else _that_fit(WIDTHS[kind], image_size)
            if len(widths) < 3 or image_size % 2 ** (len(widths) - 1):
                raise ValueError(
                    f"image_size {image_size}: {len(widths)} stages need a multiple of {2 ** (len(widths) - 1)}"
                )
            self.network = _dyn_unet(widths, channels, frames if kind == "3d" else None)

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that decide a prediction beside the weights."""
        about = {name: getattr(self, name) for name in ("kind", "features", "image_size", "frames")}
        return about | {"classes": "+".join(self.classes) or "lesion"}

    def forward(
        self, image: Tensor, sequence: Tensor | None = None, position: Tensor | None = None, return_parts: bool = False
    ) -> Tensor | Steps:
        """Segment frames (N, 1, S, S) in [0, 1].

        Args:
            image: see above.
            sequence: (N,) number of the sequence of each; None: each its own.
            position: (N,) index of each in its sequence, which they are sorted by; unused but for "3d".
            return_parts: give the Steps.

        Returns:
            Logits (N, 1, S, S), or of background and classes (N, 1 + K, S, S) where some are told apart; or the Steps.
        """
        logits, heads = self.segment(image, sequence, position)
        if return_parts:
            return Steps({"unet": logits}, heads, self.classes)
        return with_background(logits) if self.classes else logits

    def segment(
        self, image: Tensor, sequence: Tensor | None = None, position: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (N, K, S, S) of frames, and in training those of further heads, the finest first."""
        scaled = 2 * image - 1
        if self.kind == "3d":
            maps = self._sequences(scaled, sequence, position)
        elif self.kind == "2d":
            maps = self._maps(scaled)
        else:
            maps = [self.network(image)]
        logits, *heads = (found[:, 1:] - found[:, :1] for found in maps)
        return logits.float(), tuple(heads)

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Logits of the last head, and in training of the others, which `DynUNet` itself would enlarge to full size."""
        net = self.network
        passed = [net.input_block(image)]
        for down in (*net.downsamples, net.bottleneck):
            passed.append(down(passed[-1]))
        found = [passed.pop()]
        for up in net.upsamples:
            found.append(up(found[-1], passed.pop()))
        coarser = zip(net.deep_supervision_heads, found[-2::-1], strict=False) if self.training else ()
        return [net.output_block(found[-1]), *(head(above) for head, above in coarser)]

    def _sequences(self, image: Tensor, sequence: Tensor | None, position: Tensor | None) -> list[Tensor]:
        """The maps of frames of several sequences, each of which is a volume; those of one length go together."""
        number = torch.arange(image.shape[0], device=image.device) if sequence is None else sequence
        volumes = [torch.nonzero(number == one)[:, 0] for one in number.unique()]
        if position is not None:
            volumes = [frames[position[frames].argsort()] for frames in volumes]
        found: list[list[Tensor]] = []
        for length in sorted({frames.shape[0] for frames in volumes}):
            together = torch.stack([frames for frames in volumes if frames.shape[0] == length])  # (B, T)
            depth = _depth_multiple(self.frames)
            volume = F.pad(image[together].transpose(1, 2), (0, 0, 0, 0, 0, -length % depth), mode="replicate")
            found.append([_as_frames(logits, length, volume.shape[2]) for logits in self._maps(volume)])
            found[-1].append(together.flatten())
        *maps, order = (torch.cat(parts) for parts in zip(*found, strict=True))
        return [logits[order.argsort()] for logits in maps]


def read_widths(features: str) -> tuple[int, ...]:
    """Channels of at least three stages, from text such as "16+32+64".

    Raises:
        ValueError: it is none.
    """
    words = features.split("+")
    if len(words) < 3 or not all(word.isdecimal() and 0 < int(word) <= 2048 for word in words):
        raise ValueError(f"unet_features {features!r}: expected three or more numbers up to 2048 such as 16+32+64")
    return tuple(map(int, words))


def _that_fit(widths: Sequence[int], side: int) -> tuple[int, ...]:
    """As many stages as leave at least `LEAST_SIDE` pixels and halve the side each without a rest."""
    fit = 1
    while fit < len(widths) and side % 2**fit == 0 and side >> fit >= LEAST_SIDE:
        fit += 1
    return tuple(widths[:fit])


def _depth_multiple(frames: int) -> int:
    """Frames that a volume's length is a multiple of: as often halved as `frames` allows, four times at most."""
    halvings = 0
    while halvings < 4 and frames % 2 ** (halvings + 2) == 0:
        halvings += 1
    return 2**halvings


def _as_frames(logits: Tensor, length: int, depth: int) -> Tensor:
    """Of volumes' logits (B, C, t, h, w) those of the first `length` of `depth` frames, (B length, C, h, w)."""
    index = torch.arange(length, device=logits.device) * logits.shape[2] // depth  # a coarser head has fewer frames
    return logits[:, :, index].transpose(1, 2).flatten(0, 1)


def _dyn_unet(widths: Sequence[int], channels: int, frames: int | None) -> nn.Module:
    """MONAI's `DynUNet` of two dimensions, or of three for sequences of `frames`; its import takes time, so it waits."""
    from monai.networks.nets import DynUNet

    strides: list[Any] = [1, *[2] * (len(widths) - 1)]
    if frames is not None:
        along = _depth_multiple(frames).bit_length() - 1  # halvings of the frames, from the second on
        strides[1:] = [(2 if 1 <= number <= along else 1, 2, 2) for number in range(len(widths) - 1)]
    network = DynUNet(
        spatial_dims=2 if frames is None else 3,
        in_channels=1,
        out_channels=channels,
        kernel_size=[3] * len(widths),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=list(widths),
        norm_name=("INSTANCE", {"affine": True}),
        deep_supervision=True,
        deep_supr_num=min(HEADS, len(widths) - 2),
    )
    del network.skip_layers  # its own order of the same layers
    return network
