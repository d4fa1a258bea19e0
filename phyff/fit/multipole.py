"""What makes the `multipole` engine agree with the `drude` engine around bare cations.

A cation's size in AMOEBA's form of damping is the one with which three-body energies around it are those of
the `drude` engine, whose polarization the charge transfer of the short range is fitted on top of. What is
left of pairs at contact, a sum over pairs of atoms takes up, fitted to both engines where dimers are and on
random contacts: no quantum data enter, and energies of three and more bodies stay those of the dipoles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from phyff.errors import SimulationError
from phyff.fit.short_range import CLASS_LEVEL, FLOOR, RELATIVE, DimerPoint, six_digits
from phyff.model import multipoles
from phyff.model.cluster import Cluster, interaction_energy, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.pairs import COMPONENTS, slater_overlap
from phyff.model.parameters import ShortRange, in_species, species_tensors
from phyff.qm.dimers import Partner, random_contacts
from phyff.species.parameters import SpeciesParameters

SIZE_RANGE = (2e-5, 5e-3)
"""nm^3."""
TRIPLES = 120
"""Clusters of a cation and two neighbours, for its size."""
MOST_TURNS = 20000
"""Tries to turn two neighbours so that they touch."""
CLOSE = 0.26
"""nm; longest contact of a cation with a neighbour in these clusters."""
NEIGHBOURS = (0.26, 0.45)
"""nm; shortest contact of the two neighbours with one another."""
CONTACT_ORIENTATIONS = 24
"""Random orientations of each pair, each at the distances of the quantum scans."""
DIMER_WEIGHT = 10.0
"""Of the places of the dimers beside these: scans go where a pair binds, most random contacts do not."""
PULLS = (10.0, 10.0, 3.0)
"""kJ/mol; pulls to zero of what a class has more in a species than elsewhere, of what it has more than its
element, and of the element's shares."""


