"""`MixedStream` and `mix_stream`: generated items mixed into a stream, for datasets that can only be iterated.

```
real items      a      b      c      d      ...            untouched, in their order
ratio 0.5       a A    b      c C    d      ...            A is generated from a
ratio 1.5       a A    b B B' c C    d D D' ...            B and B' are two variants of b
```

**Ratio.** After n real items, n x ratio generated ones were served, rounded: a window of any length holds its share to
within one item. It is counted with exact fractions, for each worker by itself. Workers begin at different phases of
the cycle: with equally many items each they are together within half an item of the ratio, and otherwise, up to sixteen
workers that take turns, within two. Where `split=True` and the stream has a length, the workers' last items, of the
round that does not reach all of them, make up for that: together they serve the rounded ratio, whatever their number,
and each is within two items of its own at its end.
Ranks begin alike, so that they make equal steps.

**Length.** `len` is the items of one pass of this rank: n real ones and n x ratio generated ones, rounded. That is what
is served without workers, and with `split=True` by any number of them. Workers of a stream that splits itself round
each for itself, which nobody can foresee: less than one item each more or fewer. One that every worker reads whole is
served as often as there are workers, also unwrapped. Torch's loader warns where more is served than its length says.

**Samples.** A generated sample is a function of (seed, name of its source, variant, attempt), by the same code that
serves `GeneratedDataset`. The variant numbers go on with the epochs. The name is what `name=` says, or else the
position in the stream: then a shuffled stream gives other samples in another order, and an item that comes again in the
same pass (WebDataset's `resampled=True`) gets another version. With `name=` the samples follow the item, whatever the
order and the number of workers; one that comes again in the same pass gets the same version again.

**Order of work.** The versions of an item are made before the item itself is handed on, because what follows in the
pipeline may change it in place.

**Epochs.** Every pass is the next epoch, unless `set_epoch` set one; each worker counts its own passes, in shared
memory, so that workers which do not persist go on too.

**Workers and ranks.** Most streams share themselves out: WebDataset by its splitters, Hugging Face's by shards, a
hand-written one by `get_worker_info()`. Then nobody may split again, which would lose data; one that does not gives
every worker the same items. Nothing tells which it is, so `split=None` leaves a stream as it is, which is what an
unwrapped one does, and warns where several processes read one that does not look as if it split itself; `split=True`
gives each reader its items in turn, `split=False` says that the stream does. With `split=True` ranks get equally many
items: what does not fill the last round of all ranks is left out.

**Going on.** Iterators have `state_dict` and `load_state_dict`, as `StatefulDataLoader` wants them: by the stream's own
state where it has one, else by reading again what was served.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from math import floor
from typing import Any, cast

from torch.utils.data import Dataset, IterableDataset

from synthloader.checks import check_count, check_int, check_type, reject
from synthloader.mix_sets import refuse_mix
from synthloader.protocols import AnyAdapter, Filter, Generator
from synthloader.streams.mixer import StreamMixer
from synthloader.streams.stream_pass import StreamPass

__all__ = ["MixStage", "MixedStream", "mix_stream"]


class MixedStream(StreamMixer, IterableDataset[Any]):
    """The stream you have, with generated items mixed in at a stated ratio.

    Real items come untouched and in their order, generated ones behind the item that they were made from. A stream can
    be iterated, anew for every pass: a torch `IterableDataset`, a WebDataset pipeline, a list. The length is known
    where the stream's is: exactly with `split=True` or without workers, and to within one item for each worker of a
    stream that splits itself. The module's docstring says what is guaranteed.

    Args:
        real: The stream that you train on now. Its items are what adapters know: decoded, not yet normalised.
        generator: Makes a sample from a sample.
        ratio: Generated items per real item, 0 or more.
        adapter: Turns items into samples and back; None: recognised from the first few items.
        filters: Decide, in this order, whether a candidate may be used.
        attempts: Most candidates for one place before it counts as a shortfall.
        seed: Everything random in the samples follows from it.
        on_shortfall: What is served where every candidate failed: `"real"`, a copy of the source; `"error"` raises.
        pool: Map-style dataset or `Pool` that donors and references are drawn from; required by generators that draw.
        transforms: Applied to real and generated items alike, as `transforms(*item)` for tuples.
        mark: Name of a field that every item gets: whether it is generated. Items must be dicts or end in one.
        weight: Weight of a generated item; every item gets the field `weight`, 1.0 for real ones.
        name: Field of the items (`"__key__"`, `"image_id"`) or function that names an item; None: its position.
        split: Whether ranks and workers take turns here (True), the stream splits itself (False), or it is left as it
            is, with a warning where nothing shows that it splits itself (None).
        num_replicas: Number of ranks; None: as torch.distributed says. Pass 1 where somebody else splits by ranks.
        rank: This process's rank; given together with `num_replicas`.

    Raises:
        ValueError: An argument is out of range, or a generator that draws has no pool.
        TypeError: The stream cannot be iterated again, or is map-style, or no adapter knows its items.

    Example:
        >>> import torch
        >>> from synthloader.generators import ColorTransfer
        >>> boxes = torch.tensor([[1.0, 1, 5, 5]])
        >>> images = [torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8) // (i + 1) for i in range(4)]
        >>> real = [(image, {"boxes": boxes, "labels": torch.tensor([1])}) for image in images]
        >>> stream = MixedStream(real, ColorTransfer(), ratio=0.5, pool=real, mark="is_generated")
        >>> len(stream), [bool(target["is_generated"]) for _, target in stream]
        (6, [False, True, False, False, True, False])
    """

    def __new__(cls, real: Any = None, *args: Any, **options: Any) -> MixedStream:
        """A stream has `__len__` only where the real one has: trainers ask `hasattr`."""
        is_sized = cls is MixedStream and hasattr(real, "__len__")
        kind: Any = _SizedMixedStream if is_sized else cls
        return cast("MixedStream", object.__new__(kind))

    def __init__(
        self,
        real: Iterable[Any],
        generator: Generator,
        ratio: float,
        *,
        adapter: AnyAdapter | None = None,
        filters: Sequence[Filter] = (),
        attempts: int = 3,
        seed: int = 0,
        on_shortfall: str = "real",
        pool: Any = None,
        transforms: Callable[..., Any] | None = None,
        mark: str | None = None,
        weight: float | None = None,
        name: str | Callable[[Any], str] | None = None,
        split: bool | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        _check_stream(real)
        super().__init__(
            generator,
            ratio,
            adapter=adapter,
            filters=filters,
            attempts=attempts,
            seed=seed,
            on_shortfall=on_shortfall,
            pool=pool,
            transforms=transforms,
            mark=mark,
            weight=weight,
            name=name,
            stream=real,
        )
        if split is not None:
            check_type("split", split, bool)
        if (num_replicas is None) != (rank is None):
            reject("rank", "be given together with num_replicas", rank, "Leave both out: torch.distributed knows them.")
        if num_replicas is not None and rank is not None:
            num_replicas, rank = check_count("num_replicas", num_replicas), check_int("rank", rank, minimum=0)
            if rank >= num_replicas:
                reject("rank", f"be below num_replicas={num_replicas}", rank)
            self._given_ranks = (rank, num_replicas)
        self.real = real
        self.split = split

    def __iter__(self) -> Iterator[Any]:
        """One pass: the next epoch."""
        share = self.find_share()
        num_readers = share.num_ranks * share.num_workers
        if self.split is None and num_readers > 1 and share[0:3:2] == (0, 0) and not _splits_itself(self.real):
            warnings.warn(
                f"{num_readers} processes read this {type(self.real).__name__}, and nothing shows that it shares its "
                f"items out among them: if it does not, each serves all of them. Pass split=True to let them take "
                f"turns, or split=False if it shares out by itself.",
                UserWarning,
                stacklevel=2,
            )
        return StreamPass(self, self.real, split=bool(self.split))

    def __getattr__(self, name: str) -> Any:
        """The stream's plain attributes; its methods would act on the items without the generated ones."""
        if name.startswith("_") or "real" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self.real, name)
        if callable(value):
            raise AttributeError(
                f"{name} of the wrapped {type(self.real).__name__} would leave the generated items out. Call it before "
                f"mixing: MixedStream(stream.{name}(...), ...)."
            )
        return value


