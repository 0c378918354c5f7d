"""`CandidateMaker`: one candidate of one source, from the generator's two stages, with its origin complete."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from synthloader.errors import GenerationError, LabelContractError, NothingToGenerate, note_error
from synthloader.generators.composing.composition import pass_through
from synthloader.generators.composing.stages import Stages
from synthloader.protocols import CacheEntry, Demanding, Rejected
from synthloader.sample import Origin, Sample
from synthloader.seeds import make_rng
from synthloader.sources import Source
from synthloader.targets import ClassLabel, Instances, Target

__all__ = ["UNCHANGED", "CandidateMaker", "LazySource", "name_of"]

UNCHANGED = "unchanged"
"""Why a candidate that equals its source is rejected. What follows a `Cached` may still make something of it."""


class LazySource:
    """The source sample, decoded when first needed: a hit never decodes it."""

    def __init__(self, source: Source, index: int) -> None:
        self._source = source
        self.index = index

    @cached_property
    def sample(self) -> Sample:
        """The sample."""
        sample: Sample = self._source[self.index]
        return sample

    @cached_property
    def name(self) -> str:
        """Its name."""
        return self._source.name(self.index)


class CandidateMaker:
    """Runs generators on the sources of a dataset, checks what they return, and says where it came from.

    Args:
        source: The dataset.
        seed: Seed of the generated dataset.
        license: Under which terms the images and models may be used.
    """

    def __init__(self, source: Source, *, seed: int, license: str | None) -> None:
        self._source = source
        self._seed = seed
        self._license = license

    def make_kept(self, stages: Stages, lazy: LazySource, variant: int, attempt: int, *, where: int) -> CacheEntry:
        """What a cache keeps: a function of seed, source, variant and attempt.

        Args:
            stages: The generator.
            lazy: The source.
            variant: Which version.
            attempt: Which candidate.
            where: The index that is being served, for error messages.

        Raises:
            LabelContractError: The generator does not keep the source's kind of target.
            GenerationError: It returns no sample.
        """
        source, kind = lazy.sample, type(lazy.sample.target)
        if source.target is not None and kind not in stages.whole.keeps:
            if isinstance(stages.whole, Demanding):
                stages.whole.check_source(source)  # Which says best what is missing.
            raise LabelContractError(
                f"{name_of(stages.whole)} does not keep {kind.__name__} true, which item {lazy.index} ({lazy.name}) "
                f"has. It keeps {_join_kinds(stages.whole.keeps)}: use a generator that keeps {kind.__name__}, or "
                f"another dataset."
            )
        fingerprint = stages.kept.fingerprint
        rng = make_rng(self._seed, lazy.name, variant, attempt)
        try:
            made = stages.kept.generate(source, rng=rng)
        except NothingToGenerate as nothing:
            return Rejected(nothing.reason, self._complete(Origin(), fingerprint, lazy.name, variant, attempt))
        except Exception as error:
            self._note(error, stages, where)
            raise
        self._check(made, source, stages, where)
        if _is_same(made, source):
            return Rejected(UNCHANGED, self._complete(Origin(), fingerprint, lazy.name, variant, attempt))
        return self._name(made, fingerprint, lazy.name, variant, attempt)

    def finish(
        self,
        stages: Stages,
        entry: CacheEntry,
        lazy: LazySource,
        variant: int,
        attempt: int,
        *,
        epoch: int,
        index: int,
    ) -> CacheEntry:
        """What becomes of it in this epoch, at this index: its random stream is keyed by these too.

        Args:
            stages: The generator; with a part that is not kept.
            entry: What is kept. An unchanged source is drawn upon as it is.
            lazy: The source.
            variant: Which version.
            attempt: Which candidate.
            epoch: The epoch.
            index: The index of the mix, or of the generated dataset.

        Raises:
            LabelContractError: The generator changes the kind of target.
            GenerationError: It returns no sample.
        """
        fresh, fingerprint = stages.fresh, stages.whole.fingerprint
        if fresh is None or (isinstance(entry, Rejected) and entry.reason != UNCHANGED):
            return entry
        before = lazy.sample if isinstance(entry, Rejected) else entry
        rng = make_rng(self._seed, lazy.name, variant, attempt, stream=f"fresh {epoch} {index}")
        try:
            made = pass_through(fresh, before, rng)
        except NothingToGenerate as nothing:
            return Rejected(nothing.reason, self._complete(Origin(), fingerprint, lazy.name, variant, attempt))
        except Exception as error:
            self._note(error, stages, index)
            raise
        self._check(made, before, stages, index)
        if isinstance(entry, Rejected) and _is_same(made, before):
            return Rejected(UNCHANGED, self._complete(Origin(), fingerprint, lazy.name, variant, attempt))
        return self._name(made, fingerprint, lazy.name, variant, attempt)

    def _name(self, made: Sample, fingerprint: str, name: str, variant: int, attempt: int) -> Sample:
        origin = self._complete(made.origin or Origin(), fingerprint, name, variant, attempt)
        return made.replace(origin=origin.replace(class_names=self._find_class_names(made.target)))

    def _complete(self, origin: Origin, fingerprint: str, name: str, variant: int, attempt: int) -> Origin:
        return origin.replace(
            source=name,
            fingerprint=fingerprint,
            variant=variant,
            attempt=attempt,
            seed=self._seed,
            license=self._license,
        )

    def _find_class_names(self, target: Target | None) -> dict[int, str]:
        """What the classes of a target are called, where the dataset says so."""
        names = self._class_names
        match target:
            case Instances(class_ids=class_ids):
                return {class_id: names[class_id] for class_id in sorted(set(class_ids.tolist())) if class_id in names}
            case ClassLabel(class_id=class_id):
                return {class_id: names[class_id]} if class_id in names else {}
        return dict(names)

    @cached_property
    def _class_names(self) -> dict[int, str]:
        return {class_id: name for name, class_id in sorted((self._source.classes or {}).items(), reverse=True)}

    def _check(self, made: object, source: Sample, stages: Stages, where: int) -> None:
        if not isinstance(made, Sample):
            raise GenerationError(
                f"{name_of(stages.whole)}.generate must return a Sample, got {type(made).__name__} at index {where}.",
                index=where,
                fingerprint=stages.whole.fingerprint,
                seed=self._seed,
            )
        if source.target is not None and type(made.target) is not type(source.target):
            raise LabelContractError(
                f"{name_of(stages.whole)} must return the kind of target that it was given, got "
                f"{type(made.target).__name__} for {type(source.target).__name__} at index {where}. "
                f"Return the source's target where it is still true."
            )

    def _note(self, error: Exception, stages: Stages, where: int) -> None:
        note_error(error, f"while generating index {where} with {name_of(stages.whole)}(seed={self._seed})")


def name_of(part: object, /) -> str:
    """What a generator or a filter is called in reports."""
    return type(part).__name__


def _is_same(made: Sample, source: Sample) -> bool:
    return made is source or (np.array_equal(made.image, source.image) and made.target is source.target)


def _join_kinds(kinds: frozenset[type[Target]]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
