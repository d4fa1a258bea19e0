"""Permanent electrostatics of one species: MBIS multipoles refined against the electrostatic potential, and
the off-atom charges that carry them in the `drude` engine.

Both are restrained linear least squares over all geometries (Bayly et al. 1993, doi 10.1021/j100142a004, with
a ridge to the MBIS values); equivalent atoms share parameters and charges sum to the net charge exactly.
Atomic units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

import numpy as np
import torch

from phyff.errors import FitError
from phyff.model.cluster import site_positions
from phyff.qm.esp import shell_points
from phyff.qm.monomer import MonomerDensity
from phyff.species.frames import LocalFrame, frame_axes, handedness, local_frames
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeSite, DrudeCharges, Multipoles
from phyff.units import BOHR_NM, DEBYE_E_NM, HARTREE_KJ

RIDGE = 1e-4
"""Weight of the pull to the MBIS values against the relative potential error, per RIDGE_SCALES squared."""
RIDGE_SCALES = (0.1, 0.1, 0.2)
"""e, e bohr, e bohr^2: departures from MBIS that cost one unit."""
MOMENT_WEIGHTS = (1.0, 0.01)
"""Of the molecular dipole (per e bohr) and quadrupole (per e bohr^2) against relative potential error."""
CONTACT_SHELLS, CONTACT_POINTS = (1.0, 1.15, 1.3), 150
"""Surfaces, in van der Waals radii, and points on each, where a molecule feels its closest neighbours."""
CONTACT_WEIGHT = 100.0
"""Per hartree that the multipoles' potential there is off that of the sites, root mean square, against the
relative error of the potential farther out, which hardly determines it; all geometries count alike. The
penetration of the short range, which both engines share, is fitted on top of the sites."""
DEPTH = 50.0
"""kJ/mol/e; a point's weight falls by e where the potential is so much higher (cation_weights)."""
CATION_SHARE = 0.5
"""Of the weight of points at contact, that goes to those where cations sit; the rest is the same for all."""
SITE_CONTACT = 0.2
"""Weight of the error at contact, of off-atom charges against the multipoles, beside that of the potential
farther out. Without it dimethoxyethane had fourteen that cancel, and the force on Li+ between its oxygens was
wrong by 370 kJ/mol/nm instead of 190."""
SITE_RIDGE = 2e-6
SITE_WORTH = 0.025
"""kJ/mol/e by which each off-atom charge must lower the root mean square potential error to be worth its
cost; of ions and of neutral molecules alike, for a neighbour feels the error, not its share of the whole."""


@dataclass(frozen=True)
class ElectrostaticFit:
    """Multipoles, the drude charges that stand for them, and how good both are."""

    multipoles: Multipoles
    drude_charges: DrudeCharges
    quality: dict[str, float]


def fit_electrostatics(
    molecule: Molecule,
    densities: Sequence[MonomerDensity],
    weights: Sequence[float] | np.ndarray,
    also: Sequence[MonomerDensity] = (),
    share: float = 0.0,
) -> ElectrostaticFit:
    """Fit a species with the densities of its geometries, the lowest conformer first, each with its weight.

    also: densities that have this share of the fit, all alike, and none in its quality figures.
    Raises:
        FitError: no set of sites reproduces the potential.
    """
    frames = local_frames(molecule)
    geometries = _Geometries.of(densities, weights, also, share)
    mbis, refined = (
        [_fit_multipoles(molecule, frames, geometries, rank, refine) for rank in (0, 1, 2)]
        for refine in (False, True)
    )
    best = refined[2]
    contact = [_at_contact(molecule, frames, density, best) for density in geometries.densities]
    search = _SiteSearch(molecule, geometries, best.parameters, contact)
    trial = search.run()
    charges, site_error, site_moments = search.charges(trial)
    if site_error > 0.5:
        raise FitError(
            f"The charges of {molecule.smiles} miss its electrostatic potential by {site_error:.0%}."
        )
    final = _fit_multipoles(molecule, frames, geometries, 2, True, search.seen_at(trial, contact))
    quality = {
        **{f"esp_relative_rms_mbis_rank{rank}": fit.potential_error for rank, fit in enumerate(mbis)},
        **{f"esp_relative_rms_rank{rank}": fit.potential_error for rank, fit in enumerate(refined)},
        "esp_relative_rms_multipoles": final.potential_error,
        "esp_relative_rms_drude": site_error,
        "dipole_error_D": final.moment_errors[0],
        "quadrupole_error_e_nm2": final.moment_errors[1],
        "drude_dipole_error_D": site_moments[0],
        "drude_quadrupole_error_e_nm2": site_moments[1],
        "dipole_qm_D": float(np.linalg.norm(densities[0].dipole)) * BOHR_NM / DEBYE_E_NM,
        "sites": len(charges.sites),
    }
    return ElectrostaticFit(final.parameters, charges, quality)


