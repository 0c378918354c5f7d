"""WebDataset: tar files `000000.tar`, ... of at most 10,000 samples and, but for the last sample, 512 MiB.

The members of a sample are `<name>.png` or `<name>.jpg`, `<name>.json`, and `<name>.mask.png` with the class ids of a
semantic mask. The JSON has `name`, `size_hw`, `class_names` (id to name), `metadata`, `origin`, and `target`, by kind:

```
null                            an unlabelled image
{"kind": "class_label",         class_id, class_name}
{"kind": "instances",           class_ids (N,), boxes (N, 4) x1 y1 x2 y2 in pixels, crowd (N,), masks: N run lengths of
                                COCO or null, keypoints (N, K, 3) or null, attributes: N dicts}
{"kind": "semantic_mask",       ignore_index}
```

All numbers are exact. Members have no time, owner or machine: equal samples give equal tar files.
"""

from __future__ import annotations

import io
import tarfile
from typing import Any, BinaryIO

import numpy as np

from synthloader.exports.folder import ExportFolder
from synthloader.exports.keypoints import read_keypoints
from synthloader.exports.masks import encode_semantic_mask
from synthloader.exports.pixels import encode_image, find_suffix
from synthloader.exports.plain_values import dump_json, list_attributes, read_metadata
from synthloader.exports.provenance import describe_origin
from synthloader.exports.run_lengths import encode_mask
from synthloader.exports.target_kinds import require_classes
from synthloader.exports.writer import ExportOptions
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["WebDatasetWriter"]

MAX_SHARD_SAMPLES = 10_000
MAX_SHARD_BYTES = 512 << 20


class WebDatasetWriter:
    """Writes tar files, one after another.

    Args:
        folder: Where to.
        options: Classes and image format.
    """

    fixed_files: tuple[str, ...] = ()

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        self._folder = folder
        self._options = options
        self._num_shards = 0
        self._num_samples = 0
        self._stream: BinaryIO | None = None
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write a sample into the shard that is open, or into the next."""
        image = f"{name}{find_suffix(self._options.image_format)}"
        members = {image: encode_image(sample.image, self._options.image_format)}
        if isinstance(sample.target, SemanticMask):
            members[f"{name}.mask.png"] = encode_semantic_mask(name, sample.target, self._options.class_names)
        content = {
            "name": name,
            "size_hw": list(sample.size_hw),
            "target": self._describe_target(name, sample),
            "class_names": {str(class_id): text for class_id, text in self._options.class_names.items()},
            "metadata": read_metadata(sample.metadata),
            "origin": describe_origin(sample.origin),
        }
        members[f"{name}.json"] = dump_json(content).encode("ascii")
        tar = self._find_shard()
        for member, data in members.items():
            entry = tarfile.TarInfo(member)  # no time, user 0, mode 644
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        self._num_samples += 1
        return {"file": f"{self._num_shards - 1:06d}.tar", "member": image}

    def finish(self) -> None:
        """End the last shard; of no samples there is one too, without members."""
        if not self._num_shards:
            self._find_shard()
        self._end_shard()

    def _find_shard(self) -> tarfile.TarFile:
        is_full = self._num_samples >= MAX_SHARD_SAMPLES
        if self._stream is not None and (is_full or self._stream.tell() >= MAX_SHARD_BYTES):
            self._end_shard()
        if self._tar is None:
            self._stream = self._folder.open(f"{self._num_shards:06d}.tar")
            self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
            self._num_shards += 1
            self._num_samples = 0
        return self._tar

    def _end_shard(self) -> None:
        if self._tar is not None and self._stream is not None:
            self._tar.close()
            self._stream.close()
        self._tar = self._stream = None

    def _describe_target(self, name: str, sample: Sample) -> dict[str, Any] | None:
        match sample.target:
            case None:
                return None
            case ClassLabel(class_id=class_id):
                require_classes(name, [class_id], self._options.class_names)
                names = self._options.class_names
                return {"kind": "class_label", "class_id": class_id, "class_name": names[class_id]}
            case SemanticMask(ignore_index=ignore_index):
                return {"kind": "semantic_mask", "ignore_index": ignore_index}
            case Instances() as target:
                require_classes(name, target.class_ids.tolist(), self._options.class_names)
                crowd = np.zeros(len(target), np.bool_) if target.crowd is None else target.crowd
                return {
                    "kind": "instances",
                    "class_ids": target.class_ids.tolist(),
                    "boxes": target.boxes.tolist(),
                    "crowd": crowd.tolist(),
                    "masks": None if target.masks is None else [encode_mask(mask) for mask in target.masks],
                    "keypoints": read_keypoints(name, target),
                    "attributes": list_attributes(target),
                }
