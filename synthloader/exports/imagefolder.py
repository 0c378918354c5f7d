"""ImageFolder: a folder for every class that occurs, named after it, with its images.

torchvision numbers the classes by the alphabet of the folders; `export.json` has the dataset's own ids.
"""

from __future__ import annotations

import re

from synthloader.checks import reject
from synthloader.exports.folder import MANIFEST, STAGING, ExportFolder
from synthloader.exports.pixels import encode_image, find_suffix
from synthloader.exports.target_kinds import require_classes, require_target
from synthloader.exports.writer import ExportOptions
from synthloader.sample import Sample
from synthloader.targets import ClassLabel

__all__ = ["ImageFolderWriter"]

MAX_NAME_BYTES = 255

_NO_FOLDER = re.compile(r"[/\\\x00-\x1f\x7f]")
_TAKEN = (".", "..", MANIFEST, STAGING, "provenance.jsonl", "card.json")


class ImageFolderWriter:
    """Writes a folder for every class.

    Args:
        folder: Where to.
        options: Classes and image format.

    Raises:
        ValueError: The name of a class cannot be that of a folder.
    """

    fixed_files: tuple[str, ...] = ()

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        for class_id, name in options.class_names.items():
            if _NO_FOLDER.search(name) or name in _TAKEN or len(name.encode()) > MAX_NAME_BYTES:
                reject(
                    f"class_names[{class_id}]",
                    "be a name that a folder can have",
                    name,
                    "Rename the class, or export as 'webdataset'.",
                )
        self._folder = folder
        self._options = options

    def add(self, name: str, sample: Sample, /) -> dict[str, str]:
        """Write the image into the folder of its class."""
        target = require_target(sample, ClassLabel, format="imagefolder")
        require_classes(name, [target.class_id], self._options.class_names)
        class_name = self._options.class_names[target.class_id]
        file = f"{class_name}/{name}{find_suffix(self._options.image_format)}"
        self._folder.write(file, encode_image(sample.image, self._options.image_format))
        return {"file": file}

    def finish(self) -> None:
        """Nothing is left to be written."""
