"""YOLO, in the folders that Ultralytics reads: boxes (`yolo-detect`) or polygons (`yolo-segment`).

```
images/train/<name>.png   labels/train/<name>.txt   data.yaml
```

* A line is the class and, as shares of width and height, the centre and the size of the box, or the corners of a
  polygon. Classes are counted from 0 in the order of the dataset's own ids; `data.yaml` has the names, and the ids
  under `class_ids`.
* Boxes come back to within a thousandth of a pixel. Polygons draw the mask again pixel by pixel (see `trace_outline`).
* An image without objects has an empty label file, which says: background.
* YOLO has no crowds, no boxes without area, and one polygon for each object, without holes. A sample with a crowd, a
  box without area (`yolo-detect`), or an object with holes, in several parts or without visible pixels (`yolo-segment`)
  is left out as a whole: to leave out the object alone would teach that it is background.
* Keypoints and attributes have no place here; `yolo-segment` takes the box from the polygon, as its readers do.
* Readers want validation images too. `data.yaml` names the exported ones so that it can be read as it is: put real ones
  in their place.
"""

from __future__ import annotations

import numpy as np
import yaml

from synthloader.checks import reject
from synthloader.exports.folder import ExportFolder
from synthloader.exports.pixels import encode_image, find_suffix
from synthloader.exports.target_kinds import list_formats, require_classes, require_target
from synthloader.exports.writer import ExportOptions, LeftOutError
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["YoloDetectWriter", "YoloSegmentWriter"]

NUM_BOX_DIGITS, NUM_POLYGON_DIGITS = 12, 9
"""Digits behind the point, of which trailing zeros are not written."""

_DATA = "data.yaml"
_HEAD = """\
# Written by synthloader. Paths are relative to this file.
# `val` is there because readers ask for it: replace it by real validation images.
"""


class _YoloWriter:
    """Writes images and label files.

    Args:
        folder: Where to.
        options: Classes and image format.
    """

    fixed_files: tuple[str, ...] = (_DATA,)
    format = ""
    num_digits = 0

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        self._folder = folder
        self._options = options
        self._places = {class_id: place for place, class_id in enumerate(options.class_names)}

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write the image and its labels."""
        target = require_target(sample, Instances, format=self.format)
        require_classes(name, target.class_ids.tolist(), self._options.class_names)
        if target.crowd is not None and target.crowd.any():
            raise LeftOutError("crowd region")
        rows = self._make_rows(name, target, sample.size_hw)
        places = [self._places[class_id] for class_id in target.class_ids.tolist()]
        lines = [f"{place} {_write_numbers(row, self.num_digits)}\n" for place, row in zip(places, rows, strict=True)]
        file = f"images/train/{name}{find_suffix(self._options.image_format)}"
        self._folder.write(file, encode_image(sample.image, self._options.image_format))
        self._folder.write(f"labels/train/{name}.txt", "".join(lines).encode("ascii"))
        return {"file": file}

    def finish(self) -> None:
        """Write `data.yaml`."""
        names = self._options.class_names
        content = {
            "train": "images/train",
            "val": "images/train",
            "nc": len(names),
            "names": dict(enumerate(names.values())),
            "class_ids": dict(enumerate(names)),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        self._folder.write(_DATA, (_HEAD + text).encode())

    def _make_rows(self, name: str, target: Instances, size_hw: tuple[int, int]) -> list[np.ndarray]:
        raise NotImplementedError


class YoloDetectWriter(_YoloWriter):
    """Writes boxes."""

    format = "yolo-detect"
    num_digits = NUM_BOX_DIGITS

    def _make_rows(self, name: str, target: Instances, size_hw: tuple[int, int]) -> list[np.ndarray]:
        height, width = size_hw
        corners = target.boxes.astype(np.float64) / [width, height, width, height]
        sides = corners[:, 2:] - corners[:, :2]
        if (np.round(sides, NUM_BOX_DIGITS) <= 0).any():
            raise LeftOutError("box without area")
        return list(np.concatenate([corners[:, :2] + sides / 2, sides], axis=1))


class YoloSegmentWriter(_YoloWriter):
    """Writes polygons."""

    format = "yolo-segment"
    num_digits = NUM_POLYGON_DIGITS

    def _make_rows(self, name: str, target: Instances, size_hw: tuple[int, int]) -> list[np.ndarray]:
        if len(target) == 0:
            return []
        if target.masks is None:
            reject(
                f"the masks of sample {name!r}",
                "be there to be exported as 'yolo-segment'",
                None,
                f"Formats for objects without masks: {list_formats(Instances, but=[self.format])}.",
            )
        height, width = size_hw
        try:
            return [(trace_outline(mask) / [width, height]).ravel() for mask in target.masks]
        except NoOutlineError as error:
            raise LeftOutError(str(error)) from error


def _write_numbers(numbers: np.ndarray, num_digits: int) -> str:
    return " ".join(np.format_float_positional(number, precision=num_digits, trim="-") for number in numbers)
