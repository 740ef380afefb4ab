"""Verbs that use trained models: predict files, and export to other runtimes and tools."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD


def predict(
    *paths: str,
    model: str | Sequence[str],
    out: str = "predictions",
    format: Literal["png", "nifti", "dicom-seg"] = "png",
    probability: bool = False,
    uncertainty: Literal["entropy", "std"] | None = None,
    overlay: bool = False,
    labels: bool = False,
    threshold: float = THRESHOLD,
    coarse: str | Sequence[str] | None = None,
    boxes: str | None = None,
    points: str | None = None,
    auto: str | Sequence[str] | None = None,
    any_modality: bool = False,
    dicomweb: str | None = None,
    store: bool = False,
    plain_http: bool = False,
    overwrite: bool = False,
    amp: bool = True,
    device: str | None = None,
) -> None:
    """Segment images: masks of the files' own size and a table of measures; exit status 1 if a file had to be skipped.

    Args:
        paths: files, folders and patterns; PNG, JPEG, TIFF, BMP, DICOM and NIfTI. Of a folder its images, not their masks.
            With --dicomweb they are UIDs that the server knows, STUDY or STUDY/SERIES.
        model: model.pt, its folder, or a folder of fold0, fold1, ... whose probabilities are averaged; several in brackets.
        out: folder to write.
        format: "png", "nifti", or "dicom-seg" for DICOM files.
        probability: write probability maps.
        uncertainty: write maps of "entropy" or of "std", the deviation between the models of an ensemble.
        overlay: write images with the mask, its diameters, and a scale bar where mm are known.
        labels: write masks of the classes that the model tells apart, 1, 2, ... in their order, instead of lesion masks.
        threshold: probability from which a pixel is lesion.
        coarse: models of the stage that feeds the model's: of phase 1 for one of phase 2.
        boxes: for a model that is asked about lesions, a CSV table of boxes: file, x1, y1, x2, y2.
        points: the same of points inside lesions: file, x, y.
        auto: models whose lesions it is asked about.
        any_modality: predict DICOM files whose Modality is not US (ultrasound), too.
        dicomweb: URL of a DICOMweb server whose studies or series are predicted.
        store: store the segmentations of --format dicom-seg on that server.
        plain_http: let the URL of another machine be http, which can be read on the way.
        overwrite: replace results that are there.
        amp: bf16 autocast.
        device: "cpu" or "cuda"; the first GPU by default, where there is one.
    """
    from ultrarefiner_monai.deploy.predict.outputs import Outputs

    outputs = Outputs(Path(out), format, threshold, probability, uncertainty, overlay, labels)
    segment: Callable[..., Any]
    if dicomweb is not None:
        from ultrarefiner_monai.deploy.dicomweb import Server, predict_series

        segment = partial(predict_series, Server(dicomweb, plain_http), store=store)
    elif store or plain_http:
        raise DataError("--store and --plain_http are about a server; name it with --dicomweb URL")
    else:
        from ultrarefiner_monai.deploy.predict.prediction import predict as segment
    summary = segment(
        paths,
        model,
        outputs,
        coarse=coarse,
        boxes=boxes,
        points=points,
        auto=auto,
        any_modality=any_modality,
        overwrite=overwrite,
        amp=amp,
        device=device,
    )
    print(summary)
    if summary.exit_code:
        sys.exit(summary.exit_code)


def _exporter(kind: str, writes: str) -> Callable[..., None]:
    """The verb for `deploy.export.export_KIND`."""

    def verb(self: "Export", model: str, out: str, overwrite: bool = False) -> None:
        from ultrarefiner_monai.deploy.export import formats as export

        _tell(getattr(export, f"export_{kind}")(model, out, overwrite))

    verb.__doc__ = f"""Write {writes}.

        Args:
            model: model.pt with its card beside it.
            out: folder to write.
            overwrite: replace files of an earlier export.
        """
    return verb


class Export:
    """A trained model for other runtimes and tools."""

    torchscript = _exporter(
        "torchscript", "OUT/model.ts, and where it can be halved encoder.ts and decoder.ts, checked against the network"
    )
    onnx = _exporter(
        "onnx", "OUT/model.onnx, and where it can be halved encoder.onnx and decoder.onnx, checked against the network"
    )
    safetensors = _exporter("safetensors", "OUT/model.safetensors, the same tensors, with their card")

    def bundle(self, model: str, out: str, zip: bool = False) -> None:
        """Write a bundle that runs where MONAI is installed and this package is not.

        Args:
            model: model.pt with its card beside it.
            out: folder to write; absent or empty.
            zip: write OUT.zip too.
        """
        from ultrarefiner_monai.deploy.export.bundle import export_bundle

        _tell([export_bundle(Path(model), Path(out), zip)])

    def monailabel(self, model: str, out: str, name: str | None = None, coarse: str | None = None) -> None:
        """Write the app that serves a model in MONAI Label, or add the model to it, and print the commands that run it.

        Args:
            model: model.pt with its card beside it.
            out: folder of the app.
            name: what clients call the model; its stage by default.
            coarse: model.pt of the stage that feeds the model's: of phase 1 for one of phase 2.
        """
        from ultrarefiner_monai.deploy.monailabel.export import export_monailabel

        print(export_monailabel(model, out, name, coarse))


def _tell(files: Sequence[Path]) -> None:
    for path in files:
        print(f"wrote {path}")
