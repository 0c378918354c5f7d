"""`MetadataAlignment`: a generator whose objects are as large, and stand where, those of a real set do."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from synthloader.attributes.alignment import Alignment, AlignmentDraws, Configuration, configure
from synthloader.attributes.measure import ATTRIBUTES
from synthloader.attributes.reference import Reference, SampleSequence
from synthloader.attributes.remembering import RememberingPool
from synthloader.attributes.report import AlignmentReport
from synthloader.attributes.search import Configurable, Options
from synthloader.checks import check_choice, check_count, check_fraction, check_type, reject
from synthloader.errors import LabelContractError, NothingToGenerate, note_error
from synthloader.generators.composing.composition import bind_part, check_part_source, find_aim, with_single_polygons
from synthloader.generators.composing.output_size import find_common_size
from synthloader.generators.composing.wrapping import WrappingGenerator
from synthloader.generators.labelling.contract import check_kept
from synthloader.keys import hash_content, make_fingerprint
from synthloader.protocols import Generator, Pool, Resizing
from synthloader.sample import Sample
from synthloader.targets import Instances

__all__ = ["MetadataAlignment"]

_FACTORS = [round(0.05 * 2 ** (step / 3), 4) for step in range(20)]  # 0.05 to 4
_TWENTIETHS = [place / 20 for place in range(21)]

DEFAULT_PARAMETERS: dict[str, dict[str, list[tuple[float, float]]]] = {
    "box_area": {
        "scale_range": [
            (round(factor / spread**0.5, 4), round(factor * spread**0.5, 4))
            for factor in _FACTORS
            for spread in (1, 1.5, 2.5)
        ]
    },
    "box_bottom": {
        "bottom_range": [
            (low, high)
            for low, high in itertools.combinations(_TWENTIETHS, 2)
            if round(20 * (high - low)) in (1, 2, 4, 8, 14, 20)
        ]
    },
    "count": {"num_range": [(low, high) for low in range(1, 13) for high in (low, low + 2, low + 6)]},
}
"""Which options of `CopyPaste` move an attribute, and the values that are tried, as far as it takes them: a scale is a
factor for donors of the pool, and a share of the image, at most 1, for cut-outs."""


class MetadataAlignment(WrappingGenerator):
    """Draw a generator's options so that what it makes has the sizes and places of a real set.

    Attributes of the reference are measured (`synthloader.attributes`), and a one-dimensional Gaussian mixture is
    fitted to each that is to be aligned. For each component a grid of the generator's options is searched for the
    configuration whose output has its mean and variance. A sample is then made with the configurations of components
    drawn by weight.

    * What is measured of the output are the objects that the generator added (attribute `generated`), not the source's
      own; `count`, brightness and the like are of the whole image.
    * Each attribute has options of its own, searched with all others as they are. The components of several
      attributes are drawn together as often as the reference's objects have them together, so that what is far stays
      small. (Attributes of objects and attributes of images are drawn apart.)
    * An attribute that what was found would bring no nearer keeps the generator's own options: donors that fall into
      two groups of size by themselves would fall into four under two configurations.
    * All objects of one sample are made with one configuration. One that makes more objects is drawn less often.
    * The search makes samples of some sources. It runs when the first sample is made, once, in seconds,
      and its result travels to other processes with the generator. Call `prepare` or `report` before the loader's
      workers are started, or each of them searches for itself, with the same result. When it begins and ends is logged
      (`logging.getLogger("synthloader.attributes")`).
    * What belongs to objects, their number too, is aligned for `Instances` only: no other target tells them apart.
    * Aimed at a class, it uses what was found for all classes.

    What to align: area first, then place. In the study that this follows, aligning the area of boxes alone took the MAP
    of Faster R-CNN on one set from 0.20 to 0.45 and the position helped, while blur, sharpness, entropy and contrast
    brought nothing.

    Args:
        generator: Has `replace(**options)` (`synthloader.attributes.Configurable`), as CopyPaste has.
        reference: The real set: samples, or whatever has a length and gives samples by position, as
            `synthloader.sources.Source(dataset)` does. In a recipe: a dataset with its format. None: the sources.
        attributes: What is aligned, names of `synthloader.attributes.ATTRIBUTES`.
        parameters: Attribute to the options that move it, each with the values to try; all combinations are. Attributes
            that are left out get their options of CopyPaste: `scale_range` for the area, `bottom_range` for the bottom,
            `num_range` for the count.
        num_probes: Sources on which configurations are tried, at least 2.
        num_references: Samples of the reference that are measured, evenly from first to last.
        max_components: Most components of a mixture.
        min_silhouette: What a mixture of several must reach, 0..1; one component otherwise.

    Raises:
        ValueError: There is no such attribute, or nothing is known that moves it; or an argument is out of its bounds.
        TypeError: The generator cannot be copied with other options; or an argument has another type.
        LabelContractError: Attributes of objects are to be aligned, and the generator does not keep `Instances`.

    Source:
        The pieces: Rousseeuw 1987, "Silhouettes: a graphical aid to the interpretation and validation of cluster
        analysis"; Bhattacharyya 1943, "On a measure of divergence between two statistical populations defined by their
        probability distributions"; mixtures by EM as scikit-learn has them. Ours draws the components of several
        attributes together, and tries all of the grid on few sources before the best on all of them.

    Example:
        >>> from synthloader.generators.copy_paste import CopyPaste
        >>> MetadataAlignment(CopyPaste(), attributes=["box_area"], num_probes=32)
        MetadataAlignment(CopyPaste(), attributes=('box_area',))
    """

    def __init__(
        self,
        generator: Generator,
        reference: SampleSequence | None = None,
        attributes: Sequence[str] = ("box_area", "box_bottom"),
        *,
        parameters: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
        num_probes: int = 64,
        num_references: int = 200,
        max_components: int = 5,
        min_silhouette: float = 0.7,
    ) -> None:
        super().__init__(generator)
        if not isinstance(generator, Configurable):
            reject(
                "generator",
                "have replace(**options), which makes a copy with other options",
                generator,
                "Add the method to its class. In a chain, wrap the part whose options are searched: "
                "[MetadataAlignment(CopyPaste()), Fog()].",
                error=TypeError,
            )
        self._attributes = _check_attributes(attributes)
        self._needs_objects = any(name == "count" or ATTRIBUTES[name].per == "object" for name in self._attributes)
        if self._needs_objects:
            self.keeps &= {Instances}
            if not self.keeps:
                raise LabelContractError(f"MetadataAlignment cannot align objects of {generator!r}. {self._remedy}")
        self._parameters = _check_parameters(parameters, self._attributes, generator)
        self._num_probes = check_count("num_probes", num_probes)
        if num_probes < 2:
            reject("num_probes", "be at least 2", num_probes, "A variance needs two values.")
        self._num_references = check_count("num_references", num_references)
        self._max_components = check_count("max_components", max_components)
        self._min_silhouette = check_fraction("min_silhouette", min_silhouette)
        self._reference = None if reference is None else Reference(_check_reference(reference), self._num_references)
        self._sources: Reference | None = None  # where they are not the pool, whose identity is in every key
        # What is searched with: not aimed at a class, so that one search serves all of them.
        self._base: Generator = generator
        self._aimed_at: int | None = None
        self._draws: AlignmentDraws | None = None
        self._most_donors = self._try_options()

    @property
    def fingerprint(self) -> str:
        """The generator's, every parameter, and a hash of what was measured of the reference.

        The first time, this reads the reference, and the sources where the donors come from another pool; the pool's
        identity is not in it, nor what the search will find.
        """
        beside = {} if self._sources is None else {"sources": self._sources.hash(self._attributes)}
        return make_fingerprint(
            "MetadataAlignment",
            1,
            **beside,
            generator=self.generator.fingerprint,
            reference=None if self._reference is None else self._reference.hash(self._attributes),
            attributes=self._attributes,
            # Hundreds of values, in the origin of every sample: their hash will do.
            parameters=hash_content(make_fingerprint("parameters", 1, **self._parameters)).hex(),
            num_probes=self._num_probes,
            num_references=self._num_references,
            max_components=self._max_components,
            min_silhouette=self._min_silhouette,
        )

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """What was found, likeliest first; searches where that was not done yet.

        Raises:
            ValueError: No pool is bound.
            NothingToGenerate: The reference has no objects, or the generator made none of any source.
        """
        found = self._need_draws("configurations").alignment.find()
        return tuple(sorted(found, key=lambda configuration: -configuration.weight))

    def prepare(self) -> None:
        """Search now, if that was not done yet: before loader workers are started, or to have it behind you.

        Where nothing can be found, that is said when a sample is asked for.

        Raises:
            ValueError: No pool is bound.
            MissingExtraError: scikit-learn is not installed.
        """
        with suppress(NothingToGenerate):
            self._need_draws("prepare").alignment.find()

    def report(self) -> AlignmentReport:
        """How far the generator's output is from the reference before and after, for every attribute, aligned or not.

        A dataset binds it: `generated = GeneratedDataset(real, MetadataAlignment(...))`, then
        `print(generated.generator.report())`; in a list of generators, `generated.generator.generators[0].report()`.

        Both are measured on `num_probes` sources with draws that the search has not seen. Made once, then remembered.

        Raises:
            ValueError: No pool is bound.
            NothingToGenerate: The reference has no objects, or the generator made none of any source.
        """
        return self._need_draws("report").alignment.report()

    @property
    def uses_pool(self) -> bool:
        """Always: configurations are tried on its samples."""
        return True

    def bind(self, pool: Pool, /, *, classes: Mapping[str, int] | None) -> MetadataAlignment:
        """A copy whose generator is bound to this pool, and which tries configurations on the sources.

        The sources are the pool's samples, or, where a dataset has a pool besides its sources, `pool.sources`.
        """
        bound = copy.copy(self)
        donors = sources = RememberingPool(pool)
        beside = getattr(pool, "sources", None)
        if beside is not None:
            sources = RememberingPool(beside)
            bound._sources = Reference(beside, self._num_references)
        bound._base = bind_part(self._base, donors, classes)
        bound.generator = _aim_at(bound._base, self._aimed_at)
        alignment = Alignment(
            generator=bound._base,
            sources=sources,
            pool=donors,
            reference=self._reference or bound._sources or Reference(pool, self._num_references),
            grids=self._grids,
            num_probes=self._num_probes,
            max_components=self._max_components,
            min_silhouette=self._min_silhouette,
        )
        bound._draws = AlignmentDraws(bound.generator, alignment)
        return bound

    def keep_single_polygons(self) -> MetadataAlignment:
        """A copy that makes only masks that one polygon can say, as far as its generator can be told that."""
        kept = copy.copy(self)
        kept._base = with_single_polygons(self._base)
        kept.generator = with_single_polygons(self.generator)
        if self._draws is not None:  # It makes other objects, so it is searched with.
            kept._draws = AlignmentDraws(kept.generator, replace(self._draws.alignment, generator=kept._base))
        return kept

    @property
    def aim(self) -> Callable[[int], MetadataAlignment]:
        """A method: `aim(class_id)` gives a copy whose generator is aimed at this class.

        Raises:
            AttributeError: The generator cannot be aimed.
        """
        if find_aim(self.generator) is None:
            raise AttributeError(f"aim: {type(self.generator).__name__} cannot be told which class is wanted.")
        return self._aim

    def _aim(self, class_id: int, /) -> MetadataAlignment:
        aimed = self._wrap(_aim_at(self.generator, class_id))
        aimed._aimed_at = class_id
        return aimed

    def _wrap(self, generator: Generator) -> MetadataAlignment:
        """A copy that is aimed, or uses few donors: what was found serves it too."""
        made = copy.copy(self)
        made.generator = generator
        if self._draws is not None:
            made._draws = AlignmentDraws(generator, self._draws.alignment)
        return made

    @property
    def max_donors(self) -> int:
        """Most donors in one sample of any configuration (see `Budgeted`); missing where there is no such bound."""
        self._find_budgeted("max_donors")
        return self._most_donors

    def find_size_hw(self, source_hw: tuple[int, int], /) -> tuple[int, int] | None:
        """Height and width of what is made, where all configurations agree; None elsewhere."""
        if not isinstance(self.generator, Resizing):
            return source_hw
        grid = itertools.chain.from_iterable(self._grids.values())
        return find_common_size([configure(self.generator, options) for options in [{}, *grid]], source_hw)

    def check_source(self, source: Sample, /) -> None:
        """Refuse a source whose objects cannot be told apart, after the generator had its word.

        Raises:
            LabelContractError: Attributes of objects are to be aligned, and the target is not `Instances`.
        """
        check_part_source(self.generator, source)
        if self._needs_objects and source.target is not None and not isinstance(source.target, Instances):
            raise LabelContractError(
                f"MetadataAlignment aligns objects, got a source with a {type(source.target).__name__}, which does not "
                f"tell them apart. {self._remedy}"
            )

    def generate_or_pass(self, source: Sample, /, *, rng: np.random.Generator) -> Sample:
        """Draw a configuration and let it generate.

        Args:
            source: A sample whose kind of target the generator keeps.
            rng: Draws the configuration, then serves it.

        Raises:
            LabelContractError: The generator does not keep the source's kind of target.
            NothingToGenerate: The drawn configuration can make nothing; or the reference has no objects.
            MissingExtraError: scikit-learn is not installed.
        """
        self.check_source(source)  # Before a long search.
        check_kept("MetadataAlignment", self.keeps, source)
        return self._need_draws("generate").generate(source, rng=rng)

    @property
    def _grids(self) -> dict[str, list[Options]]:
        return {
            name: [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
            for name, options in self._parameters.items()
        }

    def _try_options(self) -> int:
        """Let the generator refuse options now, and not when the first sample is made; gives most donors of any."""
        grids = self._grids.items()
        tried = [self.generator, *(_try(self.generator, options, name) for name, grid in grids for options in grid)]
        return max(int(getattr(configured, "max_donors", 0)) for configured in tried)

    @property
    def _remedy(self) -> str:
        of_pixels = [name for name, attribute in ATTRIBUTES.items() if attribute.per == "image" and name != "count"]
        return (
            "Use the generator without MetadataAlignment, or a dataset with boxes or instance masks; "
            f"attributes of the image can be aligned for every target: {', '.join(of_pixels)}."
        )

    def _need_draws(self, asked: str) -> AlignmentDraws:
        if self._draws is None:
            remedy = (
                "A dataset binds it: generated = GeneratedDataset(real, generator); "
                "print(generated.generator.report())."
            )
            reject("pool", f"be bound before {asked}", None, remedy)
        return self._draws

    def __repr__(self) -> str:
        """The generator, and what is aligned."""
        return f"MetadataAlignment({self.generator!r}, attributes={self._attributes!r})"


def _aim_at(generator: Generator, class_id: int | None) -> Generator:
    aim = find_aim(generator)
    return generator if aim is None or class_id is None else aim(class_id)


def _try(generator: Generator, options: Options, attribute: str) -> Generator:
    try:
        return configure(generator, options)
    except (TypeError, ValueError) as error:
        note_error(error, f"while MetadataAlignment tried {dict(options)!r} to align {attribute!r}")
        raise


def _accepts(generator: Generator, options: Options, attribute: str) -> bool:
    try:
        _try(generator, options, attribute)
    except ValueError:
        return False
    return True


def _check_attributes(attributes: Any) -> tuple[str, ...]:
    if isinstance(attributes, str) or not isinstance(attributes, Sequence):
        reject("attributes", "be a list of names", attributes, "Write [...] around a single one.", error=TypeError)
    if not attributes:
        reject("attributes", "name at least one attribute", attributes, f"Allowed: {', '.join(ATTRIBUTES)}.")
    names = [check_choice(f"attributes[{at}]", name, ATTRIBUTES) for at, name in enumerate(attributes)]
    if len(set(names)) < len(names):
        reject("attributes", "name each attribute once", attributes)
    return tuple(names)


def _check_parameters(
    parameters: Any, attributes: tuple[str, ...], generator: Generator
) -> dict[str, dict[str, list[Any]]]:
    given = {} if parameters is None else parameters
    check_type("parameters", given, Mapping)
    for name in given:
        if name not in attributes:
            reject("parameters", f"be of attributes={attributes!r}", name, "Add it there, or leave its options out.")
    checked = {
        name: _check_options(name, given[name]) if name in given else _find_default(name, generator)
        for name in attributes
    }
    owners: dict[str, str] = {}
    for name, options in checked.items():
        for option in options:
            if owners.setdefault(option, name) != name:
                reject(
                    "parameters", "give each option to one attribute", option, "Search it for the one that it moves."
                )
    return checked


def _check_options(name: str, options: Any) -> dict[str, list[Any]]:
    check_type(f"parameters[{name!r}]", options, Mapping)
    for option, values in options.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            reject(f"parameters[{name!r}][{option!r}]", "be a list of values to try", values, error=TypeError)
        if not values:
            reject(f"parameters[{name!r}][{option!r}]", "hold at least one value to try", values)
    return {option: list(values) for option, values in options.items()}


def _find_default(name: str, generator: Generator) -> dict[str, list[Any]]:
    if name not in DEFAULT_PARAMETERS:
        reject(
            "parameters",
            f"say which options of the generator move {name!r}",
            None,
            f"Write parameters={{{name!r}: {{option: [value, ...]}}}}.",
        )
    found = {}
    for option, values in DEFAULT_PARAMETERS[name].items():
        try:
            accepted = [value for value in values if _accepts(generator, {option: value}, name)]
            if not accepted:
                configure(generator, {option: values[0]})  # says why
        except (TypeError, ValueError) as error:
            reject(
                "parameters",
                f"say which options of {type(generator).__name__} move {name!r}, which refuses {option!r} ({error})",
                None,
                f"Write parameters={{{name!r}: {{option: [value, ...]}}}}, or leave the attribute out of attributes=.",
                error=type(error),
            )
        found[option] = accepted
    return found


def _check_reference(reference: Any) -> SampleSequence:
    if isinstance(reference, str | Mapping) or not (
        hasattr(reference, "__len__") and hasattr(reference, "__getitem__")
    ):
        reject(
            "reference",
            "be samples: a list, or whatever has a length and gives a Sample by position",
            reference,
            "Read a dataset with synthloader.sources.Source.",
            error=TypeError,
        )
    if not len(reference):
        reject("reference", "hold at least one sample", 0)
    checked: SampleSequence = reference
    return checked
