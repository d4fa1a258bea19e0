"""Short-range amplitudes of atom classes, fitted component by component to dimer energy decompositions.

The four energies of a dimer minus what the monomers' own parameters already give (Coulomb, oscillators,
dispersion) are fitted by sums of products of class amplitudes (Van Vleet et al. 2016, doi
10.1021/acs.jctc.6b00209): penetration against electrostatics, exchange, charge transfer against induction;
one width per class is shared by all three. Penetration and charge transfer reach farther than exchange: one
factor on the exponents of all molecules says by how much, and one for each of the two and each bare cation.
Towards a bare cation an atom starts from its part of the molecule's density, which factors and a width of its
class, the contact class, multiply; the cation's own say what such a density costs. No experimental number
enters. kJ/mol and nm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import least_squares

from phyff.errors import FitError
from phyff.model.cluster import (
    PARTS,
    Cluster,
    dispersion_energy,
    oscillator_energy,
    permanent_energy,
    relaxed_displacements,
)
from phyff.model.near_field import near_field_energies
from phyff.model.pairs import COMPONENTS, MAX_ARGUMENT, TAIL_EXPONENT, TAIL_SHARE
from phyff.model.parameters import (
    FALLBACK,
    ShortRange,
    ShortRangeClass,
    SpeciesTensors,
    species_tensors,
)
from phyff.species.parameters import SpeciesParameters

CLASS_LEVEL = 0
"""Which of an atom's labels (0 finest) names its class: element, neighbours and theirs. Coarser labels get
means of these, for molecules that no dimer has."""
SOFT_ENERGY = 25.0
"""kJ/mol; dimers above it count less and less (their repulsion still keeps liquids from collapsing)."""
FLOOR = 1.0
"""kJ/mol; errors are weighed against this plus RELATIVE of the component."""
RELATIVE = 0.03
TOTAL_FLOOR = 0.5
"""kJ/mol; the same for the total, tighter: small errors of components that share a sign add up."""
CATION_EASE = 3.0
"""Factor of both floors for dimers with a bare cation, whose goals are wider (3 kJ/mol against 1)."""
RIDGE = 0.15
"""Pull of log factors to the mean of their component, and of log widths to zero."""
KIN_RIDGE = 50.0
"""Pull of a class's log factors and log width to the means of the coarser classes it belongs to, which are
weighted by their dimers: a class that few dimers hold stays near its kin. Chosen by the scans left out."""
CONTACT_KIN_RIDGE = 3.0
"""The same for contact classes, elements as kin included."""
CONTACT_RIDGES = (5.0, 5.0, 0.5, 5.0)
"""Pulls of contact classes to the density itself, times CONTACT_SHARES: of factors, and of the width."""
CONTACT_SHARES = (1.0, 0.5, 0.3)
"""By component, where that is: below the walls. What a cation makes of it, its own factors say."""
FINE, COARSE = 1e-8, 1e-5
"""Relative changes of the sum of squares that end a fit, and a trial fit: what few dimers hold drifts on for
minutes below the second."""
WIDTH_RIDGE = 5.0
WIDTH_LIMITS = (0.5, 1.3)
ATTRACTION_WIDTH_LIMITS = (0.6, 1.0)
CATION_ATTRACTION_WIDTH_LIMITS = (0.2, 1.5)
TARGETS = {"exchange": "exchange", "penetration": "electrostatics", "charge_transfer": "induction"}
SIGNS = {"exchange": 1.0, "penetration": -1.0, "charge_transfer": -1.0}
WALL_SHARES = {1: 0.75, 2: 0.5}
"""Penetration and charge-transfer factors stay below these shares of their class's exchange factor. The
squares sum to less than one, so any pair of classes, seen together or not, repels once close enough, however
flat the attraction is."""
START_SHARE = 0.1
"""Of a cation's penetration and charge transfer over its exchange, where a fit begins."""
LEAST_SHARE = -20.0
"""Logarithm of the least such factor, over the greatest; nothing, in effect."""
SIGNED = (1, 2)
"""Components whose factor may be negative for bare cations: a small one sits in its neighbour's density,
where the point charges overshoot electrostatics and, unless damped strongly, the oscillators overshoot
induction, so that both corrections repel there. Larger ones overlap with it and are attracted."""


