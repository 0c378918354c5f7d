"""What aligned sampling changed, attribute by attribute."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from synthloader.attributes.measure import ATTRIBUTES

__all__ = ["AlignmentReport", "AlignmentRow"]


@dataclass(frozen=True, slots=True)
class AlignmentRow:
    """One attribute.

    Args:
        attribute: Its name.
        aligned: Whether it was asked to be aligned.
        num_components: Components of the mixture that the reference follows; None where the reference has no value.
        before: Bhattacharyya distance of what the plain generator makes to the reference; None where one of the two
            has no value.
        after: The same of what is made with the configurations that were found.
    """

    attribute: str
    aligned: bool
    num_components: int | None
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """Every attribute, aligned or not; `print` shows it as a table.

    Args:
        rows: In the order of `ATTRIBUTES`.

    Example:
        >>> rows = AlignmentRow("box_area", True, 2, 1.5, 0.125), AlignmentRow("count", False, 1, 0.3, None)
        >>> print(AlignmentReport(rows))
        attribute     aligned  components  before   after
        box_area      yes               2   1.500   0.125
        count         no                1   0.300       -
    """

    rows: tuple[AlignmentRow, ...]

    def __getitem__(self, attribute: str, /) -> AlignmentRow:
        """The row of one attribute."""
        return self.rows[[row.attribute for row in self.rows].index(attribute)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict for each attribute, of numbers and text."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        """One line for each attribute."""
        width = max(map(len, ATTRIBUTES))
        lines = [f"{'attribute':{width}}  aligned  components  before   after"]
        lines += [
            f"{row.attribute:{width}}  {'yes' if row.aligned else 'no':7}  {_show_count(row.num_components):>10}  "
            f"{_show_distance(row.before):>6}  {_show_distance(row.after):>6}"
            for row in self.rows
        ]
        return "\n".join(lines)


def _show_count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _show_distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
