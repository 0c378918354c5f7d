"""Streams: generated items mixed into `IterableDataset`s and WebDataset pipelines."""

from synthloader.streams.mixed_stream import MixedStream, mix_stream

__all__ = ["MixedStream", "mix_stream"]