IN_LIQUIDS = " in liquids"
"""What the scan of a dimer is named after its pair when the dimer was cut from a liquid."""
LIQUID_DIMER = "liquid_dimer"
"""Kind of the records of such dimers (benchmarks/liquid_dimers.py makes them)."""


def liquid_scan(record: Path) -> str:
    """What stands after the pair in the scan of a dimer cut from a liquid; its record's key is the number."""
    return f"{IN_LIQUIDS}#{int(record.stem[:6], 16)}"


@dataclass(frozen=True)
class DimerPoint:
    """One decomposed dimer: species names, positions (n, 3) nm, components in kJ/mol, and its scan."""

    names: tuple[str, str]
    xyz: tuple[np.ndarray, np.ndarray]
    components: Mapping[str, float]
    scan: str

    @property
    def in_liquids(self) -> bool:
        """Whether it is a pair of neighbours in a liquid and no step of a scan."""
        return IN_LIQUIDS in self.scan

    @property
    def pair(self) -> str:
        """Under which errors are summed: neighbours in liquids apart from scans."""
        return pair_title(self.names, self.in_liquids)


def pair_title(names: Sequence[str], in_liquids: bool) -> str:
    """Two species, and whether dimers of a liquid or of scans are meant."""
    return " + ".join(names) + (IN_LIQUIDS if in_liquids else "")


@dataclass(frozen=True)
class _Row:
    """What the fit needs of one point: pair distances with class indices, and the residual targets."""

    r: np.ndarray
    first: np.ndarray
    second: np.ndarray
    exponents: np.ndarray
    overlaps: np.ndarray
    signs: np.ndarray
    """(3, pairs), by component: signs, times what the direction of a bare cation makes of a sphere."""
    targets: np.ndarray
    weights: np.ndarray
    total_target: float
    """What exchange, penetration and charge transfer together have to give for the total to be right."""
    total_weight: float


