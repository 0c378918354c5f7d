"""The item that a stream is at, seen as a dataset of its own, so that what serves datasets serves streams too."""

from __future__ import annotations

from typing import Any

from synthloader.checks import show_value
from synthloader.errors import note_error
from synthloader.protocols import AnyAdapter
from synthloader.registry import describe_item
from synthloader.sample import Sample
from synthloader.sources import ItemFacts, Source

__all__ = ["StreamSource", "StreamedItems"]


_OF_THE_WHOLE = ("classes", "class_to_idx", "categories", "names", "instance_fields", "features")
"""Attributes of a stream that adapters may look at; what has an entry for each item is not among them."""


class StreamedItems:
    """The item that a stream is at, as item 0, and some that follow; with what the stream says of its classes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.entries: list[tuple[str, Any]] = []

    def __len__(self) -> int:
        return max(1, len(self.entries))  # Before the first item it stands for streams that have some.

    def __getitem__(self, index: int) -> Any:
        return self.entries[index][1]

    def read_facts(self, index: int, /) -> ItemFacts:
        """The name under which the item was read; nothing else is known of it."""
        return ItemFacts(self.entries[index][0], None, None, None, None)

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_THE_WHOLE or "stream" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.stream, name)


class StreamSource(Source):
    """The current item of a stream as a pool of one.

    Args:
        stream: Where the items come from: for its table of classes.
        given: The adapter as it was given; None: recognised from the items that are held first.
        known: The adapter as an earlier pass completed or recognised it.
    """

    def __init__(self, stream: Any, *, given: AnyAdapter | None, known: AnyAdapter | None) -> None:
        self.items = StreamedItems(stream)
        super().__init__(self.items, adapter=given, look=False)
        self._adapter = known if known is not None else self._adapter
        self._position = 0

    @property
    def knows_format(self) -> bool:
        """Whether no item has to be looked at any more."""
        return self._adapter is not None

    @property
    def like(self) -> Any:
        """The current item, for its form only."""
        return self.items[0]

    def hold(self, entries: list[tuple[str, Any]], *, position: int) -> None:
        """Make these (name, item) the current item and what follows it."""
        self.items.entries = entries
        self._position = position

    def recognize(self) -> AnyAdapter:
        """The adapter for the items that are held.

        Raises:
            TypeError: No adapter knows them.
        """
        for _, item in self.items.entries:
            _check_decoded(item)
        return self.adapter

    def __getitem__(self, index: Any, /) -> Any:
        """The sample of the current item."""
        try:
            sample: Sample = self.adapter.to_sample(self.items[index], index=self._position)
        except Exception as error:
            note_error(error, f"while reading item {self._position} of {type(self.items.stream).__name__}")
            raise
        return sample


def _check_decoded(item: Any) -> None:
    """Refuse files that nobody has decoded, as WebDataset gives them."""
    parts = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, tuple | list) else ()
    for key, value in parts:
        if isinstance(value, bytes) and len(value):
            shown = show_value(key) if isinstance(item, dict) else f"part {key}"
            raise TypeError(
                f"items must be decoded before they are mixed, got bytes in {shown} of {describe_item(item)}. Decode "
                f"first: WebDataset(...).decode('pil').to_tuple('jpg', 'json')."
            )
