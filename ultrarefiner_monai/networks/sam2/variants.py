"""SAM 2's variants by name: the shape of their Hiera image encoder (Ryali et al., ICML 2023). Nothing else differs."""

from typing import NamedTuple


class Variant(NamedTuple):
    """Shape of a Hiera encoder of four stages, whose width and heads double from one stage to the next.

    `width` and `heads` are those of the first stage; `blocks` and `windows` have a value a stage; `global_blocks` attend to the
    whole image; `background` is the side of the table of positions that is stretched over the image.
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7


VARIANTS = {
    "tiny": Variant(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Variant(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": Variant(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": Variant(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
    "mini": Variant(16, 1, (1, 2, 7, 2), (5, 7, 9)),  # UniUltra's student; not published
}
VERSIONS = ("2.0", "2.1")
IMAGE_SIZE = 1024  # side of the published input in pixels
STRIDE = 32  # a side must be a multiple: of the last stage's stride, and of the first stage's tiles of positions