def fit_short_range(
    species: Mapping[str, SpeciesParameters],
    points: Sequence[DimerPoint],
    damping: float,
    damping_alpha: Mapping[str, float],
    dispersion_widths: Mapping[str, float],
    provenance: Mapping[str, Any],
    attracting: Collection[str] = (),
    trial: bool = True,
    held: ShortRange | None = None,
    tolerance: float = FINE,
) -> ShortRange:
    """Class factors that reproduce the points; every third scan is left out of a trial fit, for the error.

    attracting: names of bare cations whose charge transfer attracts, as it does where `damping_alpha` damps
    the oscillators so much that they give too little. trial: False leaves that fit and its report out. held:
    an earlier model whose classes of molecules stay as they are, coarser ones too; bare cations, contacts and
    classes that it lacks are fitted. The trial fit holds nothing: the earlier model saw scans it leaves out.
    tolerance: FINE, or COARSE for what is itself a trial.
    Raises:
        FitError: there are no points.
    """
    if not points:
        raise FitError("The short-range fit has no dimer data; run 'phyff train' first.")
    labels = sorted({s.atom_classes[i][CLASS_LEVEL] for s in species.values() for i in range(s.n_atoms)})
    unit = _blank(labels, damping, damping_alpha, dispersion_widths)
    tensors = {name: species_tensors(s, unit) for name, s in species.items()}
    index = {
        name: np.array([labels.index(s.atom_classes[i][CLASS_LEVEL]) for i in range(s.n_atoms)])
        for name, s in species.items()
    }
    cations = sorted(
        labels.index(s.atom_classes[0][CLASS_LEVEL]) for s in species.values() if s.is_bare_cation
    )
    contacts = _with_contacts(points, species)
    shape = _Shape(len(labels), tuple(cations), tuple(labels.index(label) for label in contacts))
    towards_cations = {name: shape.contact_classes(own) for name, own in index.items()}
    residuals = [residual_targets(point, tensors) for point in points]
    signs = {name: _signs(s, points, residuals, attracting) for name, s in species.items()}
    rows = [
        _row(point, residual, species, tensors, index, towards_cations, signs)
        for point, residual in zip(points, residuals, strict=True)
    ]
    counts = [
        int(sum(np.any((row.first == k) | (row.second == k)) for row in rows)) for k in range(shape.n_classes)
    ]
    own_counts, contact_counts = counts[: len(labels)], counts[len(labels) :]
    only_contacts = np.eye(shape.n_classes)[len(labels) :]
    pulls = np.vstack(
        [
            KIN_RIDGE * _kinship(labels, species, own_counts) @ np.eye(len(labels), shape.n_classes),
            CONTACT_KIN_RIDGE * _kinship(contacts, species, contact_counts, elements=True) @ only_contacts,
        ]
    )
    solution = _solve(rows, shape, pulls, tolerance, shape.held(labels, held) if held else None)
    final, attraction = shape.split(solution)
    quality = {"in_sample": _report(points, rows, solution, shape), "points": len(points)}
    if trial:
        held_out = [is_held_out(point.scan) for point in points]
        others = _solve(
            [row for row, out in zip(rows, held_out, strict=True) if not out], shape, pulls, COARSE
        )
        quality["held_out_scans"] = _report(
            [p for p, out in zip(points, held_out, strict=True) if out],
            [row for row, out in zip(rows, held_out, strict=True) if out],
            others,
            shape,
        )
    sign_of = np.ones((len(COMPONENTS), len(labels)))
    for name, own in signs.items():
        sign_of[:, index[name]] = own[:, None]
    classes = {
        label: ShortRangeClass(
            **{name: six_digits(sign_of[c, k] * np.exp(final[c, k])) for c, name in enumerate(COMPONENTS)},
            width=six_digits(np.exp(final[3, k])),
            attraction_width=six_digits(np.exp(attraction[0, k])),
            transfer_width=six_digits(np.exp(attraction[1, k] - attraction[0, k])),
            points=counts[k],
        )
        for k, label in enumerate(labels)
    }
    molecular = {name: s for name, s in species.items() if not s.is_bare_cation}
    fitted = {label: c for k, (label, c) in enumerate(classes.items()) if k not in cations}
    classes.update(_coarser(fitted, molecular))
    if held is not None:
        bare = {labels[k] for k in cations}
        classes.update({label: c for label, c in held.classes.items() if label not in bare})
    ratios = np.exp(final[:, len(labels) :])
    fitted_contacts = {
        label: ShortRangeClass(
            **{name: six_digits(ratios[c, k]) for c, name in enumerate(COMPONENTS)},
            width=six_digits(ratios[3, k]),
            points=contact_counts[k],
        )
        for k, label in enumerate(contacts)
    }
    if fitted_contacts:
        fitted_contacts.update(_coarser(fitted_contacts, molecular))
    return ShortRange(
        classes=classes,
        cation_contacts=fitted_contacts,
        damping=damping,
        damping_alpha=dict(damping_alpha),
        dispersion_widths=dict(dispersion_widths),
        quality=quality,
        provenance=dict(provenance),
    )


def residual_targets(point: DimerPoint, tensors: Mapping[str, SpeciesTensors]) -> dict[str, float]:
    """What each component leaves to the short range: QM minus Coulomb, oscillators, nothing (exchange)."""
    cluster = _cluster(point, tensors)
    polarization = oscillator_energy(cluster, relaxed_displacements(cluster))
    return {
        "exchange": point.components["exchange"],
        "penetration": point.components["electrostatics"] - float(beside_penetration(cluster)),
        "charge_transfer": point.components["induction"] - float(polarization),
        "dispersion": point.components["dispersion"] - float(dispersion_energy(cluster)),
    }


def beside_penetration(cluster: Cluster) -> torch.Tensor:
    """Electrostatics but for the penetration that the short range has, kJ/mol."""
    near = near_field_energies(cluster.atoms, cluster.species, cluster.offsets)
    return permanent_energy(cluster) + near["potential"]


def _cluster(point: DimerPoint, tensors: Mapping[str, SpeciesTensors]) -> Cluster:
    return Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])


def _total(point: DimerPoint) -> float:
    return sum(point.components[name] for name in PARTS)


def softening(point: DimerPoint) -> float:
    """Weight of a dimer in the fits: one, and less above SOFT_ENERGY."""
    return SOFT_ENERGY / max(SOFT_ENERGY, _total(point))


