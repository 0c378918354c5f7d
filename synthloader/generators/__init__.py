"""Generators: from a real sample to a generated one, one method per file."""

from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.one_of import OneOf
from synthloader.registry import register_plugin

__all__ = ["Chain", "ColorTransfer", "CopyPaste", "OneOf"]

# Recipes have their own words for the other two: a list, and `one_of`.
for _generator in (ColorTransfer, CopyPaste):
    register_plugin("generators", _generator)