def cation_sizes(
    points: Sequence[DimerPoint],
    species: Mapping[str, SpeciesParameters],
    model: ShortRange,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """`multipole_damping_alpha` of every bare cation with close bound dimers with molecules or anions.
    say: told what the fits leave out."""
    sizes = {}
    tensors = {name: species_tensors(s, model) for name, s in species.items()}
    for cation in (s for s in species.values() if s.is_bare_cation):
        clusters = [
            Cluster.of([tensors[name] for name in names], [torch.tensor(x) for x in xyz])
            for names, xyz in _triples(cation, points, species)
        ]
        targets = []
        for cluster in clusters:
            with suppress(SimulationError):  # oscillators fall into the cation: no neighbours of a liquid
                targets.append((cluster, _three_body(cluster, _oscillator_energy)))
        if len(targets) < len(clusters):
            say(
                f"{cation.name}: {len(clusters) - len(targets)} of {len(clusters)} triples left out of its "
                "size in the multipole engine: oscillators fall into the cation"
            )
        if targets:
            sizes[cation.elements[0]] = _size(cation.elements[0], targets, species, model)
    return sizes


def _triples(
    cation: SpeciesParameters, points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters]
) -> list[tuple[tuple[str, str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """The cation with two of the neighbours it has in its close bound dimers, turned about it at random until
    they are neighbours of one another: names and positions (1, 3), (n, 3) and (m, 3), nm."""
    places = []
    for point in points:
        if cation.name in point.names and _is_bound(point):
            own = point.names.index(cation.name)
            neighbour, xyz = point.names[1 - own], point.xyz[1 - own] - point.xyz[own]
            if species[neighbour].charge <= 0 and np.linalg.norm(xyz, axis=1).min() < CLOSE:
                places.append((neighbour, xyz))
    rng = np.random.default_rng(1)
    found: list[tuple[tuple[str, str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]] = []
    low, high = NEIGHBOURS
    for _ in range(MOST_TURNS if places else 0):
        if len(found) == TRIPLES:
            break
        (first, one), (second, other) = (places[k] for k in rng.integers(len(places), size=2))
        turned = other @ Rotation.random(rng=rng).as_matrix().T
        if low < cdist(one, turned).min() < high:
            found.append(((cation.name, first, second), (np.zeros((1, 3)), one, turned)))
    return found


def _size(
    element: str,
    targets: Sequence[tuple[Cluster, float]],
    species: Mapping[str, SpeciesParameters],
    model: ShortRange,
) -> float:
    """The size with which clusters have their three-body polarization energies."""

    def error(logarithm: float) -> float:
        sizes = {**model.multipole_damping_alpha, element: float(np.exp(logarithm))}
        trial = model.model_copy(update={"multipole_damping_alpha": sizes})
        own = {name: species_tensors(s, trial) for name, s in species.items()}
        total = 0.0
        for cluster, target in targets:
            changed = replace(cluster, species=tuple(own[s.name] for s in cluster.species))
            total += (
                (_three_body(changed, _induced_energy) - target) / (FLOOR + RELATIVE * abs(target))
            ) ** 2
        return total

    return float(np.exp(minimize_scalar(error, bounds=np.log(SIZE_RANGE), method="bounded").x))


def _three_body(cluster: Cluster, energy: Callable[[Cluster], float]) -> float:
    """Energy of three molecules less that of their pairs; one molecule alone has none."""
    xyz = [cluster.atoms[cluster.molecule == k] for k in range(3)]
    pairs = (
        Cluster.of([cluster.species[i], cluster.species[j]], [xyz[i], xyz[j]])
        for i, j in combinations(range(3), 2)
    )
    return energy(cluster) - sum(energy(pair) for pair in pairs)


def _oscillator_energy(cluster: Cluster) -> float:
    return float(oscillator_energy(cluster, relaxed_displacements(cluster)))


def _induced_energy(cluster: Cluster) -> float:
    return float(induced_energy(cluster, laboratory_moments(cluster)))


def contact_shares(
    points: Sequence[DimerPoint], species: Sequence[SpeciesParameters], model: ShortRange
) -> dict[str, dict[str, tuple[float, float]]]:
    """`multipole_contacts` of each bare cation among `species` with dimers, by elements, classes and classes
    in a species: from the places of these dimers and from contacts at random with each of the molecules and
    anions, if bound."""
    without = model.model_copy(update={"multipole_contacts": {}})
    tensors = {s.name: species_tensors(s, without) for s in species}
    cations = [s for s in species if s.is_bare_cation and s.elements[0] in model.damping_alpha]
    shares = {}
    for cation in cations:
        rows, differences, weights = [], [], []
        for partner in (s for s in species if not s.is_bare_cation):
            labels = [
                (in_species(partner.name, own), own[CLASS_LEVEL], own[-1]) for own in partner.atom_classes
            ]
            for xyz, weight in _places(cation, partner, points):
                cluster = Cluster.of(
                    [tensors[cation.name], tensors[partner.name]], [torch.tensor(x) for x in xyz]
                )
                try:
                    parts = interaction_energy(cluster)
                except SimulationError:  # far up the wall, where oscillators fall into the cation
                    continue
                if parts["total"] < 0:
                    other = multipoles.interaction_energy(cluster)
                    rows.append((labels, *_overlaps(cluster)))
                    weights.append(weight)
                    differences.append(
                        sum(float(parts[k] - other[k]) for k in ("electrostatics", "induction"))
                    )
        shares[cation.elements[0]] = _shares(rows, np.array(differences), np.array(weights))
    return shares


def _places(
    cation: SpeciesParameters, partner: SpeciesParameters, points: Sequence[DimerPoint]
) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], float]]:
    """Positions (1, 3) and (n, 3), nm, and how much they count."""
    names = (cation.name, partner.name)
    for point in points:
        if point.names in (names, names[::-1]):
            yield (point.xyz if point.names == names else (point.xyz[1], point.xyz[0])), DIMER_WEIGHT
    for first, second in random_contacts(Partner.of(cation), Partner.of(partner), CONTACT_ORIENTATIONS):
        yield (0.1 * first, 0.1 * second), 1.0


def _overlaps(cluster: Cluster) -> tuple[np.ndarray, np.ndarray]:
    """(n,) exchange of the cation, which is first, with every atom of the other species; the same with the
    exponents of charge transfer."""
    cation, other = cluster.species
    r = torch.linalg.vector_norm(cluster.atoms[1:] - cluster.atoms[0], dim=1)
    exchange = COMPONENTS.index("exchange")
    amplitudes = cation.contact_amplitudes[exchange] * other.contact_amplitudes[exchange]
    return (
        (amplitudes * slater_overlap(r, cation.contact_exponents * other.contact_exponents)).numpy(),
        (
            amplitudes
            * slater_overlap(r, cation.contact_transfer_exponents * other.contact_transfer_exponents)
        ).numpy(),
    )


def _shares(
    rows: Sequence[tuple[list[tuple[str, str, str]], np.ndarray, np.ndarray]],
    differences: np.ndarray,
    weights: np.ndarray,
) -> dict[str, tuple[float, float]]:
    """Weighted least squares over elements, what their classes have more than they, and what a class has more
    in a species; both shares of every label."""
    coarser = {}
    for labels, _, _ in rows:
        for fine, middle, element in labels:
            coarser.update({fine: middle, middle: element})
    pulls: dict[str, float] = {}
    for labels, _, _ in rows:
        for of_atom in labels:
            pulls.update(zip(of_atom, PULLS, strict=True))
    names = sorted(pulls)
    column = {name: k for k, name in enumerate(names)}
    matrix = np.zeros((len(rows), 2, len(names)))
    for row, (labels, steep, flat) in zip(matrix, rows, strict=True):
        for kind, overlap in enumerate((steep, flat)):
            for of_atom, value in zip(labels, overlap, strict=True):
                for name in of_atom:
                    row[kind, column[name]] += value
    stacked = np.vstack(
        [weights[:, None] * matrix.reshape(len(rows), -1), np.diag(np.tile([pulls[n] for n in names], 2))]
    )
    targets = np.append(weights * differences, np.zeros(2 * len(names)))
    found = np.linalg.lstsq(stacked, targets, rcond=None)[0].reshape(2, -1).T

    def total(name: str) -> np.ndarray:
        own = found[column[name]]
        return own + total(coarser[name]) if name in coarser else own

    return {name: (six_digits(total(name)[0]), six_digits(total(name)[1])) for name in names}


def _is_bound(point: DimerPoint) -> bool:
    return point.components["total"] < 0.0