def cation_weights(potential: np.ndarray) -> np.ndarray:
    """(G,) weights of points with a potential (G,), kJ/mol/e, which sum to one, most where cations sit."""
    weights = np.exp((potential.min() - potential) / DEPTH)
    normalised: np.ndarray = weights / weights.sum()
    return normalised


@dataclass(frozen=True)
class _Geometries:
    """What is fitted: densities with their weights, and with those they have in the quality figures."""

    densities: list[MonomerDensity]
    weights: np.ndarray
    judged: np.ndarray

    @classmethod
    def of(
        cls,
        densities: Sequence[MonomerDensity],
        weights: Sequence[float] | np.ndarray,
        also: Sequence[MonomerDensity],
        share: float,
    ) -> _Geometries:
        own = np.asarray(weights, dtype=float)
        if not also:
            return cls(list(densities), own, own)
        alike = np.full(len(also), share * own.sum() / len(also))
        return cls(
            [*densities, *also],
            np.concatenate([(1.0 - share) * own, alike]),
            np.concatenate([own, 0.0 * alike]),
        )


@dataclass(frozen=True)
class _Component:
    """One free multipole component in a local frame: its rank and its tensor for unit strength."""

    rank: int
    tensor: np.ndarray


def _components(frame: LocalFrame) -> list[_Component]:
    """Components that the symmetry of an atom's surroundings allows."""
    charge = _Component(0, np.array(1.0))
    x, y, z = np.eye(3)
    along = _Component(2, np.diag([-0.5, -0.5, 1.0]))
    across = _Component(2, np.diag([1.0, -1.0, 0.0]))
    if frame.isotropic:
        return [charge]
    if frame.kind == "trigonal-planar":
        return [charge, along]
    if frame.axial:
        return [charge, _Component(1, z), along]
    if frame.kind == "bisector":
        return [charge, _Component(1, z), along, across]
    mirror = [charge, _Component(1, z), _Component(1, x), along, across, _Component(2, _symmetric(x, z))]
    if not frame.y:
        return mirror
    return [*mirror, _Component(1, y), _Component(2, _symmetric(x, y)), _Component(2, _symmetric(y, z))]


