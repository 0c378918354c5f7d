"""Guards around every test, and the fixtures that find what lies outside of the repository.

No test changes the global random states, reaches for the network, or leaves a process, a thread or a file behind;
`tests/guards.py` has the details. That warnings are errors stands in `pyproject.toml`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.guards import GlobalRandomState, Surroundings, no_network

# How long an example takes says more about the machine than about the code.
settings.register_profile("synthloader", deadline=None)
settings.load_profile("synthloader")

ROOT = Path(__file__).resolve().parent.parent
PRINT_OPTIONS = np.get_printoptions()
SHARED = Path(os.environ.get("SYNTHLOADER_SHARED") or ROOT.parent / "shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for shared files, so that `-m "not data"` leaves it out."""
    for item in items:
        if {"shared_data", "shared_weights"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("data")


def pytest_collection_finish() -> None:
    """Let garbage collections look at what tests made, not at everything imported: half of the time of trainers."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give back what was frozen: nanobind would report it as leaked."""
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a GPU where there is none; fail it where one was promised."""
    if item.get_closest_marker("gpu") is None or torch.cuda.is_available():
        return
    if os.environ.get("SYNTHLOADER_REQUIRE_GPU") == "1":
        pytest.fail("SYNTHLOADER_REQUIRE_GPU=1, and no CUDA device was found.", pytrace=False)
    pytest.skip("This test needs a CUDA device.")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    with no_network():
        yield


@pytest.fixture(autouse=True)
def _arrays_are_printed_as_ever() -> Iterator[None]:
    """Ultralytics changes for the whole process how arrays are printed, and so the wording of messages."""
    torch.set_printoptions(profile="default")
    with np.printoptions(**PRINT_OPTIONS):
        yield


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before = Surroundings.read(Path.cwd())
    yield
    if left := before.left_behind():
        pytest.fail(f"The test left behind: {', '.join(left)}.", pytrace=False)


@pytest.fixture(autouse=True)
def _global_random_states_are_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    before = GlobalRandomState.read()
    yield
    changed = before.differences(GlobalRandomState.read())
    before.restore()
    if changed and request.node.get_closest_marker("uses_global_rng") is None:
        pytest.fail(
            f"The test changed the global random state of {', '.join(changed)}. If its subject must do that, mark it "
            "uses_global_rng. (A DataLoader draws its base seed there unless it is given a generator.)",
            pytrace=False,
        )


def _find_shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"Needs the folder {name}/ of the shared test material: set SYNTHLOADER_SHARED to where it lies.")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real data sets beside the repository; skip where it is absent."""
    return _find_shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Give the folder of model weights beside the repository; skip where it is absent."""
    return _find_shared("weights")
