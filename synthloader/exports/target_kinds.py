"""Which format holds which kind of target, and the errors where one does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from synthloader.checks import reject
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["FORMATS", "list_formats", "require_classes", "require_target"]

FORMATS = ("coco", "yolo-detect", "yolo-segment", "voc", "imagefolder", "masks", "webdataset")
"""The formats that `export_samples` writes."""

_HOLDERS: dict[type, tuple[str, ...]] = {
    Instances: ("coco", "yolo-detect", "yolo-segment", "voc", "webdataset"),
    ClassLabel: ("imagefolder", "webdataset"),
    SemanticMask: ("masks", "webdataset"),
    type(None): ("webdataset",),
}

TargetKind = TypeVar("TargetKind", ClassLabel, Instances, SemanticMask)


def list_formats(kind: type, /, *, but: Iterable[str] = ()) -> str:
    """The formats that hold a kind of target (`type(None)`: unlabelled images), as a text: `'masks', 'webdataset'`."""
    return ", ".join(repr(name) for name in _HOLDERS[kind] if name not in but)


def require_target(sample: Sample, kind: type[TargetKind], /, *, format: str) -> TargetKind:
    """The target of a sample, which must be of the kind that the format holds.

    Raises:
        ValueError: It is of another kind; the message names the formats for that one.
    """
    target = sample.target
    if not isinstance(target, kind):
        given = "unlabelled images" if target is None else type(target).__name__
        reject("format", f"hold {given}", format, f"Formats for {given}: {list_formats(type(target))}.")
    return target


def require_classes(name: str, class_ids: Iterable[int], class_names: Mapping[int, str], /) -> None:
    """Refuse a sample of which a class has no name."""
    for class_id in class_ids:
        if class_id not in class_names:
            reject(
                "class_names",
                f"have a name for class {class_id}, which occurs in sample {name!r}",
                dict(class_names),
                f"Add class_names[{class_id}].",
            )
