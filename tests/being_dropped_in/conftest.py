"""PIL opens files lazily, and those of items that were refused are never read to their end."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _files_are_given_back_where_their_warnings_are_expected() -> Iterator[None]:
    """Without this, a later test in another folder would collect the files, and fail on the warning."""
    yield
    gc.collect()
