"""Configuration keys that systems around a Segment Anything model share."""

from ultrarefiner_monai.systems.key import Key

SAMS = ("vit_b", "vit_l", "vit_h", "lite_medsam", "tiny")
LARGEST = 4096  # pixels; four times the side that SAM was published with
SIZE = "side of the network's input in pixels; null: the variant's own"
VARIANT = Key("variant", "choice", "SAM; `tiny` has random weights, for tests", choices=SAMS)
IMAGE_SIZE = Key("image_size", "whole number", SIZE, above=0, most=LARGEST)
CHECKPOINT = Key(
    "sam_checkpoint", "file", "SAM weights; null: LiteMedSAM's for that variant; `random`: none", choices=("random",)
)
LORA_RANK = Key("lora_rank", "whole number", "rank of LoRA on SAM's image encoder; 0: frozen", least=0, most=1024)
ENCODER = Key(
    "encoder",
    "choice",
    "SAM's image encoder: as it is (or with LoRA), or tuned at `decoder_rate`, its embeddings not cached",
    choices=("frozen", "tuned"),
)
VIEWS = Key(
    "views", "whole number", "ways in which a training sees an image: as it is, and augmented", above=0, most=1000
)
CLASSES = Key(
    "classes", "classes", "all as one, or the classes of the manifest that are told apart, of volumes its labels"
)
SAM_VERSION = Key(
    "sam_version",
    "choice",
    "of SAM 2; null: that of the weights, or of the trained model, and 2.1 without either",
    choices=("2.0", "2.1"),
    may_lack=True,
)