def _blank(
    labels: Sequence[str],
    damping: float,
    damping_alpha: Mapping[str, float],
    dispersion_widths: Mapping[str, float],
) -> ShortRange:
    one = ShortRangeClass(exchange=1.0, penetration=1.0, charge_transfer=1.0)
    return ShortRange(
        classes={label: one for label in [*labels, FALLBACK]},
        damping=damping,
        damping_alpha=dict(damping_alpha),
        dispersion_widths=dict(dispersion_widths),
    )


def _row(
    point: DimerPoint,
    residual: Mapping[str, float],
    species: Mapping[str, SpeciesParameters],
    tensors: Mapping[str, SpeciesTensors],
    index: Mapping[str, np.ndarray],
    towards_cations: Mapping[str, np.ndarray],
    signs: Mapping[str, np.ndarray],
) -> _Row:
    first, second = (tensors[n] for n in point.names)
    a, b = (
        (towards_cations if species[other].is_bare_cation else index)[name]
        for name, other in (point.names, point.names[::-1])
    )
    r = np.linalg.norm(point.xyz[0][:, None] - point.xyz[1][None], axis=2)
    bare = [species[n].is_bare_cation for n in point.names]
    if any(bare):
        steepness = [one.contact_exponents.numpy() for one in (first, second)]
        sizes = [one.contact_amplitudes[0].numpy() for one in (first, second)]
    else:
        steepness = [one.exponents.numpy() for one in (first, second)]
        sizes = [one.amplitudes[0].numpy() for one in (first, second)]
    targets = np.array([SIGNS[name] * residual[name] for name in COMPONENTS])
    soften = softening(point)
    ease = CATION_EASE if any(bare) else 1.0
    scale = np.array([ease * FLOOR + RELATIVE * abs(point.components[TARGETS[name]]) for name in COMPONENTS])
    return _Row(
        r=r.ravel(),
        first=np.repeat(a, len(b)),
        second=np.tile(b, len(a)),
        exponents=np.outer(*steepness).ravel(),
        overlaps=np.outer(*sizes).ravel(),
        signs=np.prod([signs[n] for n in point.names], axis=0)[:, None] * _directions(point, first, second),
        targets=targets,
        weights=soften / scale,
        total_target=sum(residual.values()),
        total_weight=soften / (ease * TOTAL_FLOOR + RELATIVE * abs(_total(point))),
    )


def _directions(point: DimerPoint, first: SpeciesTensors, second: SpeciesTensors) -> np.ndarray:
    """(3, pairs) by component, what the direction of a bare cation makes of a sphere."""
    factors = np.ones((len(COMPONENTS), len(point.xyz[0]), len(point.xyz[1])))
    own, other = (torch.tensor(xyz) for xyz in point.xyz)
    directed = [COMPONENTS.index("exchange"), COMPONENTS.index("penetration")]
    if second.is_bare_cation and not first.is_bare_cation:
        factors[directed] += first.near_field.at(own, other)[0].T.numpy()
    if first.is_bare_cation and not second.is_bare_cation:
        factors[directed] += second.near_field.at(other, own)[0].numpy()
    return factors.reshape(len(COMPONENTS), -1)


