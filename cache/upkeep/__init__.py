"""Looking after caches: what is inside, whether it is whole, and how several become one.

The command line is `synthloader cache`. Nothing here is needed to read or write a cache.
"""

from synthloader.cache.upkeep.accepted import Selection, select_accepted
from synthloader.cache.upkeep.card import CacheCard
from synthloader.cache.upkeep.compact import Compacted, compact
from synthloader.cache.upkeep.entry_report import EntryReport, describe_entry, find_keys
from synthloader.cache.upkeep.existing import open_existing
from synthloader.cache.upkeep.make_card import make_card, save_card, write_card
from synthloader.cache.upkeep.merge import MergeReport, merge
from synthloader.cache.upkeep.prune import PrunePlan, plan_prune, prune
from synthloader.cache.upkeep.verify import Finding, VerifyReport, verify

__all__ = [
    "CacheCard",
    "Compacted",
    "EntryReport",
    "Finding",
    "MergeReport",
    "PrunePlan",
    "Selection",
    "VerifyReport",
    "compact",
    "describe_entry",
    "find_keys",
    "make_card",
    "merge",
    "open_existing",
    "plan_prune",
    "prune",
    "save_card",
    "select_accepted",
    "verify",
    "write_card",
]
