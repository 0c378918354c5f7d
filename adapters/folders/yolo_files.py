"""Label files of YOLO: every row checked, and named with file and line where it is wrong.

```
detect    class  cx cy w h                      or a polygon, of which the box is taken
segment   class  x1 y1 x2 y2 x3 y3 ...          a polygon
pose      class  cx cy w h  x1 y1 [v1] ...      as many points as kpt_shape says
obb       class  x1 y1 x2 y2 x3 y3 x4 y4        the corners of a rotated box, or a polygon, of which the smallest
                                                rotated box is taken
```

All coordinates are shares of the image's width and height. A box that is rotated in pixels is no rectangle in shares,
so the one around a polygon is found where the size of the image is known, and not here.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from synthloader.adapters.folders.yolo_record import YoloRecord, enclose
from synthloader.checks import reject

__all__ = ["read_label_file"]

MOST_OUTSIDE = 0.01
"""Share of the image by which rounding may put a coordinate outside; it is put on the border then."""


def read_label_file(
    path: Path,
    /,
    *,
    image_file: Path,
    task: str,
    num_classes: int | None = None,
    kpt_shape: tuple[int, int] | None = None,
    drop_bad: bool = False,
) -> YoloRecord:
    """The labels of one image; none where there is no such file.

    Rows that occur twice count once. `segments` is there when every row is a polygon. `keypoints` have 3 numbers: where
    the file has 2, the visibility is 2, and 0 for a point with a coordinate below 0, which Ultralytics hides, too.

    Args:
        path: The label file.
        image_file: Its image.
        task: One of `YOLO_TASKS`.
        num_classes: Number of names; None where they are not known.
        kpt_shape: Points of an object, and numbers of a point (2 or 3); for `pose`.
        drop_bad: Whether boxes without area are left out instead of being refused.

    Raises:
        ValueError: A row is wrong; the message has file, line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError as error:
        reject(f"the label file {path}", "be text", f"byte {error.start}", "Restore the file.")
    rows: dict[tuple[float, ...], None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            row = _read_row(line, f"{path}:{number}", task, num_classes, kpt_shape)
            if not _has_area(row, task) and _is_dropped(row, f"{path}:{number}", drop_bad):
                continue
            rows[row] = None
    return _make_record(list(rows), image_file, task, kpt_shape)


def _read_row(
    line: str, name: str, task: str, num_classes: int | None, kpt_shape: tuple[int, int] | None
) -> tuple[float, ...]:
    """The numbers of a row, coordinates inside the image."""
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        reject(name, "hold numbers only", line.strip(), "Correct the label file.")
    if not all(map(math.isfinite, numbers)):
        reject(name, "hold finite numbers", line.strip(), "Correct the label file.")
    _check_count(len(numbers) - 1, name, line.strip(), task, kpt_shape)
    if numbers[0] != int(numbers[0]) or numbers[0] < 0:
        reject(name, "begin with a class id, counted from 0", numbers[0], "Correct the label file.")
    if num_classes is not None and numbers[0] >= num_classes:
        reject(
            name,
            f"begin with a class id below the number of names, {num_classes}",
            int(numbers[0]),
            "Class ids count from 0. Correct the label file, or add the name.",
        )
    is_hidden = [False]
    if task == "pose" and kpt_shape and kpt_shape[1] == 2:
        numbers, is_hidden = _add_visibility(numbers)
    seen = set(range(7, len(numbers), 3)) if task == "pose" else set()
    for place in range(1, len(numbers)):
        if place in seen:
            if numbers[place] not in (0, 1, 2):
                reject(name, "have points of visibility 0, 1 or 2", numbers[place], "Correct the label file.")
            continue
        if not -MOST_OUTSIDE <= numbers[place] <= 1 + MOST_OUTSIDE:
            remedy = "Divide x by the image's width and y by its height."
            reject(name, "have coordinates in 0..1", numbers[place], remedy)
        numbers[place] = min(max(numbers[place], 0.0), 1.0)
    for point in np.flatnonzero(is_hidden).tolist():
        numbers[5 + 3 * point : 7 + 3 * point] = [0.0, 0.0]
    return tuple(numbers)


def _add_visibility(numbers: list[float]) -> tuple[list[float], list[bool]]:
    """A row of points of 2 numbers with the visibility that Ultralytics gives them, and which ones are hidden.

    Hidden are those of which a coordinate lies below 0, by rounding or on purpose.
    """
    points = list(zip(numbers[5::2], numbers[6::2], strict=True))
    is_hidden = [x < 0 or y < 0 for x, y in points]
    row = numbers[:5]
    for (x, y), hidden in zip(points, is_hidden, strict=True):
        row += [x, y, 0.0 if hidden else 2.0]
    return row, is_hidden


def _check_count(count: int, name: str, line: str, task: str, kpt_shape: tuple[int, int] | None) -> None:
    """Whether a row of this task has so many numbers behind the class."""
    is_polygon = count >= 6 and count % 2 == 0
    if task == "pose":
        num_points, num_dims = kpt_shape or (0, 0)
        if count != 4 + num_points * num_dims:
            wanted = f"have a class, a box and {num_points} points of {num_dims} numbers (kpt_shape)"
            reject(name, wanted, line, "Correct the label file, or kpt_shape in data.yaml.")
    elif task == "detect":
        if count != 4 and not is_polygon:
            wanted = "have a class and a box of 4 numbers, or a class and the x and y of 3 corners or more"
            reject(name, wanted, line, "Correct the label file.")
    elif not is_polygon:
        wanted = "have a class and the x and y of 3 corners or more"
        reject(name, wanted, line, "Correct the label file; where it holds boxes, read it with task='detect'.")


def _has_area(row: tuple[float, ...], task: str) -> bool:
    """Whether something of the box lies inside the image, in the precision that is kept."""
    box = _box_of(row, task)
    corners = np.clip(np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2]), 0, 1).astype(np.float32)
    return bool((corners[2:] > corners[:2]).all())


def _is_dropped(row: tuple[float, ...], name: str, drop_bad: bool) -> bool:
    if not drop_bad:
        remedy = "Correct the label file, or read it with bad_boxes='drop', which leaves such rows out."
        reject(name, "have a box with an area above 0", list(row[1:9]), remedy)
    return True


def _box_of(row: tuple[float, ...], task: str) -> np.ndarray:
    if task == "pose" or len(row) == 5:
        return np.array(row[1:5], np.float64)
    return enclose(np.array(row[1:], np.float64).reshape(-1, 2))


def _make_record(
    rows: list[tuple[float, ...]], image_file: Path, task: str, kpt_shape: tuple[int, int] | None
) -> YoloRecord:
    segments = keypoints = None
    if task == "pose":
        keypoints = np.array([row[5:] for row in rows], np.float32).reshape(len(rows), (kpt_shape or (0, 0))[0], 3)
    elif task != "detect" or (rows and all(len(row) > 5 for row in rows)):
        segments = [np.array(row[1:], np.float32).reshape(-1, 2) for row in rows]
    return YoloRecord(
        image_file,
        None,
        np.array([row[0] for row in rows], np.int64),
        np.array([_box_of(row, task) for row in rows], np.float32).reshape(-1, 4),
        segments,
        keypoints,
    )