@dataclass(frozen=True)
class _Pairs:
    """All atom pairs of all rows in one list; `row` says whose they are."""

    row: np.ndarray
    r: np.ndarray
    first: np.ndarray
    second: np.ndarray
    exponents: np.ndarray
    overlaps: np.ndarray
    signs: np.ndarray
    n_rows: int

    @classmethod
    def of(cls, rows: Sequence[_Row]) -> _Pairs:
        number = np.repeat(np.arange(len(rows)), [len(row.r) for row in rows])
        columns = {
            name: np.concatenate([getattr(row, name) for row in rows])
            for name in ("r", "first", "second", "exponents", "overlaps")
        }
        columns["signs"] = np.concatenate([row.signs for row in rows], axis=1)
        return cls(row=number, n_rows=len(rows), **columns)

    def predict(self, parameters: np.ndarray, shape: _Shape) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes (rows, 3) of the components for parameters (P,) of a shape, and their derivatives
        (rows, 3, P)."""
        factors, attraction = shape.split(parameters)
        n_classes, groups = shape.n_classes, shape.attraction_groups
        flatter = np.exp(0.5 * (attraction[:, self.first] + attraction[:, self.second]))
        width = 0.5 * (factors[3, self.first] + factors[3, self.second])
        steep = self.exponents * np.exp(width) * self.r
        scale = self.overlaps * np.exp(3.0 * width)
        values = np.empty((self.n_rows, 3))
        derivatives = np.zeros((self.n_rows, 3, len(parameters)))
        by_class = derivatives[:, :, : 4 * n_classes].reshape(self.n_rows, 3, 4, n_classes)
        by_group = derivatives[:, :, 4 * n_classes :]
        n_groups = by_group.shape[2]
        for c in range(3):
            strength = self.signs[c] * scale * np.exp(factors[c, self.first] + factors[c, self.second])
            overlap, slope = _slater(strength, steep * flatter[c - 1] if c in SIGNED else steep)
            if c not in SIGNED:
                tail, tail_slope = _slater(
                    strength * shape.tails(self.first, self.second), TAIL_EXPONENT * steep
                )
                overlap, slope = overlap - tail, slope - tail_slope
            values[:, c] = np.bincount(self.row, overlap, self.n_rows)
            for end in (self.first, self.second):
                slot = self.row * n_classes + end
                for kind, term in ((c, overlap), (3, 0.5 * (3.0 * overlap + slope))):
                    by_class[:, c, kind] += np.bincount(slot, term, self.n_rows * n_classes).reshape(
                        -1, n_classes
                    )
                if c in SIGNED:
                    slot = self.row * n_groups + groups[c - 1, end]
                    by_group[:, c] += np.bincount(slot, 0.5 * slope, self.n_rows * n_groups).reshape(
                        -1, n_groups
                    )
        return values, derivatives


def _slater(strength: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps of Slater densities times strengths, and their derivatives by the logarithm of x."""
    x = np.minimum(x, MAX_ARGUMENT)
    fading = strength * np.exp(-x)
    return fading * (1 + x + x**2 / 3), -fading * x**2 * (1 + x) / 3


