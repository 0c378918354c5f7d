"""Samples to a data set on disk in an ordinary format: `export_samples`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthloader.checks import check_choice, check_int, check_type, reject
from synthloader.errors import note_error
from synthloader.exports.coco import CocoWriter
from synthloader.exports.folder import ExportFolder
from synthloader.exports.imagefolder import ImageFolderWriter
from synthloader.exports.masks import MasksWriter
from synthloader.exports.pixels import IMAGE_FORMATS
from synthloader.exports.provenance import make_provenance_line
from synthloader.exports.report import ExportReport
from synthloader.exports.target_kinds import FORMATS
from synthloader.exports.voc import VocWriter
from synthloader.exports.webdataset import WebDatasetWriter
from synthloader.exports.writer import ExportOptions, LeftOutError, WriterMaker
from synthloader.exports.yolo import YoloDetectWriter, YoloSegmentWriter
from synthloader.sample import Sample

__all__ = ["export_samples"]

_LOGGER = logging.getLogger("synthloader.exports")
_WRITERS: dict[str, WriterMaker] = {
    "coco": CocoWriter,
    "yolo-detect": YoloDetectWriter,
    "yolo-segment": YoloSegmentWriter,
    "voc": VocWriter,
    "imagefolder": ImageFolderWriter,
    "masks": MasksWriter,
    "webdataset": WebDatasetWriter,
}
_PROVENANCE, _CARD = "provenance.jsonl", "card.json"
_SAFE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")


def export_samples(
    samples: Iterable[tuple[str, Sample]],
    folder: str | os.PathLike[str],
    /,
    *,
    format: str,
    class_names: Mapping[int, str],
    image_format: str | None = None,
    force: bool = False,
    card: Mapping[str, Any] | None = None,
) -> ExportReport:
    r"""Write samples as a data set that other programs read.

    | format | holds | where |
    |---|---|---|
    | `coco` | `Instances`, all of it | `images/`, `annotations.json` |
    | `yolo-detect` | `Instances`: boxes | `images/train/`, `labels/train/`, `data.yaml` |
    | `yolo-segment` | `Instances`: masks as polygons | the same |
    | `voc` | `Instances`: boxes, masks | `JPEGImages/`, `Annotations/`, `ImageSets/`, `Segmentation*/` |
    | `imagefolder` | `ClassLabel` | a folder for every class |
    | `masks` | `SemanticMask` | `images/`, `masks/`, `classes.json` |
    | `webdataset` | everything, unlabelled images too | `000000.tar`, ... |

    The modules of this package say how each format is written. A sample that the format cannot hold without saying
    something false is left out as a whole, and counted: never is an image written with an object unlabelled. A target
    of a kind that the format has no place for is an error.

    In each format there are besides `provenance.jsonl`, with a line for every image: its `file` (and `member`, in a
    tar file), the `name` of its entry, every field of its `Origin`, and its metadata; `export.json`, which
    lists the classes and all files; and `card.json` where a card is given.

    Nothing is to be seen in the folder until everything is written, and `export.json` comes last. An export that
    fails leaves the folder as it was; one that is killed leaves at most `.export-incomplete/`, which the next export
    removes, and needs `force` only if it was killed while it put the files in place. Files of others in the folder are
    never touched. Equal samples give equal bytes.

    Args:
        samples: (name, sample) one after another, held in memory one at a time. Names are those of cache entries, in
            hexadecimal for example; they must be unique, and are the names of the files, or the hash of it where a
            name has other characters than letters, digits, `_` and `-`, or more than 80.
        folder: Where to write; made where it is missing.
        format: One of `FORMATS`.
        class_names: Class id to name, for every class that occurs: the dataset's own ids. Names must be unique.
        image_format: `"png"`, without loss, or `"jpeg"`, of quality 95, with the suffix `.jpg`. None: PNG, and JPEG for
            `"voc"`, whose readers look for nothing else.
        force: Replace an earlier export. All its files are removed; those of others are never touched.
        card: A summary to be written as `card.json`.

    Returns:
        How many samples were written, and how many were left out, and why.

    Raises:
        FileExistsError: The folder holds an earlier export, or somebody else's file where one would be written.
        ValueError: A sample is of another kind than the format holds, or a class has no name, or one that the format
            cannot hold.

    Example:
        >>> import numpy as np
        >>> from synthloader.targets import Instances
        >>> target = Instances(np.array([7]), np.array([[1, 1, 5, 4]], np.float32))
        >>> sample = Sample(np.zeros((8, 8, 3), np.uint8), target)
        >>> report = export_samples([("0a", sample)], "out", format="yolo-detect", class_names={7: "fig"})
        >>> report.num_written, Path("out/labels/train/0a.txt").read_text()
        (1, '0 0.375 0.3125 0.5 0.375\n')
    """
    check_choice("format", format, FORMATS)
    if image_format is None:
        image_format = "jpeg" if format == "voc" else "png"
    check_choice("image_format", image_format, IMAGE_FORMATS)
    check_type("folder", folder, (str, os.PathLike))
    check_type("force", force, bool)
    check_type("samples", samples, Iterable, "Give pairs of name and sample.")
    names = _read_class_names(class_names)
    card_text = None if card is None else _dump_card(card)
    target = ExportFolder(Path(folder), force=force)
    writer = _WRITERS[format](target, ExportOptions(names, image_format))
    report = ExportReport(Path(folder), format)
    with target:
        target.reserve([_PROVENANCE, *([_CARD] if card_text is not None else []), *writer.fixed_files])
        provenance = target.open(_PROVENANCE)
        for name, file_name, sample in _read_entries(samples):
            try:
                where = writer.add(file_name, sample)
            except LeftOutError as reason:
                report.left_out[reason.reason] += 1
                continue
            except Exception as error:
                note_error(error, f"while exporting sample {name!r} as {format!r}")
                raise
            provenance.write(make_provenance_line(name, sample, where))
            report.num_written += 1
        writer.finish()
        if card_text is not None:
            target.write(_CARD, card_text)
        classes = [{"id": class_id, "name": text} for class_id, text in names.items()]
        told = {key: value for key, value in report.to_dict().items() if key != "folder"}
        target.publish({**told, "image_format": image_format, "classes": classes})
    _log(report)
    return report


def _read_class_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """Checked, and in the order of the ids."""
    check_type("class_names", class_names, Mapping, "Give a dict of class id to name.")
    names: dict[int, str] = {}
    for class_id, text in class_names.items():
        number = check_int("a class id of class_names", class_id)
        check_type(f"class_names[{number}]", text, str)
        if not text.strip() or not _is_unicode(text):
            reject(f"class_names[{number}]", "be a text with letters", text, "Give the class a name.")
        names[number] = text
    seen: dict[str, int] = {}
    for number, text in names.items():
        if seen.setdefault(text, number) != number:
            reject(
                f"class_names[{number}]",
                f"be of one class only, but is that of class {seen[text]} too",
                text,
                "Rename one of them: readers would take them for one class.",
            )
    return dict(sorted(names.items()))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _dump_card(card: Mapping[str, Any]) -> bytes:
    check_type("card", card, Mapping, "Give a dict.")
    try:
        return json.dumps(dict(card), indent=2, allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError) as error:
        reject("card", f"hold what JSON holds ({error})", card, "Turn it into numbers, strings, lists and dicts.")


def _read_entries(samples: Iterable[tuple[str, Sample]]) -> Iterator[tuple[str, str, Sample]]:
    """Name, file name and sample of each entry."""
    used: set[str] = set()
    for place, entry in enumerate(samples):
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            reject(f"samples[{place}]", "be a pair of name and sample", entry, error=TypeError)
        name, sample = entry
        check_type(f"the name of samples[{place}]", name, str)
        check_type(f"the sample of samples[{place}]", sample, Sample)
        file_name = name
        if not _SAFE_NAME.fullmatch(name):
            file_name = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if file_name in used:
            reject(f"the name of samples[{place}]", "be of one sample only", name, "Give every sample its own name.")
        used.add(file_name)
        yield name, file_name, sample


def _log(report: ExportReport) -> None:
    if report.left_out:
        _LOGGER.warning(
            "%s: %d of %d samples were left out, which %r cannot hold: %s.",
            report.folder,
            report.num_left_out,
            report.num_left_out + report.num_written,
            report.format,
            ", ".join(f"{reason} ({count})" for reason, count in sorted(report.left_out.items())),
        )
    if not report.num_written:
        _LOGGER.warning("%s: no sample was written, the data set is empty.", report.folder)
