"""Contacts between a cation and its neighbours: who touches whom in every snapshot, and for how long.

Residence time: decay to 1/e of the intermittent contact correlation <h(0) h(t)> / <h>, chance contacts taken
off (Impey, Madden, McDonald, J. Phys. Chem. 87, 5071 (1983), with returns counted as staying).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from phyff.properties.trajectory import Production

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Contacts:
    """Contacts of one trajectory.

    pairs (n, 2): centre and partner, counted from 0, of every pair that ever touches; touching
    (n_snapshots, n); possible: number of all pairs; spacing_ps: between snapshots.
    """

    pairs: Indices
    touching: NDArray[np.bool_]
    possible: int
    spacing_ps: float


def find_contacts(
    centres: Indices, targets: Indices, atoms_each: int, cutoff_nm: float, production: Production
) -> Contacts:
    """Contacts of centres with partners of atoms_each consecutive target atoms (box-wide indices)."""
    n_partners = len(targets) // atoms_each
    found = []
    for xyz in production.snapshots:
        wrapped = np.mod(xyz.astype(np.float64), production.box_nm) % production.box_nm
        near = cKDTree(wrapped[centres], boxsize=production.box_nm).sparse_distance_matrix(
            cKDTree(wrapped[targets], boxsize=production.box_nm), cutoff_nm, output_type="ndarray"
        )
        near = near[centres[near["i"]] != targets[near["j"]]]
        found.append(np.unique(near["i"] * n_partners + near["j"] // atoms_each))
    ever = np.unique(np.concatenate(found))
    touching = np.stack([np.isin(ever, keys, assume_unique=True) for keys in found])
    pairs = np.stack([ever // n_partners, ever % n_partners], axis=1)
    spacing = production.snapshot_stride * production.frame_ps
    return Contacts(pairs, touching, len(centres) * n_partners, spacing)


def residence_time(replicas: Sequence[Contacts]) -> float:
    """Residence time (ps) of a contact; extrapolated where the run is too short to see the decay to 1/e.

    Infinite when no contact ever ended, zero when there were none.
    """
    survival = contact_survival(replicas)
    if not len(survival):
        return 0.0
    spacing = replicas[0].spacing_ps
    below = np.flatnonzero(survival < math.exp(-1.0))
    if len(below):
        after = int(below[0])
        before, now = survival[after - 1], survival[after]
        return spacing * float(after - 1 + (before - math.exp(-1.0)) / (before - now))
    last = float(survival[-1])
    return math.inf if last >= 1.0 else -spacing * (len(survival) - 1) / math.log(last)


def contact_survival(replicas: Sequence[Contacts]) -> Floats:
    """Share of contacts that hold after 0, 1, 2 ... snapshots, up to half the run; empty without contacts."""
    lags = min(len(c.touching) for c in replicas) // 2 + 1
    kept, began = np.zeros(lags), np.zeros(lags)
    for c in replicas:
        touching = c.touching.astype(np.float32)
        for lag in range(lags):
            kept[lag] += float(np.vdot(touching[lag:], touching[: len(touching) - lag]))
            began[lag] += float(touching[: len(touching) - lag].sum())
    if not (began > 0.0).all():
        return np.empty(0)
    chance = float(np.mean([c.touching.sum() / len(c.touching) / c.possible for c in replicas]))
    if chance >= 1.0:  # every pair there is touches all the time
        return np.ones(lags)
    return (kept / began - chance) / (1.0 - chance)
