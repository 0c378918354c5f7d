"""A dataset seen as a pool of samples: what it says of its items without decoding them, and the samples themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from synthloader.checks import reject
from synthloader.class_table import ClassTable
from synthloader.errors import LabelContractError, note_error
from synthloader.item_facts import ItemFacts, read_class_table, read_facts, read_labels
from synthloader.keys import StampBook, hash_content
from synthloader.lifting import (
    apply_transforms,
    find_base,
    has_lifted_transforms,
    is_known_reader,
    is_plain_reader,
    preserve_random_state,
    read_bare,
)
from synthloader.pil_images import open_image
from synthloader.protocols import AnyAdapter
from synthloader.registry import find_adapter
from synthloader.row_tables import is_row_table, make_row_stamp, read_row_class_ids
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances, SemanticMask

__all__ = ["ItemFacts", "Source"]

_NUM_PROBES = 6
_MOST_HEADERS = 50_000
"""Above this many files, sizes are not read from image headers: that would take minutes before the first item."""


class Source(Sequence[Sample]):
    """The samples of a dataset, decoded when asked for, with names, stamps, sizes and classes.

    Facts are found by the shape of the dataset: its own `read_facts(index) -> ItemFacts`, COCO records (`coco`, `ids`,
    `root`), lists of files (`samples`, `images`; timm's are its reader's), `targets`, `get_height_and_width`, the
    features of a table of rows. Files and records are believed only where the class reads them as torchvision or timm
    does: one with a `__getitem__` of its own may read others. They are found through `Subset`, `ConcatDataset` and
    `wrap_dataset_for_transforms_v2` too.

    Args:
        dataset: Any map-style dataset.
        adapter: Turns its items into samples; None: recognised from the first items.
        version: Stands for the content of a dataset that names no files. It is part of every stamp.
        stamps: Where the hashes of files are remembered.
        look: Recognise the format at once where that draws nothing at random; otherwise when it is first needed.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        adapter: AnyAdapter | None = None,
        version: str | None = None,
        stamps: StampBook | None = None,
        look: bool = True,
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            reject(
                "dataset",
                "have __getitem__ and __len__ (a map-style dataset)",
                dataset,
                "Iterable datasets cannot be indexed: wrap the list of files instead.",
                error=TypeError,
            )
        self.dataset = dataset
        self.version = version
        self.stamps = stamps if stamps is not None else StampBook()
        self._given = adapter
        self._adapter = None if hasattr(adapter, "complete") else adapter
        self._like: Any = None
        self._has_like = False
        self._identity: str | None = None
        self._row_stamps: dict[int, dict[int, str]] = {}
        self._reads_class_ids: Callable[[Any], list[int]] | None = None
        if look and self._adapter is None and len(dataset) and is_plain_reader(dataset):
            self._look()

    @property
    def adapter(self) -> AnyAdapter:
        """What turns items into samples; looks at the first items when it was not given."""
        if self._adapter is None:
            self._look()
        if self._adapter is None:
            reject("dataset", "have items to recognise their format by", self.dataset)
        return self._adapter

    @property
    def like(self) -> Any:
        """The first untransformed item, for its form only."""
        if not self._has_like:
            with preserve_random_state():
                self._like = self.read(0)
            self._has_like = True
        return self._like

    @property
    def given_adapter(self) -> AnyAdapter | None:
        """The adapter that the user passed."""
        return self._given

    def peek(self, *, image: bool = True) -> Any:
        """The first item as it is served, where looking at it draws nothing at random; None elsewhere.

        Args:
            image: Whether the image is looked at too; else transforms of the image alone are no hindrance.
        """
        if not len(self) or not is_plain_reader(self.dataset):
            return None
        return None if has_lifted_transforms(self.dataset, image=image) else self.like

    def peek_sample(self) -> Sample | None:
        """The first sample under the same condition; None also where its annotation is wrong."""
        if not len(self) or not is_plain_reader(self.dataset):
            return None
        with preserve_random_state():
            try:
                return self.adapter.to_sample(self.like, index=0)
            except (OSError, TypeError, ValueError):
                return None  # said with all its words when the item is asked for

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, index: Any, /) -> Any:
        """Decode one sample.

        Raises:
            ValueError: The annotation is wrong; the message names the item and the remedy.
        """
        index = range(len(self))[index]
        item = self.read(index)
        try:
            return self.adapter.to_sample(item, index=index)
        except Exception as error:
            note_error(error, self._describe(index))
            raise

    def __iter__(self) -> Iterator[Sample]:
        """All samples in order."""
        return (self[index] for index in range(len(self)))

    def read(self, index: int, /) -> Any:
        """The native item without those transforms that `transform` applies."""
        try:
            return read_bare(self.dataset, index)
        except Exception as error:
            note_error(error, self._describe(index))
            raise

    def transform(self, index: int, item: Any, /) -> Any:
        """The dataset's own transforms on a native item that stands for item `index`."""
        return apply_transforms(self.dataset, index, item)

    @property
    def classes(self) -> dict[str, int] | None:
        """Class names to ids; None where the dataset has no table."""
        base, _, _ = find_base(self.dataset, 0) if len(self) else (self.dataset, 0, "")
        table = read_class_table(base)
        if not table:
            numbered = getattr(self._adapter, "class_to_idx", None)  # as of an adapter that numbers names itself
            return dict(numbered) if isinstance(numbered, Mapping) and numbered else None
        return table if self._trusts_records else None

    def facts(self, index: int, /) -> ItemFacts:
        """What is known of an item without decoding it."""
        base, at, way = find_base(self.dataset, index)
        found = read_facts(base, at)
        return found._replace(name=way + (found.name if found.name is not None else str(at)))

    def name(self, index: int, /) -> str:
        """The stable part of the item's identity: its path below the dataset's root, or its position."""
        return self.facts(index).name or ""

    def stamp(self, index: int, /) -> str:
        """Hash of the item's file, its annotation and the dataset's `version`.

        Raises:
            ValueError: The dataset names no files and no `version=` was given.
        """
        return self.identify(index)[1]

    def identify(self, index: int, /) -> tuple[str, str]:
        """Name and stamp of an item: all of it that a cache key needs.

        Raises:
            ValueError: As of `stamp`.
        """
        facts = self.facts(index)
        name = facts.name or ""
        base, at, _ = find_base(self.dataset, index)
        if is_row_table(base):
            return name, hash_content([self._stamp_row(base, at), self.version or ""]).hex()
        known = facts.file is not None and facts.annotation is not None
        if not known and self.version is None:
            reject(
                "version",
                f"be given for a persistent cache, because {type(base).__name__} {_say_unknown(base)}",
                None,
                "Pass version='...', and change it whenever the data does: nothing else tells that a cache is stale.",
            )
        file = self.stamps.stamp(facts.file) if facts.file is not None else ""
        told = self.stamps.stamp(facts.annotation) if isinstance(facts.annotation, Path) else facts.annotation
        annotation = _encode_sorted(told) if known else ""
        return name, hash_content([file, annotation, self.version or ""]).hex()

    def _stamp_row(self, table: Any, at: int) -> str:
        """The stamp of a row, made once in a process: it costs a read of the whole row."""
        known = self._row_stamps.setdefault(id(table), {})
        if at not in known:
            known[at] = make_row_stamp(table, at, self.stamps)
        return known[at]

    @property
    def identity(self) -> str:
        """Hash of the names and stamps of all items, in order. Costs a read of every file, once."""
        if self._identity is None:
            parts = [list(self.identify(index)) for index in range(len(self))]
            self.stamps.save()
            self._identity = hash_content(parts).hex()
        return self._identity

    def class_ids(self, index: int, /) -> np.ndarray:
        """(N,) int64 class ids of the item's objects, without decoding the image where the dataset allows it.

        Raises:
            LabelContractError: The items do not tell the classes of their objects.
        """
        if not self._knows_classes:
            reject(
                f"items of {type(self.dataset).__name__}",
                "tell the classes of their objects, which this plan or generator asks for",
                list(self.like[1]),
                "Add their labels to the items (target_keys=).",
                error=LabelContractError,
            )
        known = self._read_known_class_ids(index)
        if known is not None and self._trusts_records:
            return np.asarray(known, np.int64)
        target = self[index].target
        match target:
            case Instances():
                return target.class_ids
            case ClassLabel(class_id=class_id):
                return np.array([class_id], np.int64)
            case SemanticMask(mask=mask, ignore_index=ignored):
                return np.setdiff1d(mask, [0, ignored]).astype(np.int64)
            case _:
                return np.zeros(0, np.int64)

    def read_class_ids(self, item: Any, /) -> list[int]:
        """Class ids of the objects of a native item, for counting; empty where its format is not known.

        Without an adapter the item itself is looked at, so that nothing else has to be read.
        """
        if self._reads_class_ids is None:
            try:
                adapter = self._adapter if self._adapter is not None else find_adapter(self.dataset, [item])
            except TypeError:
                adapter = None
            self._reads_class_ids = getattr(adapter, "read_class_ids", _read_nothing)
        read: Callable[[Any], list[int]] = self._reads_class_ids or _read_nothing
        try:
            return list(read(item))
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError, ValueError):
            return []  # transforms may have given the item another form: then its classes are not counted

    @cached_property
    def class_table(self) -> ClassTable:
        """Classes of all items; decodes every image where the annotations cannot be read otherwise."""
        with preserve_random_state():
            rows = self._read_column() if self._trusts_records else None
            return ClassTable(rows or [self.class_ids(index).tolist() for index in range(len(self))])

    def size_hw(self, index: int, /) -> tuple[int, int] | None:
        """Height and width in pixels without decoding; None where they are not known."""
        facts = self.facts(index)
        if facts.size_hw is not None:
            return facts.size_hw
        if facts.file is None or len(self) > _MOST_HEADERS:
            return None
        with open_image(facts.file) as image:
            return image.height, image.width

    @cached_property
    def sizes_hw(self) -> np.ndarray | None:
        """(S, 2) int32 heights and widths of all items; None where they are not known without decoding."""
        if not len(self) or self.size_hw(0) is None:
            return None
        sizes = [self.size_hw(index) for index in range(len(self))]
        return None if any(size is None for size in sizes) else np.array(sizes, np.int32)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(S,) int64 the `targets` of a classification dataset; None elsewhere."""
        base, _, _ = find_base(self.dataset, 0) if len(self) else (self.dataset, 0, "")
        if read_labels(base) is None or not self._trusts_records:
            return None
        known = [self.facts(index).class_ids for index in range(len(self))]
        return None if any(row is None or len(row) != 1 for row in known) else np.array(known, np.int64)[:, 0]

    @cached_property
    def groups(self) -> np.ndarray | None:
        """(S,) numbers, equal for items that may stand in for each other: same height, width and class.

        Items whose size no other has are put together with those of the nearest aspect ratio.
        """
        return self.group(self.sizes_hw)

    def group(self, sizes: np.ndarray | None, /) -> np.ndarray | None:
        """The same for what is made from the items.

        Args:
            sizes: (S, 2) heights and widths of what is made from each; None where they are not known.
        """
        labels = self.labels
        if sizes is None and labels is None:
            return None
        columns = [np.zeros((len(self), 1), np.int64) if labels is None else labels[:, None]]
        columns.append(np.zeros((len(self), 2), np.int64) if sizes is None else sizes.astype(np.int64))
        _, groups, counts = np.unique(np.concatenate(columns, axis=1), axis=0, return_inverse=True, return_counts=True)
        groups = groups.reshape(-1)
        if sizes is not None:
            _join_singles(groups, counts, sizes, columns[0][:, 0])
        return groups

    @cached_property
    def _knows_classes(self) -> bool:
        """Whether the items tell classes: masks alone do not."""
        try:
            return bool(getattr(self.adapter, "knows_classes", True))
        except TypeError:
            return True  # no adapter knows the items; what needs one says so

    @cached_property
    def _trusts_records(self) -> bool:
        """Whether the class ids of records are those of the items: a class of somebody's own may renumber them."""
        is_table = bool(len(self)) and is_row_table(find_base(self.dataset, 0)[0])
        if not len(self) or (is_plain_reader(self.dataset) and not is_table):
            return True
        known = [(place, ids) for place in self.probes if (ids := self._read_known_class_ids(place)) is not None]
        read = getattr(self.adapter, "read_class_ids", _read_nothing) if known else _read_nothing
        with preserve_random_state():
            return all(sorted(read(self.read(place))) == sorted(ids) for place, ids in known)

    def _read_known_class_ids(self, index: int) -> list[int] | None:
        """What annotations say, without decoding the image."""
        base, at, _ = find_base(self.dataset, index)
        if is_row_table(base):
            rows = read_row_class_ids(base, [at])
            return None if rows is None else rows[0]
        return self.facts(index).class_ids

    def _read_column(self) -> list[list[int]] | None:
        """The class ids of all rows of a table, which costs much less than row after row."""
        base, _, _ = find_base(self.dataset, 0) if len(self) else (None, 0, "")
        if base is None or not is_row_table(base):
            return None
        places = [find_base(self.dataset, index) for index in range(len(self))]
        if any(found is not base for found, _, _ in places):
            return None
        rows = read_row_class_ids(base)
        return None if rows is None else [rows[at] for _, at, _ in places]

    @property
    def probes(self) -> list[int]:
        """A few places spread over the dataset, the first one included."""
        last = len(self.dataset) - 1
        return sorted({round(step * last / (_NUM_PROBES - 1)) for step in range(_NUM_PROBES)})

    def find_groups(self) -> np.ndarray | None:
        """`groups`, as a function that plans can keep and take to other processes."""
        return self.groups

    def find_classes(self) -> ClassTable:
        """`class_table`, likewise."""
        return self.class_table

    def _look(self) -> None:
        """Recognise the format from a few items, leaving every random state as it was."""
        if not len(self.dataset):
            return
        with preserve_random_state():
            items = [self.read(place) for place in self.probes]
            complete = getattr(self._given, "complete", None)
            self._adapter = complete(items) if complete is not None else self._find_adapter(items)
        self._like, self._has_like = items[0], True

    def _find_adapter(self, items: Sequence[Any]) -> AnyAdapter:
        """The adapter that knows the items, as the dataset wants it: one may know more of its items than they show."""
        found = find_adapter(self.dataset, items)
        refine: Callable[[AnyAdapter], AnyAdapter] | None = getattr(
            find_base(self.dataset, 0)[0], "refine_adapter", None
        )
        return found if refine is None else refine(found)

    def _describe(self, index: int) -> str:
        facts = self.facts(index)
        return f"while reading item {index} of {type(self.dataset).__name__}" + (
            f" ({facts.file})" if facts.file else ""
        )

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the first item, which another process reads for itself."""
        return {**self.__dict__, "_like": None, "_has_like": False, "_reads_class_ids": None, "_row_stamps": {}}


def _say_unknown(base: Any) -> str:
    reads_itself = is_known_reader(base) or not any(hasattr(base, name) for name in ("coco", "samples", "images"))
    return "does not name its files" if reads_itself else "reads its items in a way of its own"


def _read_nothing(item: Any) -> list[int]:
    return []


def _join_singles(groups: np.ndarray, counts: np.ndarray, sizes: np.ndarray, labels: np.ndarray) -> None:
    """Put items that are alone in their group together, eight at a time along the aspect ratio, classes kept apart."""
    single = np.flatnonzero(counts[groups] == 1)
    following = len(counts)
    for label in np.unique(labels[single]):
        members = single[labels[single] == label]
        members = members[np.argsort(sizes[members, 1] / sizes[members, 0], kind="stable")]
        for chunk in np.array_split(members, max(1, len(members) // 8)):
            groups[chunk] = following
            following += 1


def _to_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"an annotation holds a {type(value).__name__}, which has no stable text")


_encode_sorted = json.JSONEncoder(sort_keys=True, default=_to_text).encode
