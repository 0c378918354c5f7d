"""`ForeignPool`: a pool that is not the sources, with the sources beside it for generators that look at both."""

from __future__ import annotations

from synthloader.pool_view import PoolView
from synthloader.protocols import Pool

__all__ = ["ForeignPool"]


class ForeignPool(PoolView):
    """A pool with everything that it knows, and the sources.

    Args:
        pool: Where donors and reference images come from.
        sources: What samples are made from; `MetadataAlignment` measures these.
    """

    def __init__(self, pool: Pool, sources: Pool) -> None:
        super().__init__(pool)
        self.sources = sources
