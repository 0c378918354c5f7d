"""Fill a cache before training: all variants of all sources, in several processes; stops and resumes."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from synthloader.cells import Draw
from synthloader.checks import check_count, check_int, check_type, reject
from synthloader.generated import GeneratedDataset
from synthloader.protocols import Cache
from synthloader.store import Puts, Store

__all__ = ["PrecomputeReport", "precompute"]

_MOST_PENDING = 64
_MOST_SECONDS = 1.0


@dataclass
class PrecomputeReport:
    """What a run of `precompute` found and made.

    Attributes:
        total: (source, variant) pairs asked for, for every class that is aimed at; or draws.
        done: Pairs looked at so far.
        generated: Candidates generated in this run.
        cached: Candidates that the cache had already.
        accepted: Pairs with a sample that may be used.
        failed: Pairs for which every candidate was rejected.
        rejected: {"who: reason": n} of all rejected candidates.
        seconds: Wall time.
        stale_entries: Entries of the cache with donors from another pool: another recipe's, or this one's before it
            changed. They are not used with this pool.
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
    draws: Sequence[Draw] | None = None,
    part: tuple[int, int] | None = None,
) -> PrecomputeReport:
    """Fill the cache with every variant of every source; what is there already is kept.

    Of a chain with a `Cached`, what the cache keeps is made: the rest is drawn anew in every epoch.

    Entries are committed every second, or every 64 records. A run that was interrupted or killed goes on where the last
    commit was, and ends with the same set: a sample depends on its seed, source and variant alone.

    Args:
        generated: Has a cache and `variants`.
        num_workers: Processes that generate; this one writes. 0 generates here.
        progress: Show a bar on stderr; or a function that is called with the report after every pair.
        target_classes: Aim the generator at each of these classes, as a `Balance` plan will ask; None: as it is.
        draws: Make these instead, or besides where there are `target_classes`: `MixedDataset.list_rationed()`, what a
            `Balance` plan with a cap will ask for.
        part: `(2, 4)` makes the second of four equal parts and writes it to a shard of its own, `part-2-of-4`: several
            processes or machines fill one cache at once, each with a part, and `LMDBCache` reads them all.

    Returns:
        What was found and made.

    Raises:
        ValueError: There is no cache, or no `variants`; or there is no such part, or the cache has no shards.
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
    part = _check_part(part, cache)
    work = _Work(generated, () if draws and not target_classes else aims, tuple(draws or ()), part)
    target = cache if part is None else cache.open_shard(f"part-{part[0]}-of-{part[1]}")  # type: ignore[attr-defined]
    report = PrecomputeReport(total=len(work))
    report.stale_entries = generated.stale_entries
    generated.note_pool()
    started = time.monotonic()
    store, pending = Store(cache), Puts()
    committed = started
    with _open_bar(progress, report) as update:
        try:
            update(report)
            for outcome in _generate(work, num_workers):
                if "error" in outcome:
                    raise outcome["error"]
                _count(report, outcome)
                pending.add(outcome["puts"])
                now = time.monotonic()
                if len(pending) >= _MOST_PENDING or now - committed > _MOST_SECONDS:
                    store.write(pending, target)
                    pending.clear()
                    committed = now
                report.seconds = now - started
                update(report)
        except KeyboardInterrupt:
            report.interrupted = True
            raise
        finally:
            try:
                if pending:
                    store.write(pending, target)
            finally:
                if target is not cache:
                    target.close()
                generated.source.stamps.save()
            report.seconds = time.monotonic() - started
    return report


class _Work(Dataset[dict[str, Any]]):
    """One item for each (target class, source, variant) and for each draw: what the cache should keep of it."""

    def __init__(
        self,
        generated: GeneratedDataset,
        aims: tuple[int | None, ...],
        draws: tuple[Draw, ...],
        part: tuple[int, int] | None,
    ) -> None:
        self._generated = generated
        self._aims = aims
        self._draws = draws
        number, count = part or (1, 1)
        self._places = range(number - 1, len(generated) * len(aims) + len(draws), count)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, variant, target_class, donors = self._find(self._places[index])
        try:
            outcome = self._generated.make(
                source, variant, target_class=target_class, donors=donors, collect=True, only_kept=True
            )
        except Exception as error:  # noqa: BLE001 - raised again in the main process, without the loader's wrapping
            return {"error": error}
        return {
            "accepted": outcome.sample is not None,
            "hits": outcome.hits,
            "misses": outcome.misses,
            "rejections": outcome.rejections,
            "puts": outcome.puts,
        }

    def _find(self, place: int) -> tuple[int, int, int | None, tuple[int, ...] | None]:
        aim, at = divmod(place, len(self._generated))
        if aim < len(self._aims):
            source, variant = self._generated.locate(at)
            return source, variant, self._aims[aim], None
        draw = self._draws[place - len(self._aims) * len(self._generated)]
        return draw.source, draw.variant or 0, draw.target_class, draw.donors


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


def _check_part(part: object, cache: Cache) -> tuple[int, int] | None:
    if part is None:
        return None
    if not isinstance(part, tuple | list) or len(part) != 2:
        reject("part", "be a pair (number, count)", part, "Write part=(2, 4) for the second of four.", error=TypeError)
    number, count = check_count("part[0]", part[0]), check_count("part[1]", part[1])
    if number > count:
        reject("part", "have number <= count", part, f"The last of {count} parts is ({count}, {count}).")
    if not hasattr(cache, "open_shard"):
        reject("part", "be None for a cache without shards", part, "Use LMDBCache, or leave part out.")
    return number, count


def _count(report: PrecomputeReport, outcome: dict[str, Any]) -> None:
    report.done += 1
    report.generated += outcome["misses"]
    report.cached += outcome["hits"]
    report.accepted += outcome["accepted"]
    report.failed += not outcome["accepted"]
    report.rejected.update(f"{who}: {reason}" for who, reason in outcome["rejections"])


def _open_bar(
    progress: bool | Callable[[PrecomputeReport], None], report: PrecomputeReport
) -> AbstractContextManager[Callable[[PrecomputeReport], None]]:
    if callable(progress):
        return nullcontext(progress)
    if not progress:
        return nullcontext(lambda _: None)
    from synthloader.progress import open_bar  # rich is loaded only where something is shown

    return open_bar(report.total)
