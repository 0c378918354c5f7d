"""Which options of a generator give the values of each component of a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from synthloader.attributes.distance import bhattacharyya_distance, gaussian_distance
from synthloader.attributes.measure import measure, scale_values
from synthloader.attributes.mixture import GaussianMixture1D
from synthloader.attributes.reference import SampleSequence
from synthloader.errors import NothingToGenerate
from synthloader.protocols import Generator
from synthloader.sample import Sample
from synthloader.seeds import make_rng

__all__ = ["Configurable", "Match", "Options", "Probes", "find_matches", "weigh_jointly"]

Options: TypeAlias = Mapping[str, Any]

_ROUNDS = ((1 / 8, 1 / 4), (1 / 2, 1 / 4), (1.0, 0.0))
"""Share of the probes that each round has come to, and share of the configurations that go on to the next."""
_LEAST_YIELD = 0.5
"""A configuration that makes something of fewer probes than this share of what the plain generator does is left out."""

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
"""Its multiples, without their whole part, lie evenly in 0..1 however many there are."""


@runtime_checkable
class Configurable(Protocol):
    """A generator that can be copied with other options."""

    def replace(self, **options: Any) -> Generator:
        """A copy in which these constructor options are others; what is bound and aimed stays so.

        Raises:
            TypeError: There is no such option.
            ValueError: A value is out of its bounds.
        """
        ...


@dataclass(frozen=True, slots=True)
class Match:
    """The configuration that comes nearest to one component.

    Args:
        options: What it changes; empty where the generator as it is comes nearest.
        num_values: Values that it makes from one source, on average.
    """

    options: Options
    num_values: float


@dataclass(frozen=True)
class Probes:
    """Sources on which configurations are tried, each with an rng of its own that is the same for all of them.

    Args:
        sources: Where samples are read; the first few probes already lie evenly over all of them.
        num_probes: How many.
        stream: Another name gives other draws.
    """

    sources: SampleSequence
    num_probes: int
    stream: str

    def run(
        self, generators: Sequence[Generator], names: Sequence[str], /, *, start: int = 0, stop: int | None = None
    ) -> Iterator[list[dict[str, np.ndarray] | None]]:
        """Measure what each generator makes of each probe; None where it makes nothing."""
        for at in range(start, self.num_probes if stop is None else stop):
            source = self.sources[int(at * _GOLDEN_RATIO % 1 * len(self.sources))]
            yield [self._try(generator, source, at, names) for generator in generators]

    def _try(self, generator: Generator, source: Sample, at: int, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        rng = make_rng(0, "MetadataAlignment", at, 0, stream=self.stream)
        try:
            made = generator.generate(source, rng=rng)
        except NothingToGenerate:
            return None
        return measure([made], names, generated_only=True)


@dataclass
class _Trial:
    """What one configuration made so far."""

    options: Options
    generator: Generator
    num_made: int = 0
    values: list[np.ndarray] = field(default_factory=list)

    def join(self) -> np.ndarray:
        """All values, in the attribute's own unit."""
        return np.concatenate([np.zeros(0), *self.values])