class _SizedMixedStream(MixedStream):
    def __len__(self) -> int:
        """Items of one pass of this rank, all workers together; the module's docstring says where it is exact."""
        count = len(self.real) // (self.find_share().num_ranks if self.split else 1)  # type: ignore[arg-type]
        return count + floor(count * self.exact_ratio + Fraction(1, 2))


class MixStage(StreamMixer):
    """A stage of a pipeline: called with an iterator, it gives the mixed one. `mix_stream` makes it."""

    def __call__(self, stream: Iterable[Any], /) -> Iterator[Any]:
        """One pass over what comes: the next epoch."""
        return StreamPass(self, stream, split=False)


def mix_stream(
    generator: Generator,
    ratio: float,
    *,
    adapter: AnyAdapter | None = None,
    filters: Sequence[Filter] = (),
    attempts: int = 3,
    seed: int = 0,
    on_shortfall: str = "real",
    pool: Any = None,
    transforms: Callable[..., Any] | None = None,
    mark: str | None = None,
    weight: float | None = None,
    name: str | Callable[[Any], str] | None = None,
) -> MixStage:
    """A stage for pipelines that call their stages, like WebDataset's: `.compose(mix_stream(CopyPaste(), 0.5))`.

    It stands behind decoding and `to_tuple`, and before augmentation, `shuffle` and `batched`. The arguments are those
    of `MixedStream`; ranks and workers are the pipeline's business. The stage has `set_epoch` and `report`.

    Example:
        >>> import torch
        >>> from synthloader.generators import ColorTransfer
        >>> boxes = torch.tensor([[1.0, 1, 5, 5]])
        >>> images = [torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8) // (i + 1) for i in range(4)]
        >>> real = [(image, {"boxes": boxes, "labels": torch.tensor([1])}) for image in images]
        >>> stage = mix_stream(ColorTransfer(), 0.5, pool=real)
        >>> len(list(stage(iter(real)))), stage.report().generated
        (6, 2)
    """
    return MixStage(
        generator,
        ratio,
        adapter=adapter,
        filters=filters,
        attempts=attempts,
        seed=seed,
        on_shortfall=on_shortfall,
        pool=pool,
        transforms=transforms,
        mark=mark,
        weight=weight,
        name=name,
    )


def _check_stream(real: Any) -> None:
    refuse_mix("real", real)
    if isinstance(real, Dataset) and not isinstance(real, IterableDataset):
        reject(
            "real", "be iterable and not map-style", real, "MixedDataset is for what can be indexed.", error=TypeError
        )
    if not hasattr(real, "__iter__"):
        reject("real", "be iterable (an IterableDataset, a pipeline)", real, error=TypeError)
    if isinstance(real, Iterator):
        reject(
            "real",
            "be iterable anew for every epoch",
            type(real).__name__,
            "Pass the object whose iterator this is: it would be empty after the first pass.",
            error=TypeError,
        )


def _splits_itself(stream: Any) -> bool:
    """Whether it has a stage of WebDataset that splits by workers, or shards as Hugging Face's streams have them."""
    stages = getattr(stream, "pipeline", ())
    names = [getattr(stage, "__name__", type(stage).__name__) for stage in stages]
    if any(name == "split_by_worker" or name.startswith("Resampled") for name in names):
        return True
    return hasattr(stream, "num_shards") or any(_splits_itself(stage) for stage in stages)
