"""The guards of `tests/guards.py` see what they are there to see."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.guards import GlobalRandomState, Surroundings, is_loopback


@pytest.mark.uses_global_rng
def test_each_draw_from_a_global_random_state_is_seen_and_undone() -> None:
    before = GlobalRandomState.read()
    draws = {"random": random.random, "numpy.random": np.random.rand, "torch": lambda: torch.rand(())}
    for library, draw in draws.items():
        draw()
        assert before.differences(GlobalRandomState.read()) == [library]
        before.restore()
        assert before.differences(GlobalRandomState.read()) == []


def test_reading_the_random_states_draws_nothing() -> None:
    assert GlobalRandomState.read().differences(GlobalRandomState.read()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost", b"localhost", None, ""])
def test_this_machine_is_loopback(host: object) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org", b"example.org"])
def test_other_machines_are_not_loopback(host: object) -> None:
    assert not is_loopback(host)


def test_a_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="reached for the network"):
        client.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="reached for the network"):
        socket.create_connection(("example.org", 80))


def test_a_connection_to_this_machine_is_allowed() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass


def test_a_process_that_is_still_running_is_seen(tmp_path: Path) -> None:
    before = Surroundings.read(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert [line.partition(" ")[0] for line in before.left_behind(patience_s=0)] == ["process"]
        process.communicate(b"\n")
    assert before.left_behind() == []


def test_a_thread_that_is_still_running_is_seen(tmp_path: Path) -> None:
    before = Surroundings.read(tmp_path)
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="a thread")
    thread.start()
    assert before.left_behind(patience_s=0) == ["thread 'a thread'"]
    over.set()
    thread.join()
    assert before.left_behind() == []


def test_a_new_file_is_seen_and_a_tools_own_is_not(tmp_path: Path) -> None:
    before = Surroundings.read(tmp_path)
    (tmp_path / ".pytest_cache").mkdir()
    (tmp_path / "left.txt").touch()
    assert before.left_behind(patience_s=0) == ["file 'left.txt'"]
