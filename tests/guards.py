"""What `conftest.py` watches around every test: random states, the network, and what is left behind."""

from __future__ import annotations

import gc
import ipaddress
import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

# Processes that the interpreter itself starts once and keeps until it ends.
INTERPRETERS_OWN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
# Folders and files in which the test tools keep their own notes.
TOOLS_OWN = (".hypothesis", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".coverage", "__pycache__")


@dataclass(frozen=True, eq=False)
class GlobalRandomState:
    """The global random states of Python, NumPy and PyTorch (on the CPU) at one moment."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: torch.Tensor

    @classmethod
    def read(cls) -> GlobalRandomState:
        """Read all three without drawing from them."""
        numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002
        return cls(random.getstate(), tuple(numpy_state), torch.get_rng_state())

    def restore(self) -> None:
        """Put all three back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch)

    def differences(self, other: GlobalRandomState) -> list[str]:
        """Name the libraries whose state is not the same in `other`."""
        name, keys, *rest = self.numpy
        other_name, other_keys, *other_rest = other.numpy
        same = {
            "random": self.python == other.python,
            "numpy.random": name == other_name and bool(np.array_equal(keys, other_keys)) and rest == other_rest,
            "torch": bool(torch.equal(self.torch, other.torch)),
        }
        return [library for library, is_same in same.items() if not is_same]


def is_loopback(host: object) -> bool:
    """Tell whether a host, as given to a socket, is this machine."""
    if isinstance(host, bytes):
        host = host.decode()
    if host is None or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse every connection and name look-up that leaves this machine. Unix sockets are not concerned."""

    def refuse(host: object) -> None:
        if not is_loopback(host):
            raise AssertionError(f"A test reached for the network: {host!r}.")

    def guard(method: Callable[..., Any], place: int) -> Callable[..., Any]:
        def guarded(self: socket.socket, *args: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(args[place][0])
            return method(self, *args)

        return guarded

    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(host)
        return look_up(host, *args, **kwargs)

    with (
        mock.patch.object(socket.socket, "connect", guard(socket.socket.connect, 0)),
        mock.patch.object(socket.socket, "connect_ex", guard(socket.socket.connect_ex, 0)),
        mock.patch.object(socket.socket, "sendto", guard(socket.socket.sendto, -1)),
        mock.patch.object(socket, "getaddrinfo", guarded_look_up),
    ):
        yield


def list_children() -> dict[int, str]:
    """Give the living child processes of this one: id to command line."""
    children = {child.pid: child.name for child in multiprocessing.active_children() if child.pid is not None}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # It ended while we looked.
            continue
        if int(parent) == os.getpid() and state != "Z":
            children[int(folder.name)] = command
    return {pid: command for pid, command in children.items() if not any(own in command for own in INTERPRETERS_OWN)}


def list_threads() -> dict[int, str]:
    """Give the living threads that would keep the interpreter from ending: id to name."""
    return {thread.ident or 0: thread.name for thread in threading.enumerate() if not thread.daemon}


def list_files(folder: Path) -> dict[str, str]:
    """Give the entries of a folder, without what the test tools keep there: name to name."""
    return {name: name for name in os.listdir(folder) if not name.startswith(TOOLS_OWN)}


@dataclass(frozen=True)
class Surroundings:
    """The child processes, threads, and files in the working directory at one moment."""

    folder: Path
    processes: dict[int, str]
    threads: dict[int, str]
    files: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Surroundings:
        """Look around, with `folder` as the working directory."""
        return cls(folder, list_children(), list_threads(), list_files(folder))

    def additions(self) -> list[str]:
        """Name what is there now and was not there then."""
        now = Surroundings.read(self.folder)
        return [
            *_new("process", self.processes, now.processes),
            *_new("thread", self.threads, now.threads),
            *_new("file", self.files, now.files),
        ]

    def left_behind(self, patience_s: float = 5.0) -> list[str]:
        """Name what is still there after it was given time to end."""
        if not self.additions():
            return []
        gc.collect()  # A loader's workers end with the loader's iterator, which may lie in a circle.
        deadline = time.monotonic() + patience_s
        while (additions := self.additions()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return additions


def _new(kind: str, before: dict[Any, str], now: dict[Any, str]) -> Iterable[str]:
    return (f"{kind} {now[key]!r}" for key in now.keys() - before.keys())