def _symmetric(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.outer(a, b) + np.outer(b, a)


def _odd(component: _Component) -> bool:
    """Changes sign under reflection of y."""
    flip = np.diag([1.0, -1.0, 1.0])
    if component.rank == 1:
        return bool(component.tensor[1])
    return component.rank == 2 and not np.allclose(flip @ component.tensor @ flip, component.tensor)


@dataclass(frozen=True)
class _Unknowns:
    """Free parameters: for each, its component and the atoms that share it."""

    components: list[_Component]
    atoms: list[list[int]]

    @classmethod
    def of(cls, molecule: Molecule, frames: Sequence[LocalFrame], rank: int) -> _Unknowns:
        components, atoms = [], []
        for label in sorted(set(molecule.symmetry_classes)):
            members = [i for i, s in enumerate(molecule.symmetry_classes) if s == label]
            for component in _components(frames[members[0]]):
                if component.rank <= rank:
                    components.append(component)
                    atoms.append(members)
        return cls(components, atoms)

    def laboratory(self, index: int, atom: int, frames: Sequence[LocalFrame], xyz: np.ndarray) -> np.ndarray:
        """The unit tensor of parameter `index` on `atom`, in laboratory axes."""
        return _to_laboratory(self.components[index], frames[atom], xyz)


def _to_laboratory(component: _Component, frame: LocalFrame, xyz: np.ndarray) -> np.ndarray:
    axes = frame_axes(frame, xyz)
    sign = handedness(frame, xyz) if _odd(component) else 1
    if component.rank == 0:
        return component.tensor
    if component.rank == 1:
        return sign * component.tensor @ axes
    return sign * axes.T @ component.tensor @ axes


@dataclass(frozen=True)
class _FittedMultipoles:
    """Local-frame tensors, the free parameters behind them, and what they miss."""

    parameters: Multipoles
    unknowns: _Unknowns
    values: np.ndarray
    potential_error: float
    moment_errors: tuple[float, float]


def _fit_multipoles(
    molecule: Molecule,
    frames: Sequence[LocalFrame],
    geometries: _Geometries,
    rank: int,
    refine: bool,
    contact: Sequence[MonomerDensity] = (),
) -> _FittedMultipoles:
    """contact: for each density what its potential should also be on other points, with CONTACT_WEIGHT."""
    densities, weights = geometries.densities, geometries.weights
    unknowns = _Unknowns.of(molecule, frames, rank)
    prior = np.sum(
        [
            w * np.array([_mbis_value(unknowns, k, frames, d) for k in range(len(unknowns.atoms))])
            for w, d in zip(weights, densities, strict=True)
        ],
        axis=0,
    )
    designs = [_design(unknowns, frames, d) for d in densities]
    counts = np.array(
        [len(a) if c.rank == 0 else 0.0 for c, a in zip(unknowns.components, unknowns.atoms, strict=True)]
    )
    scales = np.array([RIDGE_SCALES[c.rank] for c in unknowns.components])
    ridge = (
        np.sqrt(RIDGE * np.array([len(a) for a in unknowns.atoms])) / scales
        if refine
        else np.full(len(scales), 1e6)
    )
    near = [_design(unknowns, frames, d).potential for d in contact]
    values = _restrained(
        designs, densities, weights, prior, ridge, counts, float(molecule.charge), near, contact
    )
    error, moments = _errors(designs, densities, geometries.judged, values)
    return _FittedMultipoles(_as_multipoles(molecule, unknowns, values), unknowns, values, error, moments)


def _mbis_value(
    unknowns: _Unknowns, index: int, frames: Sequence[LocalFrame], density: MonomerDensity
) -> float:
    component, values = unknowns.components[index], []
    for atom in unknowns.atoms[index]:
        unit = unknowns.laboratory(index, atom, frames, density.xyz)
        moment = (density.charges[atom], density.dipoles[atom], density.quadrupoles[atom])[component.rank]
        values.append(float(np.sum(unit * moment) / np.sum(unit * unit)))
    return float(np.mean(values))


@dataclass(frozen=True)
class _Design:
    """Linear maps from parameters to potential (G, p), dipole (3, p), quadrupole (9, p) of a geometry."""

    potential: np.ndarray
    dipole: np.ndarray
    quadrupole: np.ndarray

    def columns(self, chosen: Sequence[int]) -> _Design:
        """The maps of some of the parameters."""
        return _Design(*(part[:, chosen] for part in (self.potential, self.dipole, self.quadrupole)))


def _design(unknowns: _Unknowns, frames: Sequence[LocalFrame], density: MonomerDensity) -> _Design:
    potential, dipole, quadrupole = [], [], []
    for index, (component, members) in enumerate(zip(unknowns.components, unknowns.atoms, strict=True)):
        column, mu, theta = np.zeros(len(density.esp_points)), np.zeros(3), np.zeros((3, 3))
        for atom in members:
            unit, position = unknowns.laboratory(index, atom, frames, density.xyz), density.xyz[atom]
            away = density.esp_points - position
            r = np.linalg.norm(away, axis=1)
            if component.rank == 0:
                column += 1.0 / r
                mu += position
                theta += traceless(np.outer(position, position))
            elif component.rank == 1:
                column += away @ unit / r**3
                mu += unit
                theta += traceless(_symmetric(unit, position))
            else:
                column += np.einsum("ga,ab,gb->g", away, unit, away) / r**5
                theta += unit
        potential.append(column)
        dipole.append(mu)
        quadrupole.append(theta.ravel())
    return _Design(np.array(potential).T, np.array(dipole).T, np.array(quadrupole).T)


def traceless(second_moment: np.ndarray) -> np.ndarray:
    """Buckingham quadrupole of a second moment sum q r r."""
    return 1.5 * second_moment - 0.5 * np.trace(second_moment) * np.eye(3)


def _restrained(
    designs: Sequence[_Design],
    densities: Sequence[MonomerDensity],
    weights: Sequence[float] | np.ndarray,
    prior: np.ndarray,
    ridge: np.ndarray,
    charge_counts: np.ndarray,
    charge: float,
    near: Sequence[np.ndarray],
    contact: Sequence[MonomerDensity],
) -> np.ndarray:
    """Parameters of least squared potential and moment error plus ridge; sum(counts * p) = charge."""
    rows, targets = [np.diag(ridge)], [ridge * prior]
    for close, density in zip(near, contact, strict=True):
        scale = CONTACT_WEIGHT * np.sqrt(_felt_at_contact(density) / len(near))
        rows.append(scale[:, None] * close)
        targets.append(scale * density.esp_values)
    for design, density, weight in zip(designs, densities, weights, strict=True):
        scale = np.sqrt(weight) / np.linalg.norm(density.esp_values)
        moment = np.sqrt(weight) * np.array(MOMENT_WEIGHTS) / np.linalg.norm(density.esp_values)
        rows += [scale * design.potential, moment[0] * design.dipole, moment[1] * design.quadrupole]
        targets += [
            scale * density.esp_values,
            moment[0] * density.dipole,
            moment[1] * density.quadrupole.ravel(),
        ]
    a, b = np.vstack(rows), np.concatenate(targets)
    n = len(prior)
    kkt = np.zeros((n + 1, n + 1))
    kkt[:n, :n], kkt[:n, n], kkt[n, :n] = a.T @ a, charge_counts, charge_counts
    return np.linalg.solve(kkt, np.append(a.T @ b, charge))[:n]


def _errors(
    designs: Sequence[_Design],
    densities: Sequence[MonomerDensity],
    weights: Sequence[float] | np.ndarray,
    values: np.ndarray,
) -> tuple[float, tuple[float, float]]:
    """Relative rms of the potential; largest dipole (D) and quadrupole (e nm^2) error of a geometry. None
    counts without a weight."""
    square, dipole, quadrupole = 0.0, 0.0, 0.0
    for design, density, weight in zip(designs, densities, weights, strict=True):
        if not weight:
            continue
        miss = design.potential @ values - density.esp_values
        square += weight * float(miss @ miss) / float(density.esp_values @ density.esp_values)
        dipole = max(
            dipole, float(np.linalg.norm(design.dipole @ values - density.dipole)) * BOHR_NM / DEBYE_E_NM
        )
        wrong = design.quadrupole @ values - density.quadrupole.ravel()
        quadrupole = max(quadrupole, float(np.linalg.norm(wrong)) * BOHR_NM**2)
    return float(np.sqrt(square / sum(weights))), (dipole, quadrupole)


def _as_multipoles(molecule: Molecule, unknowns: _Unknowns, values: np.ndarray) -> Multipoles:
    """Local-frame tensors of every atom; odd components are those of an atom of positive handedness."""
    stores = tuple(np.zeros((molecule.n_atoms, *shape)) for shape in ((), (3,), (3, 3)))
    for component, members, value in zip(unknowns.components, unknowns.atoms, values, strict=True):
        for atom in members:
            stores[component.rank][atom] += value * component.tensor
    return Multipoles(
        charges=tuple(_summing_to(stores[0], molecule.charge)),
        dipoles=tuple(tuple(row) for row in (stores[1] * BOHR_NM).tolist()),
        quadrupoles=tuple((tuple(x), tuple(y), tuple(z)) for x, y, z in (stores[2] * BOHR_NM**2).tolist()),
    )


def _summing_to(charges: np.ndarray, total: float) -> list[float]:
    """The charges, shifted evenly by what rounding left over."""
    return (charges + (total - charges.sum()) / len(charges)).tolist()


def _at_contact(
    molecule: Molecule, frames: Sequence[LocalFrame], density: MonomerDensity, fit: _FittedMultipoles
) -> MonomerDensity:
    """The density with the potential that multipoles make on CONTACT_SHELLS."""
    points, _ = shell_points(molecule.elements, density.xyz, CONTACT_SHELLS, CONTACT_POINTS)
    close = replace(density, esp_points=points, esp_values=np.zeros(len(points)))
    return replace(close, esp_values=_design(fit.unknowns, frames, close).potential @ fit.values)


def _felt_at_contact(density: MonomerDensity) -> np.ndarray:
    """(G,) weights of points at contact, which sum to one."""
    alike = np.full(len(density.esp_points), 1.0 / len(density.esp_points))
    weights: np.ndarray = (1.0 - CATION_SHARE) * alike + CATION_SHARE * cation_weights(
        HARTREE_KJ * density.esp_values
    )
    return weights


@dataclass(frozen=True)
class _SiteGroup:
    """Equivalent places of charge: the atoms of a class, or off-atom sites."""

    name: str
    sites: tuple[ChargeSite, ...]
    atoms: tuple[int, ...] = ()

    def positions(self, xyz: np.ndarray) -> np.ndarray:
        """(n, 3) bohr in a geometry (N, 3) bohr."""
        if self.atoms:
            return np.asarray(xyz[list(self.atoms)])
        return np.asarray(site_positions(self.sites, torch.tensor(xyz * BOHR_NM)).numpy() / BOHR_NM)

    def __len__(self) -> int:
        return len(self.atoms or self.sites)


@dataclass(frozen=True)
class _Squares:
    """A weighted sum of squares |A p - b|^2 as its normal equations."""

    matrix: np.ndarray
    vector: np.ndarray
    constant: float

    @classmethod
    def of(
        cls, rows: Sequence[np.ndarray], targets: Sequence[np.ndarray], weights: Sequence[float]
    ) -> _Squares:
        """Of a block of rows and its target for each geometry."""
        blocks = list(zip(rows, targets, weights, strict=True))
        return cls(
            np.sum([w * a.T @ a for a, _, w in blocks], axis=0),
            np.sum([w * a.T @ b for a, b, w in blocks], axis=0),
            float(sum(w * (b @ b) for _, b, w in blocks)),
        )

    def left(self, columns: Sequence[int], values: np.ndarray) -> float:
        """The sum for the values of some parameters."""
        matrix, vector = self.matrix[np.ix_(columns, columns)], self.vector[columns]
        return max(float(values @ matrix @ values - 2.0 * values @ vector) + self.constant, 0.0)


@dataclass(frozen=True)
class _Trial:
    """Site groups, the charges of the atom classes and of them, and the error these leave of the potential,
    at contact too, relative to the one farther out."""

    groups: list[int]
    values: np.ndarray
    error: float


class _SiteSearch:
    """Which off-atom sites, and what charges, carry the electrostatic potential of a species."""

    def __init__(
        self,
        molecule: Molecule,
        geometries: _Geometries,
        multipoles: Multipoles,
        contact: Sequence[MonomerDensity],
    ) -> None:
        """contact: for each density the potential that is wanted on close points."""
        self.molecule, self.geometries = molecule, geometries
        densities, weights = geometries.densities, geometries.weights
        labels = sorted(set(molecule.symmetry_classes))
        members = [
            tuple(i for i, s in enumerate(molecule.symmetry_classes) if s == label) for label in labels
        ]
        self.atoms = [_SiteGroup(f"class {k}", (), own) for k, own in zip(labels, members, strict=True)]
        self.groups = [*self.atoms, *_candidates(molecule, densities[0].xyz * BOHR_NM)]
        self.designs = [_charge_design(self.groups, d) for d in densities]
        self.counts = np.array([len(group) for group in self.groups], dtype=float)
        prior = np.zeros(len(self.groups))
        prior[: len(members)] = [multipoles.charges[own[0]] for own in members]
        ridge = SITE_RIDGE * self.counts / RIDGE_SCALES[0] ** 2
        square = [w / float(d.esp_values @ d.esp_values) for d, w in zip(densities, weights, strict=True)]
        self.potential = _Squares.of(
            [d.potential for d in self.designs], [d.esp_values for d in densities], square
        )
        dipole = _Squares.of([d.dipole for d in self.designs], [d.dipole for d in densities], square)
        quadrupole = _Squares.of(
            [d.quadrupole for d in self.designs], [d.quadrupole.ravel() for d in densities], square
        )
        total = sum(w * float(np.mean(d.esp_values**2)) for d, w in zip(densities, weights, strict=True))
        mean_square = total / sum(weights)
        self.worth = SITE_WORTH / HARTREE_KJ / np.sqrt(mean_square)
        felt = [np.sqrt(_felt_at_contact(d))[:, None] for d in contact]
        self.contact = _Squares.of(
            [f * _charge_design(self.groups, d).potential for f, d in zip(felt, contact, strict=True)],
            [f[:, 0] * d.esp_values for f, d in zip(felt, contact, strict=True)],
            [SITE_CONTACT**2 / mean_square / len(contact)] * len(contact),
        )
        parts = [
            (1.0, self.potential),
            *zip(np.square(MOMENT_WEIGHTS), (dipole, quadrupole), strict=True),
            (1.0, self.contact),
        ]
        self.matrix = np.diag(ridge) + np.sum([w * part.matrix for w, part in parts], axis=0)
        self.vector = ridge * prior + np.sum([w * part.vector for w, part in parts], axis=0)

    def run(self) -> _Trial:
        """Greedy choice of site groups: the one that lowers the error most a site, while that is worth it."""
        best = self.fit([])
        while True:
            taken = {self.groups[k].name for k in best.groups}
            trials = [
                self.fit([*best.groups, k])
                for k in range(len(self.atoms), len(self.groups))
                if self.groups[k].name not in taken
            ]
            better = [((best.error - t.error) / self.counts[t.groups[-1]], t) for t in trials]
            gain, trial = max(better, key=itemgetter(0), default=(0.0, best))
            if gain < self.worth:
                break
            best = self._settled(trial)
        for k in sorted(best.groups, key=lambda k: -self.counts[k]):  # a later group may have made it idle
            without = self._settled(self.fit([other for other in best.groups if other != k]))
            if (without.error - best.error) / self.counts[k] < self.worth:
                best = without
        return best

    def fit(self, sites: Sequence[int]) -> _Trial:
        """Best charges of the atoms and the given site groups."""
        columns = [*range(len(self.atoms)), *sites]
        n = len(columns)
        kkt = np.zeros((n + 1, n + 1))
        kkt[:n, :n] = self.matrix[np.ix_(columns, columns)]
        kkt[:n, n] = kkt[n, :n] = self.counts[columns]
        values = np.linalg.solve(kkt, np.append(self.vector[columns], float(self.molecule.charge)))[:n]
        missed = self.potential.left(columns, values) + self.contact.left(columns, values)
        error = float(np.sqrt(missed / self.potential.constant))
        return _Trial(list(sites), values, error)

    def seen_at(self, trial: _Trial, densities: Sequence[MonomerDensity]) -> list[MonomerDensity]:
        """The densities with the potential that a trial's charges make at their points."""
        columns = [*range(len(self.atoms)), *trial.groups]
        made = [_charge_design(self.groups, d).potential[:, columns] @ trial.values for d in densities]
        return [replace(d, esp_values=values) for d, values in zip(densities, made, strict=True)]

    def _settled(self, trial: _Trial) -> _Trial:
        """Each group in turn moved to where it serves best."""
        for slot in range(len(trial.groups)):
            name = self.groups[trial.groups[slot]].name
            moves = [
                self.fit([*trial.groups[:slot], k, *trial.groups[slot + 1 :]])
                for k in range(len(self.atoms), len(self.groups))
                if self.groups[k].name == name
            ]
            trial = min(moves, key=lambda t: t.error)
        return trial

    def charges(self, trial: _Trial) -> tuple[DrudeCharges, float, tuple[float, float]]:
        """The charges of a trial as parameters, the error of their potential and of their moments."""
        columns = [*range(len(self.atoms)), *trial.groups]
        designs = [design.columns(columns) for design in self.designs]
        error, moments = _errors(designs, self.geometries.densities, self.geometries.judged, trial.values)
        atoms = np.zeros(self.molecule.n_atoms)
        for value, own in zip(trial.values, self.atoms, strict=False):
            atoms[list(own.atoms)] = value
        sites = tuple(
            site.model_copy(update={"charge": round(float(value), 9)})
            for value, k in zip(trial.values[len(self.atoms) :], trial.groups, strict=True)
            for site in self.groups[k].sites
        )
        charged = _summing_to(atoms, self.molecule.charge - sum(s.charge for s in sites))
        return DrudeCharges(atoms=tuple(charged), sites=sites), error, moments


def _charge_design(groups: Sequence[_SiteGroup], density: MonomerDensity) -> _Design:
    places = [group.positions(density.xyz) for group in groups]
    potential = [(1.0 / np.linalg.norm(density.esp_points[:, None] - p[None], axis=2)).sum(1) for p in places]
    dipole = [p.sum(0) for p in places]
    quadrupole = [traceless(p.T @ p).ravel() for p in places]
    return _Design(np.array(potential).T, np.array(dipole).T, np.array(quadrupole).T)


STRAIGHT_COSINE = float(np.cos(np.deg2rad(150.0)))
"""Two bonds at a wider angle count as a straight line."""
LONE_PAIR_ELEMENTS = ("O", "F", "N", "S", "Cl")
SiteMaker = Callable[[Molecule, int, np.ndarray, float], list[ChargeSite]]


def _candidates(molecule: Molecule, xyz: np.ndarray) -> list[_SiteGroup]:
    """Places where off-atom charge may help: along bonds, lone pairs, axes of groups, above planar centres,
    each at several distances from its atom."""
    groups = []
    for label in sorted(set(molecule.symmetry_classes)):
        members = [i for i, s in enumerate(molecule.symmetry_classes) if s == label]
        for name, (maker, distances) in _SITE_MAKERS.items():
            for distance in distances:
                sites = [site for atom in members for site in maker(molecule, atom, xyz, distance)]
                if sites:
                    groups.append(_SiteGroup(f"{name} on class {label}", tuple(sites)))
    return groups


def _axial(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """On the bond of a terminal atom, beyond it (distance > 0) or inside."""
    bonded = molecule.neighbours(atom)
    if len(bonded) != 1 or molecule.elements[atom] not in LONE_PAIR_ELEMENTS:
        return []
    a = distance / float(np.linalg.norm(xyz[atom] - xyz[bonded[0]]))
    return [_average((atom, bonded[0]), (1 + a, -a))]


def _side_pairs(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """Lone pairs of a terminal atom, leaning away from each further neighbour of the atom it is bonded to."""
    bonded = molecule.neighbours(atom)
    if len(bonded) != 1 or molecule.elements[atom] not in LONE_PAIR_ELEMENTS:
        return []
    centre = bonded[0]
    others = [k for k in molecule.neighbours(centre) if k != atom]
    if not 2 <= len(others) <= 3:
        return []
    sites = []
    for k in others:
        b = distance / float(np.linalg.norm(xyz[centre] - xyz[k]))
        sites.append(_average((atom, centre, k), (1.0, b, -b)))
    return sites


def _bisector(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """Behind (distance > 0) or in front of an atom with two neighbours at an angle: on a straight line the
    site would swing far out with the least bending."""
    bonded = molecule.neighbours(atom)
    if len(bonded) != 2:
        return []
    first, second = (xyz[k] - xyz[atom] for k in bonded)
    if first @ second < STRAIGHT_COSINE * np.linalg.norm(first) * np.linalg.norm(second):
        return []
    a = distance / float(np.linalg.norm(first + second))
    return [_average((atom, *bonded), (1 + 2 * a, -a, -a))]


def _out_of_plane_pairs(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """Two lone pairs of a divalent atom, above and below its plane and behind it."""
    bonded = molecule.neighbours(atom)
    if len(bonded) != 2 or molecule.elements[atom] not in LONE_PAIR_ELEMENTS:
        return []
    first, second = xyz[bonded[0]] - xyz[atom], xyz[bonded[1]] - xyz[atom]
    area, behind = float(np.linalg.norm(np.cross(first, second))), float(np.linalg.norm(first + second))
    if min(area, behind) < 1e-3:
        return []
    a = 0.6 * distance / behind
    return [_out_of_plane((atom, *bonded), (-a, -a, sign * distance / area)) for sign in (1.0, -1.0)]


def _pi_pairs(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """Above and below a planar centre."""
    bonded = molecule.neighbours(atom)
    if len(bonded) != 3:
        return []
    first, second, third = (xyz[k] - xyz[atom] for k in bonded)
    normal = np.cross(first, second)
    if abs(third @ normal) > 0.1 * np.linalg.norm(third) * np.linalg.norm(normal):
        return []
    height = distance / float(np.linalg.norm(normal))
    return [_out_of_plane((atom, *bonded[:2]), (0.0, 0.0, sign * height)) for sign in (1.0, -1.0)]


def _along_bond(
    molecule: Molecule, atom: int, xyz: np.ndarray, distance: float, rank: int
) -> list[ChargeSite]:
    """On the bonds of an inner atom to its heavy neighbours of the `rank`-th class, beyond it
    (distance > 0) or inside."""
    bonded, classes = molecule.neighbours(atom), molecule.symmetry_classes
    heavy = sorted({classes[k] for k in bonded if molecule.elements[k] != "H"})
    if len(bonded) < 2 or rank >= len(heavy):
        return []
    sites = []
    for k in bonded:
        if classes[k] == heavy[rank]:
            a = distance / float(np.linalg.norm(xyz[atom] - xyz[k]))
            sites.append(_average((atom, k), (1 + a, -a)))
    return sites


def _twofold_axis(molecule: Molecule, atom: int, xyz: np.ndarray, distance: float) -> list[ChargeSite]:
    """Between the two equal neighbours of a CH2- or SO2-like atom (distance < 0) or behind it."""
    bonded = molecule.neighbours(atom)
    classes = [molecule.symmetry_classes[k] for k in bonded]
    pair = [k for k, label in zip(bonded, classes, strict=True) if classes.count(label) == 2]
    if len(bonded) != 4 or len(pair) != 2:
        return []
    a = distance / float(np.linalg.norm(2 * xyz[atom] - xyz[pair[0]] - xyz[pair[1]]))
    return [_average((atom, *pair), (1 + 2 * a, -a, -a))]


def _average(atoms: tuple[int, ...], weights: tuple[float, ...]) -> ChargeSite:
    rounded = [round(w, 9) for w in weights[1:]]
    return ChargeSite(kind="average", atoms=atoms, weights=(1.0 - sum(rounded), *rounded), charge=0.0)


def _out_of_plane(atoms: tuple[int, ...], weights: tuple[float, ...]) -> ChargeSite:
    return ChargeSite(
        kind="out-of-plane", atoms=atoms, weights=tuple(round(w, 9) for w in weights), charge=0.0
    )


_SITE_MAKERS: dict[str, tuple[SiteMaker, tuple[float, ...]]] = {
    "axial": (_axial, (-0.06, -0.04, -0.025, 0.02, 0.03, 0.045, 0.06)),
    "side pairs": (_side_pairs, (0.02, 0.03, 0.04, 0.05)),
    "bisector": (_bisector, (-0.04, -0.02, 0.02, 0.035, 0.05, 0.06)),
    "out-of-plane pairs": (_out_of_plane_pairs, (0.02, 0.03, 0.04, 0.05, 0.06)),
    **{
        f"bond {k}": (partial(_along_bond, rank=k), (-0.06, -0.04, -0.02, 0.02, 0.04, 0.06)) for k in range(3)
    },
    "twofold axis": (_twofold_axis, (-0.06, -0.04, -0.02, 0.02, 0.04, 0.06)),
    "pi pairs": (_pi_pairs, (0.02, 0.03, 0.05, 0.07)),
}
"""Kinds of sites and their distances from the atom, nm."""
