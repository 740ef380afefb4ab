"""Configuration keys that systems share whose networks see frames that belong together."""

from ultrarefiner_monai.systems.key import Key

SEQUENCE_OF = "sequence"  # the key's name, by which a plan knows a stage that takes sequences
PATIENT, VOLUME = "patient", "volume"
IN_SEQUENCE = "in_sequence"
LONGEST_WINDOW = 6  # frames before the current one for which SAM 2 has a code of distance, beside the current one's

SEQUENCE = Key(
    SEQUENCE_OF,
    "choice",
    "which [frames belong together](../how-to/sequences.md): a patient's images, a volume's slices; null: each by itself",
    choices=(PATIENT, VOLUME),
)
FRAMES = Key(
    "frames", "whole number", "frames of a training window, and of a prediction in memory at once", least=1, most=4096
)
NORMALS = Key(
    "normals",
    "choice",
    "images without a lesion: left out, or empty frames of their patient's sequence",
    choices=("none", IN_SEQUENCE),
)
WINDOW = Key(
    "window", "whole number", "frames before the current one that a network remembers", least=0, most=LONGEST_WINDOW
)
KEYS = (SEQUENCE, FRAMES, NORMALS, WINDOW)

SPACING = Key(
    "spacing",
    "number",
    "mm that a pixel of the network's input stands for, to which "
    "[slices are resampled](../how-to/volumes.md#one-size-for-all-scanners); null: their long side fills the input",
    least=0.001,
    most=1000,
    may_lack=True,
)