@dataclass(frozen=True)
class _Shape:
    """What the parameters of a fit stand for, all of them logarithms: four factors of each class (amplitudes
    in the order of COMPONENTS, width), then how much farther than exchange attraction reaches: of penetration
    and charge transfer alike for all molecules, of both for each bare cation."""

    n_own: int
    """How many classes of atoms there are; the contact classes of some come after them."""
    cations: tuple[int, ...]
    """Classes of bare cations."""
    contacts: tuple[int, ...] = ()
    """Classes that have a contact class, in the order of these."""

    @property
    def n_classes(self) -> int:
        return self.n_own + len(self.contacts)

    def contact_classes(self, own: np.ndarray) -> np.ndarray:
        """What classes (n,) become towards a bare cation."""
        towards = np.arange(self.n_own)
        towards[list(self.contacts)] = self.n_own + np.arange(len(self.contacts))
        return towards[own]

    def tails(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(pairs,) shares of the tail in the exchange of pairs of classes: none with a bare cation."""
        bare = np.isin([first, second], self.cations).any(0)
        return np.where(bare, 0.0, TAIL_SHARE)

    def held(self, labels: Sequence[str], model: ShortRange) -> np.ndarray:
        """(size,) parameters of the classes of molecules that a model has, NaN for the free ones."""
        found = np.full(self.size, np.nan)
        factors = found[: 4 * self.n_classes].reshape(4, self.n_classes)
        for k, label in enumerate(labels):
            if label in model.classes and k not in self.cations:
                own = model.classes[label]
                factors[:, k] = np.log([*(getattr(own, name) for name in COMPONENTS), own.width])
                found[4 * self.n_classes] = np.log(own.attraction_width)
        return found

    @property
    def size(self) -> int:
        return 4 * self.n_classes + 1 + 2 * len(self.cations)

    @property
    def attraction_groups(self) -> np.ndarray:
        """(2, classes) which width a class has of penetration, and of charge transfer."""
        groups = np.zeros((2, self.n_classes), dtype=int)
        groups[:, list(self.cations)] = 1 + np.arange(2 * len(self.cations)).reshape(2, -1)
        return groups

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factors (4, classes) and widths (2, classes) of penetration and charge transfer."""
        n = 4 * self.n_classes
        return parameters[:n].reshape(4, self.n_classes), parameters[n:][self.attraction_groups]

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest unknowns (size,)."""
        least, most = np.full(self.size, -8.0), np.full(self.size, 12.0)
        n = self.n_classes
        least[n : 3 * n], most[n : 3 * n] = LEAST_SHARE, 0.0
        least[3 * n : 4 * n], most[3 * n : 4 * n] = np.log(WIDTH_LIMITS)
        least[4 * n], most[4 * n] = np.log(ATTRACTION_WIDTH_LIMITS)
        least[4 * n + 1 :], most[4 * n + 1 :] = np.log(CATION_ATTRACTION_WIDTH_LIMITS)
        return least, most

    def below_walls(self) -> _BelowWalls:
        """How parameters follow from unknowns that simple bounds keep below the walls."""
        n = self.n_classes
        own = np.arange(n)
        limits = np.zeros(self.size)
        exchange = [np.zeros((0, 2), dtype=int)]
        for c, share in WALL_SHARES.items():
            limits[c * n : (c + 1) * n] = np.log(share)
            exchange.append(np.stack([c * n + own, own], axis=1))
        one, other = np.vstack(exchange).T
        coupling = sparse.csr_array((np.ones(len(one)), (one, other)), shape=(self.size, self.size))
        return _BelowWalls(coupling, limits)


@dataclass(frozen=True)
class _BelowWalls:
    """Unknowns of a fit in the place of its parameters: factors of penetration and charge transfer count from
    the greatest that their class's exchange allows."""

    coupling: sparse.csr_array
    """(P, P) what parameters take from other unknowns."""
    limits: np.ndarray
    """(P,) greatest shares, logarithms."""

    @property
    def matrix(self) -> sparse.csr_array:
        """(P, P) derivatives of parameters by unknowns."""
        return sparse.csr_array(sparse.eye_array(len(self.limits)) + self.coupling)

    def to_parameters(self, unknowns: np.ndarray) -> np.ndarray:
        """Parameters (P,) of unknowns (P,)."""
        return unknowns + self.coupling @ unknowns + self.limits

    def from_parameters(self, parameters: np.ndarray) -> np.ndarray:
        """Unknowns (P,) of parameters (P,): what is coupled to is no coupled one itself."""
        own = parameters - self.limits
        return own - self.coupling @ own


def _with_contacts(points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters]) -> list[str]:
    """Classes of the molecules that have dimers with a bare cation, sorted."""
    pairs = {names for point in points for names in (point.names, point.names[::-1])}
    molecules = {
        one for one, other in pairs if species[other].is_bare_cation and not species[one].is_bare_cation
    }
    return sorted({own[CLASS_LEVEL] for name in molecules for own in species[name].atom_classes})


def _kinship(
    labels: Sequence[str],
    species: Mapping[str, SpeciesParameters],
    counts: Sequence[int],
    elements: bool = False,
) -> np.ndarray:
    """(R, classes) matrix that takes the factors of classes to their distances from the means of the coarser
    classes they belong to, a row each; bare cations have no kin. elements: the coarsest, the element, too."""
    families: set[tuple[int, ...]] = set()
    atoms = [own for s in species.values() if not s.is_bare_cation for own in s.atom_classes]
    for level in range(CLASS_LEVEL + 1, max(map(len, atoms)) - (0 if elements else 1)):
        members: dict[str, set[int]] = {}
        for own in (own for own in atoms if own[CLASS_LEVEL] in labels):
            members.setdefault(own[level], set()).add(labels.index(own[CLASS_LEVEL]))
        families |= {tuple(sorted(family)) for family in members.values() if len(family) > 1}
    rows = [np.zeros((0, len(labels)))]
    for family in map(list, sorted(families)):
        shares = np.maximum(np.array(counts, dtype=float)[family], 1.0)
        apart = np.zeros((len(family), len(labels)))
        apart[:, family] = np.eye(len(family)) - shares / shares.sum()
        rows.append(apart)
    return np.vstack(rows)


