"""Ion association: free ions, contact pairs and aggregates, and how long neighbours stay with a cation."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from phyff.properties.contacts import Contacts, find_contacts, residence_time
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.structure import (
    BLOCKS,
    MIN_SNAPSHOTS,
    centre_atoms,
    exchange_verdict,
    radial_distribution,
)
from phyff.properties.trajectory import Production, Run, SpeciesInBox

Floats = NDArray[np.float64]
CONTACT_ELEMENTS = ("O", "N", "F")
"""Atoms by which a neighbour touches a cation; a neighbour without them does so by its heaviest atom."""
KINDS = ("free_ions", "contact_pairs", "aggregates")
TARGET_FRACTION_ERROR = 0.05
TARGET_RELATIVE_ERROR = 0.20


def association(run: Run, replicas: Sequence[Production]) -> dict[str, Property]:
    """Residence times of every species at every cation, and shares of free, paired and aggregated cations."""
    cations = [s for s in run.species if s.charge > 0]
    anions = [s for s in run.species if s.charge < 0]
    properties: dict[str, Property] = {}
    links: dict[tuple[str, str], list[Contacts]] = {}
    few = sum(len(p.snapshots) for p in replicas) < MIN_SNAPSHOTS
    for cation in cations:
        for partner in (s for s in run.species if s.charge <= 0):
            name = f"residence_time_{cation.name}_{partner.name}"
            if few:
                properties[name] = too_short("ps", "too few frames of production")
                continue
            contacts = _contacts(cation, partner, replicas)
            properties[name] = _residence(contacts)
            if contacts is not None and partner.charge < 0:
                links[cation.name, partner.name] = contacts
    if cations and anions and not few:
        properties |= _speciation(cations, anions, links, replicas)
    return properties


def _contacts(
    cation: SpeciesInBox, partner: SpeciesInBox, replicas: Sequence[Production]
) -> list[Contacts] | None:
    """Molecules of the partner in the cation's first shell; None when the distribution shows no shell."""
    centres = centre_atoms(cation)
    mask = np.isin(partner.elements, CONTACT_ELEMENTS)
    targets = partner.atoms(mask) if mask.any() else centre_atoms(partner)
    shell = radial_distribution(f"{cation.name}-{partner.name}", centres, targets, replicas).shell_nm
    if math.isnan(shell):
        return None
    each = max(1, int(mask.sum()))
    return [find_contacts(centres, targets, each, shell, production) for production in replicas]


def _residence(replicas: list[Contacts] | None) -> Property:
    """The error counts escapes: each contact gives one every residence time."""
    if replicas is None:
        return too_short("ps", "no first shell in the radial distribution")
    time_ps, length_ps = residence_time(replicas), _length(replicas)
    if time_ps == 0.0:
        return too_short("ps", "no contacts in the run")
    if math.isinf(time_ps):
        return too_short("ps", "no neighbour left its cation", 10.0 * length_ps)
    contacts = sum(float(c.touching.sum()) for c in replicas) / sum(len(c.touching) for c in replicas)
    error = time_ps / math.sqrt(max(1.0, contacts * length_ps / time_ps))
    details = {
        "method": "molecules in the first shell; 1/e time of the contact correlation, returns count as "
        "staying; error from the number of escapes"
    }
    verdict = exchange_verdict(time_ps, length_ps)
    if verdict == CONVERGED and time_ps < 2.0 * replicas[0].spacing_ps:
        verdict = not_converged("shorter than two frames; write frames more often")
    elif verdict == CONVERGED and error > TARGET_RELATIVE_ERROR * time_ps:
        needed = length_ps * (error / time_ps / TARGET_RELATIVE_ERROR) ** 2
        verdict = not_converged(f"error {100 * error / time_ps:.0f} %", needed)
    return Property(time_ps, error, "ps", verdict, details)


def _length(replicas: Sequence[Contacts]) -> float:
    return sum((len(c.touching) - 1) * c.spacing_ps for c in replicas)


def _speciation(
    cations: Sequence[SpeciesInBox],
    anions: Sequence[SpeciesInBox],
    links: dict[tuple[str, str], list[Contacts]],
    replicas: Sequence[Production],
) -> dict[str, Property]:
    shares = np.concatenate(
        [_shares(cations, anions, links, index, production) for index, production in enumerate(replicas)]
    )
    blocks = np.array([block.mean(axis=0) for block in np.array_split(shares, BLOCKS)])
    means, scatter = shares.mean(axis=0), blocks.std(axis=0, ddof=1) / math.sqrt(BLOCKS)
    stays = max((residence_time(contacts) for contacts in links.values()), default=0.0)
    length_ps = sum(production.length_ps for production in replicas)
    # Blocks that all lack a kind do not scatter, but so many independent looks can miss a rare one.
    looks = sum(s.count for s in cations) * max(1.0, length_ps / (stays or length_ps))
    likely = (means * looks + 1.0) / (looks + 2.0)
    errors = np.maximum(scatter, np.sqrt(likely * (1.0 - likely) / looks))
    details = {
        "method": "share of cations in clusters of touching ions: alone, with one anion, in anything larger; "
        f"contact within the first minimum of g(r); error from {BLOCKS} time blocks, at least that of seeing "
        "each cation once every residence time"
    }
    found = {}
    for kind, value, error in zip(KINDS, means, errors, strict=True):
        verdict = exchange_verdict(stays, length_ps)
        if verdict == CONVERGED and error > TARGET_FRACTION_ERROR:
            needed = length_ps * (error / TARGET_FRACTION_ERROR) ** 2
            verdict = not_converged(f"error {error:.2g}, wanted {TARGET_FRACTION_ERROR:g}", needed)
        found[f"fraction_{kind}"] = Property(float(value), float(error), "", verdict, details)
    return found


def _shares(
    cations: Sequence[SpeciesInBox],
    anions: Sequence[SpeciesInBox],
    links: dict[tuple[str, str], list[Contacts]],
    replica: int,
    production: Production,
) -> Floats:
    """Shares of cations that are free, paired, aggregated, one row a snapshot: (n_snapshots, 3)."""
    n_cations, n_ions = (sum(s.count for s in group) for group in (cations, [*cations, *anions]))
    first = dict(zip([s.name for s in [*cations, *anions]], _starts([*cations, *anions]), strict=True))
    rows = []
    for snapshot in range(len(production.snapshots)):
        edges = [np.empty((0, 2), dtype=np.int64)]
        for (cation, anion), contacts in links.items():
            c = contacts[replica]
            edges.append(c.pairs[c.touching[snapshot]] + [first[cation], first[anion]])
        joined = np.concatenate(edges)
        graph = coo_matrix((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(n_ions, n_ions))
        _, cluster = connected_components(graph, directed=False)
        sizes = np.bincount(cluster)[cluster[:n_cations]]
        rows.append([np.mean(sizes == 1), np.mean(sizes == 2), np.mean(sizes > 2)])
    return np.array(rows)


def _starts(species: Sequence[SpeciesInBox]) -> list[int]:
    """Index of the first ion of each species when they are counted one after the other."""
    return [sum(s.count for s in species[:index]) for index in range(len(species))]
