"""What makes the `multipole` engine agree with the `drude` engine around bare cations.

The charge transfer of the short range is fitted on top of the `drude` engine's polarization, so a cation's
size in AMOEBA's form of damping is the one with which the same dimers get that polarization. What is left at
contact, a sum over pairs of atoms takes up, fitted to both engines on random contacts: no quantum data enter,
and energies of three and more bodies stay those of the dipoles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from phyff.errors import SimulationError
from phyff.fit.short_range import CLASS_LEVEL, FLOOR, RELATIVE, DimerPoint, six_digits
from phyff.model import multipoles
from phyff.model.cluster import Cluster, interaction_energy, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.pairs import COMPONENTS, slater_overlap
from phyff.model.parameters import ShortRange, species_tensors
from phyff.qm.dimers import Partner, random_contacts
from phyff.species.parameters import SpeciesParameters

SIZE_RANGE = (2e-5, 5e-3)
"""nm^3."""
CONTACT_ORIENTATIONS = 24
"""Random orientations of each pair, each at the distances of the quantum scans."""
DIMER_WEIGHT = 3.0
"""Of the places of the dimers beside these: scans go where a pair binds, most random contacts do not."""
ELEMENT_PULL, CLASS_PULL = 3.0, 10.0
"""kJ/mol; pulls of the shares of elements, and of what classes have more than their elements, to zero."""


def cation_sizes(
    points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters], model: ShortRange
) -> dict[str, float]:
    """`multipole_damping_alpha` of every bare cation that bound dimers with molecules or anions hold."""
    sizes = {}
    cations = [s for s in species.values() if s.is_bare_cation]
    for cation in cations:
        own = [
            p
            for p in points
            if cation.name in p.names and min(species[n].charge for n in p.names) <= 0 and _is_bound(p)
        ]
        if own:
            sizes[cation.elements[0]] = _size(cation.elements[0], own, species, model)
    return sizes


def _size(
    element: str, points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters], model: ShortRange
) -> float:
    tensors = {name: species_tensors(s, model) for name, s in species.items()}
    clusters = [Cluster.of([tensors[n] for n in p.names], [torch.tensor(x) for x in p.xyz]) for p in points]
    targets = [float(oscillator_energy(cluster, relaxed_displacements(cluster))) for cluster in clusters]

    def error(logarithm: float) -> float:
        sizes = {**model.multipole_damping_alpha, element: float(np.exp(logarithm))}
        trial = model.model_copy(update={"multipole_damping_alpha": sizes})
        own = {name: species_tensors(s, trial) for name, s in species.items()}
        total = 0.0
        for cluster, target in zip(clusters, targets, strict=True):
            changed = replace(cluster, species=tuple(own[s.name] for s in cluster.species))
            energy = float(induced_energy(changed, laboratory_moments(changed)))
            total += ((energy - target) / (FLOOR + RELATIVE * abs(target))) ** 2
        return total

    return float(np.exp(minimize_scalar(error, bounds=np.log(SIZE_RANGE), method="bounded").x))


def contact_shares(
    points: Sequence[DimerPoint], species: Sequence[SpeciesParameters], model: ShortRange
) -> dict[str, dict[str, tuple[float, float]]]:
    """`multipole_contacts` of each bare cation among `species` with dimers, by elements and classes: from the
    places of these dimers and from contacts at random with each of the molecules and anions, if bound."""
    without = model.model_copy(update={"multipole_contacts": {}})
    tensors = {s.name: species_tensors(s, without) for s in species}
    cations = [s for s in species if s.is_bare_cation and s.elements[0] in model.damping_alpha]
    shares = {}
    for cation in cations:
        rows, differences, weights = [], [], []
        for partner in (s for s in species if not s.is_bare_cation):
            labels = [(own[CLASS_LEVEL], own[-1]) for own in partner.atom_classes]
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
    amplitudes = cation.amplitudes[exchange] * other.contact_amplitudes[exchange]
    return (
        (amplitudes * slater_overlap(r, cation.exponents * other.contact_exponents)).numpy(),
        (
            amplitudes
            * slater_overlap(r, cation.contact_transfer_exponents * other.contact_transfer_exponents)
        ).numpy(),
    )


def _shares(
    rows: Sequence[tuple[list[tuple[str, str]], np.ndarray, np.ndarray]],
    differences: np.ndarray,
    weights: np.ndarray,
) -> dict[str, tuple[float, float]]:
    """Weighted least squares over elements and what their classes have more than they; both shares of every
    label."""
    names = sorted({name for labels, _, _ in rows for both in labels for name in both})
    matrix = np.zeros((len(rows), 2, len(names)))
    for row, (labels, steep, flat) in zip(matrix, rows, strict=True):
        for kind, overlap in enumerate((steep, flat)):
            for (fine, element), value in zip(labels, overlap, strict=True):
                row[kind, names.index(fine)] += value
                row[kind, names.index(element)] += value
    elements = {element for labels, _, _ in rows for _, element in labels}
    pull = np.array([ELEMENT_PULL if name in elements else CLASS_PULL for name in names])
    flat_matrix = weights[:, None] * matrix.reshape(len(rows), -1)
    stacked = np.vstack([flat_matrix, np.diag(np.tile(pull, 2))])
    found = np.linalg.lstsq(stacked, np.append(weights * differences, np.zeros(2 * len(names))), rcond=None)[
        0
    ]
    share = dict(zip(names, found.reshape(2, -1).T, strict=True))
    owner = {fine: element for labels, _, _ in rows for fine, element in labels}
    return {
        name: (six_digits(both[0]), six_digits(both[1]))
        for name, own in share.items()
        for both in (own if name in elements else own + share[owner[name]],)
    }


def _is_bound(point: DimerPoint) -> bool:
    return point.components["total"] < 0.0
