"""How far the short-range model is from the dimers it was fitted to, by pair of species.

Every dimer is judged twice: with the library's model, which has seen it, and with a trial fit that has not
seen the held-out scans. Energies are those of the torch reference (phyff/model/cluster.py), kJ/mol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.distance import cdist

from phyff.fit.short_range import (
    COARSE,
    IN_LIQUIDS,
    DimerPoint,
    attracting_cations,
    fit_short_range,
    is_held_out,
    pair_title,
)
from phyff.model.cluster import (
    PARTS,
    Cluster,
    oscillator_energy,
    permanent_energy,
    relaxed_displacements,
    with_short_range,
)
from phyff.model.parameters import ShortRange, SpeciesTensors, species_tensors
from phyff.species.parameters import SpeciesParameters

COLUMNS = (*PARTS, "total")
FITTED_PARTS = ("electrostatics", "exchange", "induction")
"""Components that short_range.json keeps errors of."""


@dataclass(frozen=True)
class Goal:
    """What errors on held-out scans, attractive region, should stay below: the total's rms in kJ/mol or
    relative to the total, and the rms of every component, kJ/mol."""

    text: str
    absolute: float = 0.0
    relative: float = 0.0
    component: float = np.inf


GOALS = {
    "neutral": Goal("1 kJ/mol, components 2", absolute=1.0, component=2.0),
    "ion with neutral": Goal("3 kJ/mol or 3 %", absolute=3.0, relative=0.03),
    "ion pair": Goal("2 %", relative=0.02),
}
"""By kind of pair; like charges attract nowhere and have none."""


@dataclass(frozen=True)
class Errors:
    """Root mean square errors of some dimers, and how errors of the components go together.

    Attributes:
        points: how many dimers; the other fields are NaN when there are none.
        rms: (5,) kJ/mol, in the order of COLUMNS.
        correlation: (4, 4) mean products of component errors over their rms (nothing subtracted: a shared
            bias counts), so that the square of the total's rms is the sum of correlation times both rms.
        independent: rms of the total if the components' errors were uncorrelated, kJ/mol.
        relative: rms error of the total over the rms of the total itself.
    """

    points: int
    rms: np.ndarray
    correlation: np.ndarray
    independent: float
    relative: float

    @classmethod
    def of(cls, model: np.ndarray, quantum: np.ndarray) -> Errors:
        """From energies (n, 5) in the order of COLUMNS."""
        n = len(model)
        if not n:
            return cls(0, np.full(5, np.nan), np.full((4, 4), np.nan), np.nan, np.nan)
        error = model - quantum
        rms = np.sqrt((error**2).mean(0))
        scaled = error[:, :4] / np.maximum(rms[:4], np.finfo(float).tiny)
        size = float(np.sqrt((quantum[:, 4] ** 2).mean()))
        return cls(n, rms, scaled.T @ scaled / n, float(np.linalg.norm(rms[:4])), float(rms[4]) / size)


@dataclass(frozen=True)
class StoredErrors:
    """Errors of a pair as the fit stored them: dimers, attractive ones among them, and by component the rms
    of these, kJ/mol (NaN when there are none)."""

    points: int
    attractive: int
    rms: dict[str, float]

    @classmethod
    def nothing(cls) -> StoredErrors:
        """Of a pair without dimers."""
        return cls(0, 0, dict.fromkeys(FITTED_PARTS, np.nan))

    def __add__(self, other: StoredErrors) -> StoredErrors:
        """Both sets of dimers together."""
        known = [own for own in (self, other) if own.attractive]
        n = sum(own.attractive for own in known)
        squares = {part: sum(own.attractive * own.rms[part] ** 2 for own in known) for part in FITTED_PARTS}
        return StoredErrors(
            points=self.points + other.points,
            attractive=n,
            rms={part: float(np.sqrt(square / n)) if n else np.nan for part, square in squares.items()},
        )


@dataclass(frozen=True)
class PairClass:
    """All decomposed dimers of two species in scans, or in liquids, and what the model gives for them.

    Attributes:
        names: as `pair_of` orders them; a point may name them the other way round.
        in_liquids: whether the points are neighbours in liquids; each is a scan of its own then.
        kind: "neutral", "ion with neutral", "ion pair" or "like charges".
        quantum, library, trial: (n, 5) kJ/mol in the order of COLUMNS: quantum chemistry, the library's
            model, and the trial fit that has not seen the held-out scans.
        held_out: (n,) whether the trial fit has not seen the dimer.
    """

    names: tuple[str, str]
    in_liquids: bool
    kind: str
    points: tuple[DimerPoint, ...]
    quantum: np.ndarray
    library: np.ndarray
    trial: np.ndarray
    held_out: np.ndarray

    @property
    def title(self) -> str:
        """As tables call it."""
        return pair_title(self.names, self.in_liquids)

    def in_sample(self, attractive: bool) -> Errors:
        """The library's errors; attractive: of dimers with a total below zero only."""
        chosen = self._region(attractive)
        return Errors.of(self.library[chosen], self.quantum[chosen])

    def on_held_out(self, attractive: bool) -> Errors:
        """The trial fit's errors on the scans it has not seen."""
        chosen = self._region(attractive) & self.held_out
        return Errors.of(self.trial[chosen], self.quantum[chosen])

    def scans(self) -> dict[str, list[int]]:
        """The approaches by name in order of their numbers: which points, from near to far."""
        found: dict[str, list[int]] = {}
        for k in sorted(range(len(self.points)), key=lambda k: shortest(self.points[k])):
            found.setdefault(self.points[k].scan, []).append(k)
        return dict(sorted(found.items(), key=lambda item: (_scan_number(item[0]), item[0])))

    def goal_met(self) -> bool | None:
        """Whether errors are within GOALS; None where there is nothing to judge."""
        errors = self.on_held_out(attractive=True)
        if not errors.points or self.kind not in GOALS:
            return None
        goal = GOALS[self.kind]
        total = errors.rms[4] <= goal.absolute or errors.relative <= goal.relative
        return bool(total and errors.rms[:4].max() <= goal.component)

    def _region(self, attractive: bool) -> np.ndarray:
        return self.quantum[:, 4] < (0.0 if attractive else np.inf)


