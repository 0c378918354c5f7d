"""Where generated samples are kept between epochs and runs."""

from synthloader.cache.lmdb_cache import LMDBCache, open_cache
from synthloader.cache.memory import MemoryCache
from synthloader.cache.record import UNSTORED_FIELDS

__all__ = ["UNSTORED_FIELDS", "LMDBCache", "MemoryCache", "open_cache"]
