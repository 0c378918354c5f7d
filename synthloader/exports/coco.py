"""COCO: `images/` and `annotations.json`, which hold everything that `Instances` says.

* Category ids are the dataset's own; image and annotation ids count from 1. `file_name` is relative to `images/`.
* `bbox` is x, y, width, height in pixels, exact: x + width in double precision is the box's own right edge. Boxes
  without area are written like all others.
* `segmentation` is compressed run lengths, exact for every mask, and an empty list where there are no masks; `area` is
  the number of the mask's pixels, or that of the box.
* Crowds have `iscrowd` 1. Keypoints are there where the instances have them.
* `attributes` is a dict of what is known of the instance besides (see `list_attributes`).
* The image's metadata are fields of its record, as CVAT and others have them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthloader.exports.folder import ExportFolder
from synthloader.exports.keypoints import read_keypoints
from synthloader.exports.pixels import encode_image, find_suffix
from synthloader.exports.plain_values import dump_json, list_attributes, read_metadata
from synthloader.exports.run_lengths import encode_mask
from synthloader.exports.target_kinds import require_classes, require_target
from synthloader.exports.writer import ExportOptions
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["CocoWriter"]

_ANNOTATIONS = "annotations.json"


class CocoWriter:
    """Writes COCO; annotations are held as text until the end.

    Args:
        folder: Where to.
        options: Classes and image format.
    """

    fixed_files: tuple[str, ...] = (_ANNOTATIONS,)

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        self._folder = folder
        self._options = options
        self._images: list[str] = []
        self._annotations: list[str] = []

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write the image, and keep its annotations."""
        target = require_target(sample, Instances, format="coco")
        require_classes(name, target.class_ids.tolist(), self._options.class_names)
        annotations = self._make_annotations(name, target)
        height, width = sample.size_hw
        file = f"{name}{find_suffix(self._options.image_format)}"
        self._folder.write(f"images/{file}", encode_image(sample.image, self._options.image_format))
        record = {"id": len(self._images) + 1, "file_name": file, "width": width, "height": height}
        self._images.append(dump_json({**read_metadata(sample.metadata), **record}))
        self._annotations += annotations
        return {"file": f"images/{file}"}

    def finish(self) -> None:
        """Write the annotation file."""
        categories = [
            dump_json({"id": class_id, "name": name, "supercategory": ""})
            for class_id, name in self._options.class_names.items()
        ]
        stream = self._folder.open(_ANNOTATIONS)
        stream.write(b'{"info": {"description": "Written by synthloader."},\n"licenses": []')
        groups = {"images": self._images, "annotations": self._annotations, "categories": categories}
        for group, lines in groups.items():
            stream.write(f',\n"{group}": [\n'.encode("ascii"))
            stream.write(",\n".join(lines).encode("ascii"))
            stream.write(b"\n]")
        stream.write(b"}\n")

    def _make_annotations(self, name: str, target: Instances) -> list[str]:
        crowd = target.crowd if target.crowd is not None else np.zeros(len(target), np.bool_)
        corners = target.boxes.astype(np.float64)
        sides = corners[:, 2:] - corners[:, :2]
        attributes = list_attributes(target)
        keypoints = read_keypoints(name, target)
        lines = []
        for row, class_id in enumerate(target.class_ids.tolist()):
            mask = None if target.masks is None else target.masks[row]
            annotation: dict[str, Any] = {
                "id": len(self._annotations) + row + 1,
                "image_id": len(self._images) + 1,
                "category_id": class_id,
                "bbox": [*corners[row, :2].tolist(), *sides[row].tolist()],
                "area": float(np.prod(sides[row])) if mask is None else float(np.count_nonzero(mask)),
                "iscrowd": int(crowd[row]),
                "segmentation": [] if mask is None else encode_mask(mask),
            }
            if keypoints is not None:
                annotation["keypoints"] = [number for point in keypoints[row] for number in point]
                annotation["num_keypoints"] = sum(point[2] > 0 for point in keypoints[row])
            if attributes[row]:
                annotation["attributes"] = attributes[row]
            lines.append(dump_json(annotation))
        return lines