def pair_classes(
    species: Sequence[SpeciesParameters],
    model: ShortRange,
    trial: ShortRange,
    points: Sequence[DimerPoint],
    only: tuple[str, str] | None = None,
) -> list[PairClass]:
    """Every pair of species that has dimers, cations before neutral molecules before anions; scans before
    neighbours in liquids.

    trial: the model's `trial_fit`. only: the pair to judge, in any order; without it all.
    """
    known = _with_points(species, points)
    tensors = [{name: species_tensors(s, m) for name, s in known.items()} for m in (model, trial)]
    grouped: dict[tuple[tuple[str, str], bool], list[DimerPoint]] = {}
    for point in points:
        if only is None or sorted(only) == sorted(point.names):
            grouped.setdefault((pair_of(point.names, known), point.in_liquids), []).append(point)
    found = []
    for (names, in_liquids), own in sorted(
        grouped.items(), key=lambda item: ([_order(known[n]) for n in item[0][0]], item[0][1])
    ):
        energies = np.array([model_energies(point.names, point.xyz, tensors) for point in own])
        found.append(
            PairClass(
                names=names,
                in_liquids=in_liquids,
                kind=_kind([known[name].charge for name in names]),
                points=tuple(own),
                quantum=np.array([_with_total([p.components[part] for part in PARTS]) for p in own]),
                library=energies[:, 0],
                trial=energies[:, 1],
                held_out=np.array([is_held_out(p.scan) for p in own]),
            )
        )
    return found


