"""Mix generated images into the PyTorch dataset that you already have.

```python
from synthloader import CopyPaste, GeneratedDataset, LMDBCache, MixedDataset, precompute

generated = GeneratedDataset(real, CopyPaste(), cache=LMDBCache("cache/train"), variants=4)
precompute(generated, num_workers=2)
train = MixedDataset(real, generated, ratio=0.5)
```
"""

from importlib.metadata import version as _version

from synthloader.adapters import CocoDataset, DetectionAdapter
from synthloader.batches import EpochSampler, MixedBatchSampler
from synthloader.cache import LMDBCache, MemoryCache, open_cache
from synthloader.errors import (
    CacheCorruptError,
    CacheError,
    CacheFullError,
    CacheLockedError,
    CacheVersionError,
    GenerationError,
    LabelContractError,
    MissingExtraError,
    NothingToGenerate,
    RecipeError,
    ShortfallError,
    SynthloaderError,
)
from synthloader.filters import MinBox, SinglePolygon
from synthloader.generated import GeneratedDataset
from synthloader.generators import (
    Blend,
    Cached,
    Chain,
    ColorTransfer,
    CopyPaste,
    Fog,
    FourierDomainAdaptation,
    MetadataAlignment,
    Night,
    OneOf,
    Rain,
    Snow,
    Sometimes,
    Tile,
)
from synthloader.mixed import MixedDataset
from synthloader.plans import Add, Balance, Only, Replace, Schedule
from synthloader.precompute import precompute
from synthloader.protocols import Adapter, Cache, Filter, Generator, Pool, Verdict
from synthloader.recipe import load_recipe
from synthloader.sample import Origin, Sample
from synthloader.streams import MixedStream, mix_stream
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__version__ = _version("synthloader")

__all__ = [
    "Adapter",
    "Add",
    "Balance",
    "Blend",
    "Cache",
    "CacheCorruptError",
    "CacheError",
    "CacheFullError",
    "CacheLockedError",
    "CacheVersionError",
    "Cached",
    "Chain",
    "ClassLabel",
    "CocoDataset",
    "ColorTransfer",
    "CopyPaste",
    "DetectionAdapter",
    "EpochSampler",
    "Filter",
    "Fog",
    "FourierDomainAdaptation",
    "GeneratedDataset",
    "GenerationError",
    "Generator",
    "Instances",
    "LMDBCache",
    "LabelContractError",
    "MemoryCache",
    "MetadataAlignment",
    "MinBox",
    "MissingExtraError",
    "MixedBatchSampler",
    "MixedDataset",
    "MixedStream",
    "Night",
    "NothingToGenerate",
    "OneOf",
    "Only",
    "Origin",
    "Pool",
    "Rain",
    "RecipeError",
    "Replace",
    "Sample",
    "Schedule",
    "SemanticMask",
    "ShortfallError",
    "SinglePolygon",
    "Snow",
    "Sometimes",
    "SynthloaderError",
    "Target",
    "Tile",
    "Verdict",
    "load_recipe",
    "mix_stream",
    "open_cache",
    "precompute",
]
