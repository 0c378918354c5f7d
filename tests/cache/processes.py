"""Other processes for tests: each runs one function and is gone when the block ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

PATIENCE_S = 60


@contextmanager
def other_process(
    function: Callable[..., Any], *arguments: Any, method: str = "fork"
) -> Iterator[tuple[Connection, multiprocessing.process.BaseProcess]]:
    """Run `function(connection, *arguments)` beside the block; it is killed at the end if it has not ended."""
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield ours, process
        process.join(PATIENCE_S)
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def receive(connection: Connection) -> Any:
    """What the other process sends next; an error instead of waiting for ever."""
    if not connection.poll(PATIENCE_S):
        raise TimeoutError("the other process said nothing")
    return connection.recv()


def send_result(connection: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    """Send what the function returns, or the words of its error."""
    try:
        connection.send(function(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever it was, the test compares it
        connection.send(f"{type(error).__name__}: {error}")


def run_elsewhere(function: Callable[..., Any], *arguments: Any, method: str = "fork") -> Any:
    """The result of a function that runs in another process, or the words of its error."""
    with other_process(send_result, function, *arguments, method=method) as (connection, _):
        return receive(connection)
