"""Neutron-weighted static structure factor, S(q) = <|sum_j b_j exp(i q r_j)|^2> / sum_j b_j^2.

On the reciprocal vectors of the cubic box, so it is exact at every q it is given at (Allen and Tildesley,
section 2.6). b: bound coherent scattering lengths, Sears, Neutron News 3(3), 26 (1992).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from phyff.properties.structure import BLOCKS, MIN_SNAPSHOTS
from phyff.properties.trajectory import Production, Run

Floats = NDArray[np.float64]
# fmt: off
SCATTERING_LENGTH_FM = {
    "H": -3.739, "Li": -1.90, "B": 5.30, "C": 6.646, "N": 9.36, "O": 5.803, "F": 5.654, "Na": 3.63,
    "Mg": 5.375, "Al": 3.449, "Si": 4.149, "P": 5.13, "S": 2.847, "Cl": 9.577, "K": 3.67, "Ca": 4.70,
    "Zn": 5.680, "Br": 6.795, "I": 5.28,
}
# fmt: on
MAX_Q_PER_NM = 30.0
BIN_PER_NM = 0.5
VECTORS_EACH_BIN = 8
SNAPSHOTS = 40


@dataclass(frozen=True)
class StructureFactor:
    """S(q): q (n,) in 1/nm, s and its error (n,), dimensionless."""

    q: Floats
    s: Floats
    error: Floats


def structure_factor(run: Run, replicas: Sequence[Production]) -> StructureFactor | None:
    """S(q) up to MAX_Q_PER_NM; None with too few frames or an element without a scattering length."""
    snapshots = [xyz for production in replicas for xyz in production.snapshots]
    elements = np.concatenate([np.tile(s.elements, s.count) for s in run.species])
    if len(snapshots) < MIN_SNAPSHOTS or not set(elements) <= set(SCATTERING_LENGTH_FM):
        return None
    lengths = np.array([SCATTERING_LENGTH_FM[element] for element in elements])
    bins = _reciprocal_vectors(replicas[0].box_nm)
    vectors = np.concatenate(bins)
    used = [snapshots[i] for i in np.unique(np.linspace(0, len(snapshots) - 1, SNAPSHOTS).astype(int))]
    rows = []
    for xyz in used:
        phase = xyz.astype(np.float64) @ vectors.T
        amplitudes = np.abs(lengths @ np.cos(phase)) ** 2 + np.abs(lengths @ np.sin(phase)) ** 2
        rows.append(amplitudes / np.sum(lengths**2))
    edges = np.cumsum([0, *(len(one) for one in bins)])
    curves = np.array([[row[a:b].mean() for a, b in zip(edges, edges[1:], strict=False)] for row in rows])
    blocks = np.array([block.mean(axis=0) for block in np.array_split(curves, BLOCKS)])
    q = np.array([np.linalg.norm(one, axis=1).mean() for one in bins])
    return StructureFactor(q, curves.mean(axis=0), blocks.std(axis=0, ddof=1) / math.sqrt(BLOCKS))


def _reciprocal_vectors(box_nm: float) -> list[Floats]:
    """Reciprocal vectors (n, 3) of a cube in 1/nm, a few in each bin of |q|, the same every time."""
    unit = 2.0 * math.pi / box_nm
    reach = int(MAX_Q_PER_NM / unit)
    grid = np.array([n for n in product(range(-reach, reach + 1), repeat=3) if n > (0, 0, 0)], dtype=float)
    vectors = unit * grid
    number = (np.linalg.norm(vectors, axis=1) / BIN_PER_NM).astype(int)
    rng = np.random.default_rng(1)
    bins = []
    for k in range(int(MAX_Q_PER_NM / BIN_PER_NM)):
        members = np.flatnonzero(number == k)
        if len(members):
            bins.append(vectors[rng.permutation(members)[:VECTORS_EACH_BIN]])
    return bins
