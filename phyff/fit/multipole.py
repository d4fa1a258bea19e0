"""Sizes of bare cations in the damping of the `multipole` engine.

The charge transfer of the short range is fitted on top of the `drude` engine's polarization, so a cation's
size in AMOEBA's form of damping is the one with which the same dimers get that polarization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from phyff.fit.short_range import FLOOR, RELATIVE, DimerPoint
from phyff.model.cluster import Cluster, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.parameters import ShortRange, species_tensors
from phyff.species.parameters import SpeciesParameters

SIZE_RANGE = (2e-5, 5e-3)
"""nm^3."""


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


def _is_bound(point: DimerPoint) -> bool:
    return point.components["total"] < 0.0