def _solve(
    rows: Sequence[_Row],
    shape: _Shape,
    pulls: np.ndarray,
    tolerance: float,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Parameters (P,) of a shape by robust least squares from a uniform start; pulls (R, classes) of factors
    to zero, held (P,) the parameters that stay, NaN for the others."""
    pairs = _Pairs.of(rows)
    targets = np.array([row.targets for row in rows])
    weights = np.array([row.weights for row in rows])
    total_targets = np.array([row.total_target for row in rows])
    total_weights = np.array([row.total_weight for row in rows])
    signs = np.array([SIGNS[name] for name in COMPONENTS])
    n_classes = shape.n_classes
    start = np.zeros(shape.size)
    bare, _ = pairs.predict(start, shape)
    factors, _ = shape.split(start)
    for c in range(3):
        w = weights[:, c] ** 2
        ratio = np.sum(w * bare[:, c] * targets[:, c]) / np.sum(w * bare[:, c] ** 2)
        factors[c] = 0.5 * np.log(max(ratio, 1e-3))
    density = np.zeros((4, n_classes))
    density[:3, shape.n_own :] = np.log(CONTACT_SHARES)[:, None]
    factors[:, shape.n_own :] = density[:, shape.n_own :]
    factors[:, list(shape.cations)] = np.log([1.0, START_SHARE, START_SHARE, 1.0])[:, None]
    free = np.full(shape.size, True)
    if held is not None:
        free = np.isnan(held)
        start[~free] = held[~free]
    molecular = np.ones(n_classes)
    molecular[[*shape.cations, *range(shape.n_own, n_classes)]] = 0.0
    centring = np.kron(
        np.eye(3), np.diag(molecular) - np.outer(molecular, molecular) / max(molecular.sum(), 1.0)
    )
    ridge = np.zeros((4 * n_classes, shape.size))
    ridge[: 3 * n_classes, : 3 * n_classes] = RIDGE * centring
    ridge[3 * n_classes :, 3 * n_classes : 4 * n_classes] = WIDTH_RIDGE * np.eye(n_classes)
    kin = np.zeros((4 * len(pulls), shape.size))
    kin[:, : 4 * n_classes] = np.kron(np.eye(4), pulls)
    near_density = np.zeros((4 * len(shape.contacts), shape.size))
    near_density[:, : 4 * n_classes] = np.kron(np.diag(CONTACT_RIDGES), np.eye(n_classes)[shape.n_own :])
    priors = sparse.csr_array(np.vstack([ridge, kin, near_density]))
    wanted = priors @ np.concatenate([density.ravel(), np.zeros(shape.size - density.size)])

    below_walls = shape.below_walls()
    least, most = shape.limits()
    unknowns = below_walls.from_parameters(start)
    unknowns[free] = np.clip(unknowns, least + 1e-3, most - 1e-3)[free]
    to_parameters = below_walls.matrix[:, np.flatnonzero(free)]

    def completed(chosen: np.ndarray) -> np.ndarray:
        everything = unknowns.copy()
        everything[free] = chosen
        return below_walls.to_parameters(everything)

    def residuals(chosen: np.ndarray) -> np.ndarray:
        parameters = completed(chosen)
        values, _ = pairs.predict(parameters, shape)
        return np.concatenate(
            [
                (weights * (values - targets)).ravel(),
                total_weights * (values @ signs - total_targets),
                priors @ parameters - wanted,
            ]
        )

    def jacobian(chosen: np.ndarray) -> sparse.csr_array:
        _, derivatives = pairs.predict(completed(chosen), shape)
        components = (weights[:, :, None] * derivatives).reshape(targets.size, -1)
        totals = np.einsum("r,c,rcp->rp", total_weights, signs, derivatives)
        data = sparse.csr_array(np.vstack([components, totals]))
        return sparse.csr_array(sparse.vstack([data, priors]) @ to_parameters)

    found = least_squares(
        residuals,
        unknowns[free],
        jacobian,
        bounds=(least[free], most[free]),
        loss="soft_l1",
        ftol=tolerance,
        x_scale="jac",
        tr_solver="lsmr",
    )
    return completed(found.x)


def six_digits(value: float) -> float:
    """The value as the model's file keeps it: rounding of the last bits would make it another model."""
    return float(f"{value:.6g}")


def attracting_cations(model: ShortRange, species: Sequence[SpeciesParameters]) -> list[str]:
    """Names of the bare cations among `species` whose charge transfer attracts in a fitted model."""
    own = {s.name: model.classes.get(s.atom_classes[0][CLASS_LEVEL]) for s in species if s.is_bare_cation}
    return [name for name, found in own.items() if found is not None and found.charge_transfer > 0]


def _signs(
    species: SpeciesParameters,
    points: Sequence[DimerPoint],
    residuals: Sequence[Mapping[str, float]],
    attracting: Collection[str],
) -> np.ndarray:
    """(3,) signs of the factors of a species' atoms, by component. Whether the penetration of a bare cation
    attracts, what Coulomb's law leaves of its dimers' electrostatics says."""
    signs = dict.fromkeys(COMPONENTS, 1.0)
    if species.is_bare_cation:
        left = sum(
            softening(point) * residual["penetration"]
            for point, residual in zip(points, residuals, strict=True)
            if species.name in point.names
        )
        signs["penetration"] = -1.0 if left > 0 else 1.0
        signs["charge_transfer"] = 1.0 if species.name in attracting else -1.0
    return np.array([signs[name] for name in COMPONENTS])


def is_held_out(scan: str) -> bool:
    """Whether the trial fit leaves a scan out: every third of a pair does."""
    return int(scan.rsplit("#", 1)[1]) % 3 == 2


def _report(
    points: Sequence[DimerPoint], rows: Sequence[_Row], parameters: np.ndarray, shape: _Shape
) -> dict[str, dict[str, float]]:
    """Root mean square errors by pair of species, of bound points (total < 0) and all, by component."""
    if not rows:
        return {}
    predicted, _ = _Pairs.of(rows).predict(parameters, shape)
    errors: dict[str, list[tuple[bool, np.ndarray]]] = {}
    for point, row, own in zip(points, rows, predicted, strict=True):
        signed = np.array([SIGNS[name] for name in COMPONENTS]) * (own - row.targets)
        total = _total(point)
        errors.setdefault(point.pair, []).append((total < 0, signed))
    report = {}
    for pair, values in errors.items():
        bound = np.array([e for inside, e in values if inside])
        report[pair] = {"points": float(len(values)), "bound_points": float(len(bound))}
        if len(bound):
            for c, name in enumerate(("exchange", "electrostatics", "induction")):
                report[pair][f"{name}_rms"] = six_digits(np.sqrt(np.mean(bound[:, c] ** 2)))
    return report


def _coarser(
    classes: Mapping[str, ShortRangeClass], species: Mapping[str, SpeciesParameters]
) -> dict[str, ShortRangeClass]:
    """Fallback classes for coarser labels and for everything: geometric means weighted by the data behind.
    Atoms whose own class is not among `classes` play no part."""
    members: dict[str, dict[str, ShortRangeClass]] = {FALLBACK: dict(classes)}
    for s in species.values():
        for labels in (own for own in s.atom_classes if own[CLASS_LEVEL] in classes):
            for label in labels[CLASS_LEVEL + 1 :]:
                if label not in classes:
                    members.setdefault(label, {})[labels[CLASS_LEVEL]] = classes[labels[CLASS_LEVEL]]
    return {label: _mean(list(own.values())) for label, own in members.items()}


def _mean(classes: Sequence[ShortRangeClass]) -> ShortRangeClass:
    weights = np.array([max(c.points, 1) for c in classes], dtype=float)

    def mean(name: str) -> float:
        return six_digits(np.exp(np.average(np.log([getattr(c, name) for c in classes]), weights=weights)))

    return ShortRangeClass(
        exchange=mean("exchange"),
        penetration=mean("penetration"),
        charge_transfer=mean("charge_transfer"),
        width=mean("width"),
        attraction_width=mean("attraction_width"),
        transfer_width=mean("transfer_width"),
        points=int(weights.sum()),
    )
