"""From a reference to weighted configurations of a generator, and what they brought."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from synthloader.attributes.distance import bhattacharyya_distance
from synthloader.attributes.measure import ATTRIBUTES, scale_values
from synthloader.attributes.mixture import GaussianMixture1D, fit_mixture
from synthloader.attributes.reference import Reference
from synthloader.attributes.remembering import RememberingPool
from synthloader.attributes.report import AlignmentReport, AlignmentRow
from synthloader.attributes.search import Configurable, Options, Probes, find_matches, weigh_jointly
from synthloader.errors import NothingToGenerate
from synthloader.protocols import Generator
from synthloader.sample import Sample

__all__ = ["Alignment", "AlignmentDraws", "Configuration", "configure"]

_LOGGER = logging.getLogger("synthloader.attributes")

_LEAST_WEIGHT = 1e-6
"""Combinations of components that the reference does not have in a million objects are not made."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is changed in the generator for one combination of components, and how often.

    Args:
        weight: Share of the samples that it is drawn for.
        options: Options that differ from the generator's own.
    """

    weight: float
    options: Options


@dataclass(eq=False)
class Alignment:
    """Looks for the configurations of one bound generator, once, for all copies that share it.

    Args:
        generator: Bound to `sources`, and not aimed at a class.
        sources: On which configurations are tried.
        pool: Where the generator's donors come from; `sources` where these are one.
        reference: What they are to come near to.
        grids: For each attribute that is aligned, the configurations to try; no option stands in two grids.
        num_probes: How many sources are used.
        max_components: Most components of a mixture.
        min_silhouette: What a mixture of several must reach.
    """

    generator: Generator
    sources: RememberingPool
    pool: RememberingPool
    reference: Reference
    grids: Mapping[str, Sequence[Options]]
    num_probes: int
    max_components: int
    min_silhouette: float
    _found: list[Configuration] | None = field(init=False, default=None, repr=False)
    _failure: str = field(init=False, default="", repr=False)
    _mixtures: dict[str, GaussianMixture1D] = field(init=False, default_factory=dict, repr=False)
    _report: AlignmentReport | None = field(init=False, default=None, repr=False)

    def find(self) -> list[Configuration]:
        """One configuration for each combination of components that the reference has.

        Raises:
            NothingToGenerate: The reference has no value of an attribute, or no configuration made one. This is
                remembered too: it takes as long to find out.
        """
        if self._found is None and not self._failure:
            _LOGGER.info(
                "searching options of %s to align %s: %d configurations on up to %d pictures",
                type(self.generator).__name__,
                ", ".join(self.grids),
                sum(map(len, self.grids.values())),
                self.num_probes,
            )
            started = time.monotonic()
            try:
                with self._remember():
                    self._found = self._search()
            except NothingToGenerate as nothing:
                self._failure = nothing.reason
            _LOGGER.info("searched for %.1f s", time.monotonic() - started)
        if self._found is None:
            raise NothingToGenerate(self._failure)
        return self._found

    def report(self) -> AlignmentReport:
        """Distances before and after; `find` comes first, and raises as it does."""
        if self._report is None:
            self.find()
            with self._remember():
                self._report = AlignmentReport(tuple(self._compare()))
        return self._report

    @contextmanager
    def _remember(self) -> Iterator[None]:
        with self.sources.remember(), nullcontext() if self.pool is self.sources else self.pool.remember():
            yield

    def _search(self) -> list[Configuration]:
        mixtures: dict[str, GaussianMixture1D] = {}
        for name in self.grids:
            mixture = self._fit(name)
            if mixture is None:
                raise NothingToGenerate("no objects to align to")
            mixtures[name] = mixture
        self._mixtures = mixtures
        probes = Probes(self.sources, self.num_probes, "search")
        matches = {}
        for name, mixture in mixtures.items():
            found = find_matches(
                name,
                mixture,
                self.grids[name],
                lambda options: configure(self.generator, options),
                probes,
                like=self.reference.values[name],
            )
            if found is None:
                raise NothingToGenerate("no configuration makes objects")
            matches[name] = found
        weights = self._weigh(mixtures)
        combined = []
        for place in np.ndindex(weights.shape):
            parts = [matches[name][at] for name, at in zip(mixtures, place, strict=True)]
            options = {option: value for part in parts for option, value in part.options.items()}
            # What is drawn are samples: a configuration that makes twice as many objects is drawn half as often.
            combined.append((float(weights[place]) / math.prod(part.num_values for part in parts), options))
        total = sum(weight for weight, _ in combined)
        shares: dict[str, float] = {}
        for weight, options in combined:
            if weight > _LEAST_WEIGHT * total:
                shares[repr(options)] = shares.get(repr(options), 0.0) + weight
        by_text = {repr(options): options for _, options in combined}
        total = sum(shares.values())
        return [Configuration(share / total, by_text[text]) for text, share in shares.items()]

    def _fit(self, name: str) -> GaussianMixture1D | None:
        values = self.reference.scale(name)
        if not len(values):
            return None
        return fit_mixture(values, max_components=self.max_components, min_silhouette=self.min_silhouette)

    def _weigh(self, mixtures: Mapping[str, GaussianMixture1D]) -> np.ndarray:
        """How often components come together, with an axis for each attribute in the order of `mixtures`."""
        weights, order = np.ones(()), []
        for per in ("object", "image"):
            names = [name for name in mixtures if ATTRIBUTES[name].per == per]
            values = np.array([self.reference.values[name] for name in names])
            complete = ~np.isnan(values).any(axis=0)
            if names and complete.any():
                scaled = [scale_values(name, own[complete], like=own) for name, own in zip(names, values, strict=True)]
                weights = np.multiply.outer(weights, weigh_jointly(scaled, [mixtures[name] for name in names]))
            else:
                for name in names:
                    weights = np.multiply.outer(weights, mixtures[name].weights)
            order += names
        ordered: np.ndarray = weights.transpose([order.index(name) for name in mixtures])
        return ordered

    def _compare(self) -> list[AlignmentRow]:
        generators = [self.generator, AlignmentDraws(self.generator, self)]
        made: list[list[dict[str, np.ndarray]]] = [[], []]
        for results in Probes(self.sources, self.num_probes, "report").run(generators, list(ATTRIBUTES)):
            for part, result in zip(made, results, strict=True):
                part.extend([] if result is None else [result])
        rows = []
        for name in ATTRIBUTES:
            mixture, distances = self._mixtures.get(name) or self._fit(name), []
            for part in made:
                values = np.concatenate([np.zeros(0), *(result[name] for result in part)])
                scaled = scale_values(name, values, like=self.reference.values[name])
                known = mixture is not None and len(scaled)
                distances.append(bhattacharyya_distance(self.reference.scale(name), scaled) if known else None)
            num_components = None if mixture is None else len(mixture)
            rows.append(AlignmentRow(name, name in self.grids, num_components, distances[0], distances[1]))
        return rows


class AlignmentDraws:
    """A generator that draws a configuration for every sample.

    Args:
        generator: Bound; it may be aimed at a class.
        alignment: What was found, or will be when it is first needed.
    """

    def __init__(self, generator: Generator, alignment: Alignment) -> None:
        self.generator = generator
        self.alignment = alignment
        self.keeps = generator.keeps
        self._configured: dict[int, Generator] = {}

    @property
    def fingerprint(self) -> str:
        """The generator's own: what was found follows from it, the sources and the reference."""
        return self.generator.fingerprint

    def generate(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Draw a configuration by weight and let it generate."""
        found = self.alignment.find()
        borders = np.cumsum([configuration.weight for configuration in found])[:-1]
        drawn = int(np.searchsorted(borders, rng.random(), side="right"))
        if drawn not in self._configured:
            self._configured[drawn] = configure(self.generator, found[drawn].options)
        return self._configured[drawn].generate(source, rng=rng)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the configured copies, which are made again."""
        return {**self.__dict__, "_configured": {}}


def configure(generator: Generator, options: Options, /) -> Generator:
    """A copy of a `Configurable` generator with other options; itself where there are none."""
    return cast(Configurable, generator).replace(**options) if options else generator
