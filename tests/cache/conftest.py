"""What tests of the cache count on."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_cache_of_another_file_is_open() -> None:
    """Close what tests of other files left to the garbage collector: a command's dataset holds itself in a circle."""
    gc.collect()
