"""Instance attributes of several samples, put below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["join_columns"]


def join_columns(blocks: Sequence[tuple[int, Mapping[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Put blocks of rows below each other, column by column.

    A block that lacks a column, or has one of another kind (text and numbers, rows of another shape), gets NaN, 0,
    False, "" or NaT there, as the column's dtype allows. Dtypes are widened only as far as every value stays what it
    was.

    Args:
        blocks: Number of rows, and name to array of that many rows.

    Example:
        >>> joined = join_columns([(1, {"id": np.array([7])}), (1, {"id": np.array([8]), "name": np.array(["fig"])})])
        >>> joined["id"].tolist(), joined["name"].tolist()
        ([7, 8], ['', 'fig'])
    """
    names = dict.fromkeys(name for _, columns in blocks for name in columns)
    return {name: _join_column([(count, columns.get(name)) for count, columns in blocks]) for name in names}


def _join_column(parts: Sequence[tuple[int, np.ndarray | None]]) -> np.ndarray:
    # A block without rows says nothing of the dtype, unless there are only such blocks.
    first = next(part for _, part in sorted(parts, key=lambda block: block[0] == 0) if part is not None)
    tail, dtype = first.shape[1:], first.dtype
    kept: list[np.ndarray | None] = []
    for count, part in parts:
        wider = None if part is None or count == 0 or part.shape[1:] != tail else _widen(dtype, part, kept)
        kept.append(None if wider is None else part)
        dtype = dtype if wider is None else wider
    joined = np.zeros((sum(count for count, _ in parts), *tail), dtype)
    start = 0
    for (count, _), part in zip(parts, kept, strict=True):
        joined[start : start + count] = _missing(dtype) if part is None else part
        start += count
    return joined


def _widen(dtype: np.dtype, part: np.ndarray, kept: Sequence[np.ndarray | None]) -> np.dtype | None:
    """The dtype that holds both, or None where something would be lost."""
    if part.dtype == dtype:
        return dtype
    families = ("biufc", "U", "S", "M", "m")
    if not any(dtype.kind in family and part.dtype.kind in family for family in families):
        return None
    wider = np.promote_types(dtype, part.dtype)
    with np.errstate(invalid="ignore"):  # a large integer that float64 cannot hold
        unchanged = all(
            np.array_equal(old.astype(wider).astype(old.dtype), old, equal_nan=old.dtype.kind in "fc")
            for old in (part, *kept)
            if old is not None
        )
    return wider if unchanged else None


def _missing(dtype: np.dtype) -> object:
    if dtype.kind in "fc":
        return np.nan
    return "NaT" if dtype.kind in "Mm" else np.zeros((), dtype)
