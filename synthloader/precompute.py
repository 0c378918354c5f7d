"""Fill a cache before training: all variants of all sources, in several processes; stops and resumes."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from synthloader.checks import check_int, check_type, reject
from synthloader.generated import GeneratedDataset
from synthloader.protocols import Cache

__all__ = ["PrecomputeReport", "precompute"]

_LOGGER = logging.getLogger("synthloader.precompute")

_MOST_PENDING = 64
_MOST_SECONDS = 2.0


@dataclass
class PrecomputeReport:
    """What a run of `precompute` found and made.

    Attributes:
        total: (source, variant) pairs asked for.
        done: Pairs looked at so far.
        generated: Candidates generated in this run.
        cached: Candidates that the cache had already.
        accepted: Pairs with a sample that may be used.
        failed: Pairs for which every candidate was rejected.
        rejected: {"who: reason": n} of all rejected candidates.
        seconds: Wall time.
        stale_entries: Entries of the cache that another pool had made and that no longer count.
        interrupted: Whether the run was stopped before its end.
    """

    total: int = 0
    done: int = 0
    generated: int = 0
    cached: int = 0
    accepted: int = 0
    failed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stale_entries: int = 0
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, for JSON."""
        return {**self.__dict__, "rejected": dict(self.rejected)}


def precompute(
    generated: GeneratedDataset,
    *,
    num_workers: int = 0,
    progress: bool | Callable[[PrecomputeReport], None] = True,
    target_classes: Sequence[int] | None = None,
) -> PrecomputeReport:
    """Fill the cache with every variant of every source; what is there already is kept.

    Entries are committed every two seconds or 64 candidates. A run that was interrupted or killed goes on where the
    last commit was, and ends with the same set: a sample depends on its seed, source and variant alone.

    Args:
        generated: Has a cache and `variants`.
        num_workers: Processes that generate; this one writes. 0 generates here.
        progress: Show a bar on stderr; or a function that is called with the report after every pair.
        target_classes: Also aim the generator at each of these classes, as a `Balance` plan will ask; None: as it is.

    Returns:
        What was found and made.

    Raises:
        ValueError: There is no cache, or no `variants`.
        CacheLockedError: Another process writes to the cache.
        KeyboardInterrupt: Passed on after everything finished so far was committed.

    Example:
        >>> from synthloader import ColorTransfer, MemoryCache
        >>> boxes, labels = torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([1])
        >>> shades = [torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8) // (i + 1) for i in range(3)]
        >>> real = [(image, {"boxes": boxes, "labels": labels}) for image in shades]
        >>> generated = GeneratedDataset(real, ColorTransfer(), cache=MemoryCache(), variants=2)
        >>> precompute(generated, progress=False).accepted
        6
    """
    check_type("generated", generated, GeneratedDataset)
    num_workers = check_int("num_workers", num_workers, minimum=0)
    if generated.cache is None:
        reject(
            "generated.cache", "be given to be filled", None, "Pass cache=LMDBCache('cache/train') to GeneratedDataset."
        )
    if generated.variants is None:
        reject("variants", "be given to fill a cache", None, "Pass variants=4, say, to GeneratedDataset.")
    cache = generated.cache
    aims: tuple[int | None, ...] = tuple(target_classes) if target_classes and generated.can_aim else (None,)
    report = PrecomputeReport(total=len(generated) * len(aims))
    report.stale_entries = _note_pool(generated, cache)
    if report.stale_entries:
        _LOGGER.warning(
            "the pool of donors has changed: %d entries of the cache no longer count and are made anew",
            report.stale_entries,
        )
    started = time.monotonic()
    pending: list[tuple[Any, ...]] = []
    committed = started
    with _open_bar(progress, report) as update:
        try:
            update(report)
            for outcome in _generate(_Work(generated, aims), num_workers):
                if "error" in outcome:
                    raise outcome["error"]
                _count(report, outcome)
                pending += outcome["puts"]
                now = time.monotonic()
                if len(pending) >= _MOST_PENDING or now - committed > _MOST_SECONDS:
                    _commit(cache, pending)
                    committed = now
                report.seconds = now - started
                update(report)
        except KeyboardInterrupt:
            report.interrupted = True
            raise
        finally:
            _commit(cache, pending)
            generated.source.stamps.save()
            report.seconds = time.monotonic() - started
    return report


