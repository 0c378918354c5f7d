"""Reports: pictures of what was generated, and where it came from."""

from synthloader.reports.contact_sheet import Tile, make_contact_sheet
from synthloader.reports.drawing import draw_sample
from synthloader.reports.preview import Candidate, list_candidates, preview_generated

__all__ = ["Candidate", "Tile", "draw_sample", "list_candidates", "make_contact_sheet", "preview_generated"]
