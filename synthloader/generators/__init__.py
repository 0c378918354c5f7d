"""Generators: from a real sample to a generated one, one method per file."""

from synthloader.generators.blend import Blend
from synthloader.generators.cached import Cached
from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.fog import Fog
from synthloader.generators.fourier_domain_adaptation import FourierDomainAdaptation
from synthloader.generators.metadata_alignment import MetadataAlignment
from synthloader.generators.night import Night
from synthloader.generators.one_of import OneOf
from synthloader.generators.rain import Rain
from synthloader.generators.snow import Snow
from synthloader.generators.sometimes import Sometimes
from synthloader.generators.tile import Tile
from synthloader.registry import register_plugin

__all__ = [
    "Blend",
    "Cached",
    "Chain",
    "ColorTransfer",
    "CopyPaste",
    "Fog",
    "FourierDomainAdaptation",
    "MetadataAlignment",
    "Night",
    "OneOf",
    "Rain",
    "Snow",
    "Sometimes",
    "Tile",
]

# Recipes have their own words for the other two: a list, and `one_of`.
for _generator in (
    Blend,
    Cached,
    ColorTransfer,
    CopyPaste,
    Fog,
    FourierDomainAdaptation,
    MetadataAlignment,
    Night,
    Rain,
    Snow,
    Sometimes,
    Tile,
):
    register_plugin("generators", _generator)
