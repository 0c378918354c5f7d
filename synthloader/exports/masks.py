"""Semantic masks: `images/<name>.png`, `masks/<name>.png`, and `classes.json`.

A mask is a PNG of one channel with the dataset's own class ids: 8 bit, or 16 bit where an id of `class_names` is above
255. Pixels of `ignore_index` keep that number, which is the same for all samples and stands in `classes.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from synthloader.checks import reject
from synthloader.exports.folder import ExportFolder
from synthloader.exports.pixels import encode_id_map, encode_image, find_suffix
from synthloader.exports.target_kinds import require_classes, require_target
from synthloader.exports.writer import ExportOptions
from synthloader.sample import Sample
from synthloader.targets import SemanticMask

__all__ = ["MasksWriter", "encode_semantic_mask"]

MAX_ID = 65535

_CLASSES = "classes.json"


class MasksWriter:
    """Writes images and masks of class ids.

    Args:
        folder: Where to.
        options: Classes and image format.
    """

    fixed_files: tuple[str, ...] = (_CLASSES,)

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        self._folder = folder
        self._options = options
        self._ignore_index: int | None = None

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write image and mask."""
        target = require_target(sample, SemanticMask, format="masks")
        content = encode_semantic_mask(name, target, self._options.class_names)
        if self._ignore_index is None:
            self._ignore_index = target.ignore_index
        elif self._ignore_index != target.ignore_index:
            reject(
                f"the ignore_index of sample {name!r}",
                f"be that of the samples before, {self._ignore_index}",
                target.ignore_index,
                "In one set of masks a number has one meaning: bring the masks to one ignore_index.",
            )
        file = f"images/{name}{find_suffix(self._options.image_format)}"
        self._folder.write(file, encode_image(sample.image, self._options.image_format))
        self._folder.write(f"masks/{name}.png", content)
        return {"file": file}

    def finish(self) -> None:
        """Write the classes."""
        classes = {str(class_id): name for class_id, name in self._options.class_names.items()}
        content = {"classes": classes, "background": 0, "ignore_index": self._ignore_index}
        self._folder.write(_CLASSES, json.dumps(content, indent=1).encode("ascii") + b"\n")


def encode_semantic_mask(name: str, target: SemanticMask, class_names: Mapping[int, str], /) -> bytes:
    """The bytes of a PNG with the mask's own ids.

    Args:
        name: The sample's name, for messages.
        target: The mask.
        class_names: Class id to name. Background (0) and pixels that count for nothing need no name.

    Raises:
        ValueError: A class has no name, or an id is below 0 or above 65535.
    """
    found: list[int] = np.unique(target.mask).tolist()
    if found[0] < 0 or found[-1] > MAX_ID:
        outside = found[0] if found[0] < 0 else found[-1]
        remedy = "PNGs hold no other."
        if outside == target.ignore_index:
            remedy = "It is the ignore_index: give the mask another one, 255 for example."
        reject(f"the ids in the mask of sample {name!r}", f"be from 0 to {MAX_ID}", outside, remedy)
    require_classes(name, (number for number in found if number not in (0, target.ignore_index)), class_names)
    is_wide = max((*class_names, found[-1])) > np.iinfo(np.uint8).max
    return encode_id_map(target.mask.astype(np.uint16 if is_wide else np.uint8))