def trial_fit(
    species: Sequence[SpeciesParameters], model: ShortRange, points: Sequence[DimerPoint]
) -> ShortRange:
    """The short range fitted again without the held-out scans, with the model's damping; its provenance names
    the model ("trial_of", the fingerprint). Takes minutes for a whole library.

    Raises FitError when there are no points, or none that is not held out.
    """
    return fit_short_range(
        _with_points(species, points),
        [point for point in points if not is_held_out(point.scan)],
        model.damping,
        model.damping_alpha,
        model.dispersion_widths,
        provenance={"trial_of": model.fingerprint},
        attracting=attracting_cations(model, species),
        trial=False,
        tolerance=COARSE,
    )


def pair_of(names: Sequence[str], species: Mapping[str, SpeciesParameters]) -> tuple[str, str]:
    """The two names in the order that tables use: cations, neutral molecules, anions."""
    first, second = sorted(names, key=lambda name: _order(species[name]))
    return first, second


def model_energies(
    names: Sequence[str], xyz: Sequence[np.ndarray], models: Sequence[Mapping[str, SpeciesTensors]]
) -> np.ndarray:
    """(models, 5) kJ/mol in the order of COLUMNS, of monomers at (n, 3) nm; the models differ in nothing but
    the factors of their classes, so that the oscillators relax once."""
    clusters = [Cluster.of([m[n] for n in names], [torch.tensor(x) for x in xyz]) for m in models]
    permanent = permanent_energy(clusters[0])
    polarization = oscillator_energy(clusters[0], relaxed_displacements(clusters[0]))
    found = [with_short_range(cluster, permanent, polarization) for cluster in clusters]
    return np.array([_with_total([own[part].item() for part in PARTS]) for own in found])


def mean_and_rms(errors: np.ndarray) -> list[str]:
    """Cells of a table, "mean / root mean square" of every column of errors (n, k), n at least one."""
    means, sizes = errors.mean(0), np.sqrt((errors**2).mean(0))
    return [f"{mean:+.2f} / {size:.2f}" for mean, size in zip(means, sizes, strict=True)]


def shortest(point: DimerPoint) -> float:
    """nm between the closest atoms of the two molecules."""
    return float(cdist(*point.xyz).min())


def stored_errors(
    model: ShortRange, subset: str, species: Mapping[str, SpeciesParameters]
) -> dict[tuple[tuple[str, str], bool], StoredErrors]:
    """What short_range.json keeps of "in_sample" or "held_out_scans", by pair of names and whether they are
    neighbours in liquids; the two orders of a pair are one."""
    merged: dict[tuple[tuple[str, str], bool], StoredErrors] = {}
    for label, kept in model.quality.get(subset, {}).items():
        names = pair_of(label.removesuffix(IN_LIQUIDS).split(" + "), species)
        key = names, label.endswith(IN_LIQUIDS)
        rms = {part: kept.get(f"{part}_rms", np.nan) for part in FITTED_PARTS}
        own = StoredErrors(int(kept["points"]), int(kept["bound_points"]), rms)
        merged[key] = merged.get(key, StoredErrors.nothing()) + own
    return merged


def _with_points(
    species: Sequence[SpeciesParameters], points: Sequence[DimerPoint]
) -> dict[str, SpeciesParameters]:
    return {s.name: s for s in species if any(s.name in point.names for point in points)}


def _with_total(parts: Sequence[float]) -> np.ndarray:
    return np.array([*parts, sum(parts)])


def _scan_number(scan: str) -> int:
    return int(scan.rsplit("#", 1)[1])


def _order(species: SpeciesParameters) -> tuple[int, str]:
    return -species.charge, species.name


def _kind(charges: Sequence[int]) -> str:
    if not any(charges):
        return "neutral"
    product = charges[0] * charges[1]
    if product == 0:
        return "ion with neutral"
    return "ion pair" if product < 0 else "like charges"
