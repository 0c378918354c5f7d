"""How the processes of a run on several devices get the trainer class: made again from a private temporary file.

Ultralytics starts fresh processes that import the trainer's class by module and name. A made class has a name of its
own in `synthloader.adapters.ultralytics`; asked for it, that module reads what the class was made of from the file
that an environment variable names. The file is for the processes of this very run: it is readable by its owner only,
and deleted when the run ends.
"""

from __future__ import annotations

import importlib
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthloader.checks import reject

__all__ = ["VARIABLE", "hand_over", "read_handed"]

VARIABLE = "SYNTHLOADER_ULTRALYTICS_TRAINER"
"""Name of the environment variable."""


@contextmanager
def hand_over(trainer: Any) -> Iterator[None]:
    """Let the processes that the block starts make the trainer's class again; nothing is written for one device.

    Raises:
        TypeError: The generator, or what else was given, cannot be pickled.
    """
    if not _starts_processes(trainer):
        yield
        return
    made = type(trainer)
    base = made.synth_base
    content = {
        "name": made.__name__,
        "base": (base.__module__, base.__qualname__),
        "options": made.synth_options.drop_known(),
    }
    file = write_handed(content)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = file
    try:
        yield
    finally:
        os.unlink(file)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def write_handed(content: dict[str, Any], /) -> str:
    """Write what a class is made of to a file that only its owner can read; gives the path."""
    try:
        written = _find_pickle().dumps(content)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        reject(
            "generator, filters, pool and cache",
            "be picklable for training on several devices",
            str(error),
            "Define their classes in a module, not in a function or a notebook.",
            error=TypeError,
        )
    handle, file = tempfile.mkstemp(prefix="synthloader-", suffix=".pkl")
    with os.fdopen(handle, "wb") as stream:
        stream.write(written)
    return file


def read_handed(name: str, /) -> tuple[type, Any] | None:
    """The base class and the options of the class of this name; None where nobody handed over such a one."""
    file = os.environ.get(VARIABLE)
    if file is None or not os.path.isfile(file):
        return None
    with open(file, "rb") as stream:
        content = pickle.load(stream)
    if content["name"] != name:
        return None
    module, names = content["base"]
    base: Any = importlib.import_module(module)
    for part in names.split("."):
        base = getattr(base, part)
    return base, content["options"]


def _find_pickle() -> Any:
    """`cloudpickle`, which newer releases of Ultralytics need for such runs too, else `pickle`."""
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return pickle


def _starts_processes(trainer: Any) -> bool:
    """Whether Ultralytics will train in processes of its own."""
    if os.environ.get("LOCAL_RANK") is not None:
        return False
    device = trainer.args.device
    devices = device if isinstance(device, list | tuple) else str(device or "").split(",")
    return bool(getattr(trainer, "ddp", len(devices) > 1))
