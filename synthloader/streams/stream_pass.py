"""One pass over a stream: real items in their order, each followed by its generated versions."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import floor
from typing import Any

from synthloader.errors import ShortfallError
from synthloader.layout import Draw
from synthloader.mix_sets import Served
from synthloader.streams.clock import find_phase
from synthloader.streams.mixer import StreamMixer

__all__ = ["StreamPass"]

_NUM_PROBES = 6
"""Items that are looked at to recognise the format; those that follow the first are read early, and kept."""


class StreamPass(Iterator[Any]):
    """An iterator that can say and set its place.

    The epoch begins with the first item: loaders that resume ask for an iterator before they say where it is to go on.

    ```
    row       the items that the ranks read at the same time: one, where the ranks are not split here
    group     what comes of one real item: itself, then its generated versions
    ```

    A place is a row and how much of its group was served; the group is made again to go on in its middle.

    Args:
        mixer: What is made of the items.
        stream: Where they come from.
        split: Whether ranks and workers take turns here.
    """

    def __init__(self, mixer: StreamMixer, stream: Iterable[Any], *, split: bool) -> None:
        self._mixer = mixer
        self._stream = stream
        self._share = mixer.find_share()
        self._row_size, self._turns = (self._share.num_ranks, self._share.num_workers) if split else (1, 1)
        self._is_split = split
        self._source, self._set = mixer.make_set(stream)
        self._epoch: int | None = None
        self._outputs: Iterator[Any] | None = None
        self._reader: Any = None
        self._row = self._made = self._served = 0
        self._start: dict[str, Any] | None = None
        self._before_row: dict[str, Any] | None = None
        self._ahead: deque[tuple[int, Any]] = deque()
        self._is_ahead = False
        self._phase = find_phase(self._share.worker, self._share.num_workers)
        self._num_even = self._count_even_rows()

    def __next__(self) -> Any:
        if self._outputs is None:
            if self._epoch is None:
                self._epoch = self._mixer.start_pass(self._share, self._stream)
            self._outputs = self._serve()
        return next(self._outputs)

    # ---- where it stands

    def state_dict(self) -> dict[str, Any]:
        """The place: epoch, row, items made, items of the group served, and the stream's own state if it has one."""
        epoch = self._mixer.find_next_epoch(self._share) if self._epoch is None else self._epoch
        place = {"epoch": epoch, "row": self._row, "made": self._made, "served": self._served}
        if self._outputs is None:  # Nothing was read yet.
            return {**place, "stream": self._start}
        is_between = self._served == 0 and not self._ahead
        return {**place, "stream": self._read_state(self._row) if is_between else self._before_row}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a place: by the stream's own state, or else by reading and dropping what was served already."""
        self._epoch, self._row = int(state["epoch"]), int(state["row"])
        self._made, self._served = int(state["made"]), int(state["served"])
        self._start = state["stream"]
        self._mixer.resume_pass(self._share, self._epoch, self._stream)

    def _read_state(self, row: int) -> dict[str, Any] | None:
        """The stream's state where the next row that is read from it is `row`; None where it has no state."""
        holder: Any
        for holder, who in ((self._reader, "iterator"), (self._stream, "stream")):
            if hasattr(holder, "state_dict") and hasattr(holder, "load_state_dict"):
                state = holder.state_dict()
                return None if state is None else {"row": row, "of": who, "state": state}
        return None

    # ---- items

    def _serve(self) -> Iterator[Any]:
        for row, item in self._read_own():
            self._row, skipped = row, self._served
            group = self._make_group(row, item, skipped)
            for at, (output, side, class_ids, served) in enumerate(group, start=skipped + 1):
                is_last = at == skipped + len(group)
                self._row, self._made, self._served = (row + 1, self._made + 1, 0) if is_last else (row, self._made, at)
                if served is not None:  # Only now: a pass that is stopped has made versions that nobody got.
                    self._mixer.count_served(served)
                yield self._mixer.finish(output, side, class_ids)

    def _make_group(self, row: int, item: Any, skipped: int) -> list[tuple[Any, str, list[int], Served | None]]:
        """What is still to be served of a group, each with the side that it counts for and how it came about.

        Generated versions are made before the real item is handed out, which others may then change.
        """
        group: list[tuple[Any, str, list[int], Served | None]] = []
        if not skipped:
            group.append((item, "real", self._source.read_class_ids(item), None))
        for number in range(max(0, skipped - 1), self._count_versions(row)):
            served = self._make(row, item, number)
            if served.is_generated:
                group.append((served.item, "generated", served.class_ids, served))
            else:
                group.append((copy.deepcopy(item), "real", self._source.read_class_ids(item), served))
        return group

    def _count_versions(self, row: int) -> int:
        """How many versions the item of a row gets: by the items of this reader, in the last round by the rows of all.

        Workers with equally many items are together at the rounded ratio of all rows; going on from there by rows, they
        end at it too, and serve as many items as the stream's length says.
        """
        is_even = self._num_even is None or row < self._num_even
        at, phase = (self._made, self._phase) if is_even else (row, Fraction(1, 2))
        before, after = (floor(number * self._mixer.exact_ratio + phase) for number in (at, at + 1))
        return after - before

    def _count_even_rows(self) -> int | None:
        """Rows before the last round, of which not every worker has one; None where nobody knows."""
        if self._turns == 1 or not hasattr(self._stream, "__len__"):
            return None
        try:
            num_rows = len(self._stream) // self._row_size  # type: ignore[arg-type]
        except TypeError:  # As torch's ChainDataset says that one of its parts has no length.
            return None
        return num_rows - num_rows % self._turns

    def _make(self, row: int, item: Any, number: int) -> Served:
        mixer, position = self._mixer, self._find_position(row)
        name = self._find_name(item, position)
        entries = [(name, item)]
        knows_format = self._source.knows_format
        if not knows_format:
            entries += [(name, later) for _, later in self._look_ahead()]
        self._source.hold(entries, position=position)
        try:
            if not knows_format:
                mixer.known_adapter = self._source.recognize()
            variant = (self._epoch or 0) * mixer.most_versions + number
            served = self._set.serve(Draw(0, 0, variant, None), position, epoch=self._epoch or 0)
        finally:
            self._source.hold([], position=position)
        if not served.is_generated and mixer.on_shortfall == "error":
            mixer.count_served(served)
            reasons = sorted({f"{who}: {reason}" for who, reason in served.rejections})
            raise ShortfallError(
                f"nothing could be generated from item {position} ({name}) of epoch {self._epoch} "
                f"({', '.join(reasons)}). Raise attempts=, loosen the filters, or pass on_shortfall='real'."
            )
        return served

    def _find_position(self, row: int) -> int:
        """Which item of the stream, as this process reads it, a row's own item is."""
        return row * self._row_size + (self._share.rank if self._is_split else 0)

    def _find_name(self, item: Any, position: int) -> str:
        if self._mixer.name is not None:
            return self._mixer.name_item(item)
        share = self._share
        if self._is_split or share.num_ranks * share.num_workers == 1:
            return str(position)
        return f"{share.rank}.{share.worker}/{position}"  # Every reader has an item 0 of its own.

    # ---- reading

    def _read_own(self) -> Iterator[tuple[int, Any]]:
        """(row, item) of this reader, those first that were read early."""
        rows = self._read_rows()
        self._rows = rows
        while True:
            if self._ahead:
                yield self._ahead.popleft()
                continue
            self._is_ahead = False
            try:
                entry = next(rows)
            except StopIteration:
                return
            yield entry

    def _look_ahead(self) -> list[tuple[int, Any]]:
        """The items that follow, as many as the format is recognised by; they are served later, in their order."""
        self._is_ahead = True
        while len(self._ahead) < _NUM_PROBES - 1:
            try:
                self._ahead.append(next(self._rows))
            except StopIteration:
                break
        return list(self._ahead)

    def _read_rows(self) -> Iterator[tuple[int, Any]]:
        """(row, item) of every row that is this reader's, from the place on at which the pass goes on."""
        first, row = self._row, 0
        start, self._start = self._start, None
        if start is not None and start["of"] == "stream":
            stream: Any = self._stream
            stream.load_state_dict(start["state"])
        self._reader = iter(self._stream)
        if start is not None:
            row = int(start["row"])
            if start["of"] == "iterator":
                self._reader.load_state_dict(start["state"])
        mine = self._share.worker if self._turns > 1 else 0
        while True:
            is_mine = row % self._turns == mine and row >= first
            if is_mine and not self._is_ahead:
                self._before_row = self._read_state(row)
            item = None
            for rank in range(self._row_size):
                try:
                    read = next(self._reader)
                except StopIteration:
                    return  # Of a row that is not full nobody serves anything: ranks need equal steps.
                if rank == (self._share.rank if self._is_split else 0):
                    item = read
            if is_mine:
                yield row, item
            row += 1