def find_matches(
    name: str,
    mixture: GaussianMixture1D,
    configurations: Sequence[Options],
    configure: Callable[[Options], Generator],
    probes: Probes,
    /,
    *,
    like: np.ndarray,
) -> list[Match] | None:
    """Find the configuration whose values come nearest to each component in mean and variance.

    Near is a small Bhattacharyya distance between the two Gaussians. Where all that was found together is no nearer to
    the reference than the plain generator, that one is left as it is.

    The plain generator, without a change, is always among them. All configurations are tried on an eighth of the
    probes; the quarter that comes nearest to each component goes on to a half of them, and a quarter of that to all.

    Args:
        name: The attribute.
        mixture: On the attribute's scale (`scale_values`).
        configurations: The grid.
        configure: Makes the generator of one configuration.
        probes: What they are tried on.
        like: The reference's values, in the attribute's own unit.

    Returns:
        One match for each component; None where no configuration made a value.

    Source:
        Successive halving: Karnin, Koren, Somekh 2013, "Almost optimal exploration in multi-armed bandits"; ours keeps
        a quarter, for each component.
    """
    plain = _Trial({}, configure({}))
    trials = [plain, *(_Trial(options, configure(options)) for options in configurations if options)]
    done, distances = 0, np.zeros((0, len(mixture)))
    for share, kept_share in _ROUNDS:
        until = max(done, math.ceil(share * probes.num_probes))
        for results in probes.run([trial.generator for trial in trials], [name], start=done, stop=until):
            for trial, result in zip(trials, results, strict=True):
                if result is not None:
                    trial.num_made += 1
                    trial.values.append(result[name])
        done = until
        distances = np.array([_rate(name, trial, mixture, plain.num_made, like) for trial in trials])
        if kept_share:
            num_kept = math.ceil(kept_share * len(trials))
            kept = {0, *np.argsort(distances, axis=0, kind="stable")[:num_kept].ravel().tolist()}
            trials = [trials[at] for at in sorted(kept)]
    if not np.isfinite(distances).any(axis=0).all():
        return None
    best = [trials[at] for at in np.argmin(distances, axis=0).tolist()]
    if not _bring_nearer(name, best, mixture, plain, like):
        best = [plain] * len(mixture)
    return [Match(dict(trial.options), len(trial.join()) / probes.num_probes) for trial in best]


def _bring_nearer(
    name: str, best: Sequence[_Trial], mixture: GaussianMixture1D, plain: _Trial, like: np.ndarray
) -> bool:
    """Whether the configurations together are nearer to the reference than the plain generator.

    Donors that fall into two groups by themselves fall into four under two configurations, for example.
    """
    reference, before = scale_values(name, like, like=like), scale_values(name, plain.join(), like=like)
    if not len(before):
        return True
    # As many values as before, so that both distances are estimated from equally many.
    shares = zip(best, mixture.weights, strict=True)
    after = [
        np.resize(scale_values(name, trial.join(), like=like), round(weight * len(before))) for trial, weight in shares
    ]
    together = np.concatenate(after)
    return bhattacharyya_distance(reference, together) < bhattacharyya_distance(reference, before)


def _rate(name: str, trial: _Trial, mixture: GaussianMixture1D, num_plain: int, like: np.ndarray) -> list[float]:
    """Distance to each component; infinite for a configuration that cannot be told or makes too little."""
    values = scale_values(name, trial.join(), like=like)
    if len(values) < 2 or trial.num_made < _LEAST_YIELD * num_plain:
        return [math.inf] * len(mixture)
    mean, deviation = float(values.mean()), float(values.std())
    rated = []
    for component_mean, component_deviation in zip(mixture.means, mixture.deviations, strict=True):
        # A configuration without any spread would be infinitely far: it counts as a tenth of the component's.
        least = 0.1 * component_deviation
        rated.append(gaussian_distance(component_mean, component_deviation, mean, max(deviation, least)))
    return rated


def weigh_jointly(values: Sequence[np.ndarray], mixtures: Sequence[GaussianMixture1D], /) -> np.ndarray:
    """How often components of several attributes come together, (K1, K2, ...), adding up to 1.

    Far objects are small and stand high in the picture: drawn apart, the components of area and of place would give
    large objects at the horizon. So each object (image) of the reference is shared out among the components by its
    responsibilities in every mixture, and the shares are added up; for one attribute these are its weights.

    Args:
        values: (N,) on the scale of each attribute, lined up.
        mixtures: One for each.
    """
    shares = np.ones((len(values[0]), 1))
    for one, mixture in zip(values, mixtures, strict=True):
        own = mixture.find_responsibilities(one)
        shares = (shares[:, :, None] * own[:, None, :]).reshape(len(one), -1)
    weights: np.ndarray = shares.mean(axis=0).reshape([len(mixture) for mixture in mixtures])
    return weights
