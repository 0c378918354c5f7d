"""Exports: generated samples as ordinary data sets that other programs read, with their provenance beside them."""

from synthloader.exports.export import export_samples
from synthloader.exports.report import ExportReport
from synthloader.exports.target_kinds import FORMATS

__all__ = ["FORMATS", "ExportReport", "export_samples"]