class _Work(Dataset[dict[str, Any]]):
    """One item for each (target class, source, variant): what came of it, and what the cache should keep."""

    def __init__(self, generated: GeneratedDataset, aims: tuple[int | None, ...]) -> None:
        self._generated = generated
        self._aims = aims

    def __len__(self) -> int:
        return len(self._generated) * len(self._aims)

    def __getitem__(self, index: int) -> dict[str, Any]:
        aim, at = divmod(index, len(self._generated))
        source, variant = self._generated.locate(at)
        try:
            outcome = self._generated.make(source, variant, target_class=self._aims[aim], index=at, collect=True)
        except Exception as error:  # noqa: BLE001 - raised again in the main process, without the loader's wrapping
            return {"error": error}
        return {
            "accepted": outcome.sample is not None,
            "hits": outcome.hits,
            "misses": outcome.misses,
            "rejections": outcome.rejections,
            "puts": outcome.puts,
        }


def _generate(work: _Work, num_workers: int) -> Iterable[dict[str, Any]]:
    if num_workers == 0:
        return (work[index] for index in range(len(work)))
    return DataLoader(
        work,
        batch_size=1,
        collate_fn=_take_only,
        num_workers=num_workers,
        worker_init_fn=_leave_interrupts_to_main,
        generator=torch.Generator(),  # or the loader would draw its base seed from the global random state
        prefetch_factor=4,
    )


def _leave_interrupts_to_main(worker_id: int) -> None:
    """Ctrl-C reaches every process of a terminal: the main one stops and ends its workers, which say nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _take_only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]


def _commit(cache: Cache, pending: list[tuple[Any, ...]]) -> None:
    """Write what is pending and empty the list; nothing leaves the list before it is written."""
    if pending:
        entries = [(key, entry) for kind, key, *rest in pending if kind == "entry" for entry in rest]
        put_many = getattr(cache, "put_many", None)
        if put_many is not None:
            put_many(entries)
        else:
            for key, entry in entries:
                cache.put(key, entry)
        verdicts = [(key, *rest) for kind, key, *rest in pending if kind == "verdict"]
        put_verdicts = getattr(cache, "put_verdicts", None)
        if put_verdicts is not None:
            put_verdicts(verdicts)
        else:
            for key, name, verdict, of in verdicts:
                cache.put_verdict(key, name, verdict, of=of)
        pending.clear()


def _count(report: PrecomputeReport, outcome: dict[str, Any]) -> None:
    report.done += 1
    report.generated += outcome["misses"]
    report.cached += outcome["hits"]
    report.accepted += outcome["accepted"]
    report.failed += not outcome["accepted"]
    report.rejected.update(f"{who}: {reason}" for who, reason in outcome["rejections"])


def _note_pool(generated: GeneratedDataset, cache: Cache) -> int:
    """Keep the names of the pool beside the cache; how many entries an earlier pool of this generator had made."""
    folder = getattr(cache, "path", None)
    if folder is None or not generated.draws_from_pool:
        return 0
    file = Path(folder) / "pools.json"
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    identity, generator = generated.pool.identity, generated.given_generator.fingerprint
    if identity in known:
        return 0
    stale = len(cache) if any(entry["generator"] == generator for entry in known.values()) else 0
    names = [generated.pool.name(index) for index in range(len(generated.pool))]
    known[identity] = {"generator": generator, "names": names}
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".new")
    written.write_text(json.dumps(known, indent=1), encoding="utf-8")
    written.replace(file)
    return stale


def _open_bar(
    progress: bool | Callable[[PrecomputeReport], None], report: PrecomputeReport
) -> AbstractContextManager[Callable[[PrecomputeReport], None]]:
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda _: None)
    from synthloader.progress import open_bar  # rich is loaded only where something is shown

    return open_bar(report.total)
