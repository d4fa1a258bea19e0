"""Non-bonded energy inside one molecule: charges, short range and dispersion more than three bonds apart.

A molecule's own permanent charges do not displace its oscillators, whose response was fitted to fields from
outside, so oscillators play no part here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phyff.model.cluster import site_positions
from phyff.model.pairs import COMPONENTS, coulomb, damped_dispersion, exchange_overlap, slater_overlap
from phyff.model.parameters import SpeciesTensors


def intramolecular_energy(species: SpeciesTensors, xyz: Tensor) -> Tensor:
    """kJ/mol, of a molecule at xyz (n, 3), nm."""
    far = ~species.close
    places = torch.cat([xyz, site_positions(species.sites, xyz)])
    i, j = _pairs(far[species.parents][:, species.parents])
    energy = coulomb(species.charges[i], species.charges[j], _distance(places, i, j)).sum()
    i, j = _pairs(far)
    r = _distance(xyz, i, j)
    for name, a in zip(COMPONENTS, species.amplitudes, strict=True):
        if name == "exchange":
            overlap = exchange_overlap(r, species.exponents[i] * species.exponents[j])
        else:
            overlap = -slater_overlap(r, species.attraction_exponents[i] * species.attraction_exponents[j])
        energy = energy + (a[i] * a[j] * overlap).sum()
    b = species.damping_exponents[i] * species.damping_exponents[j]
    products = (c[i] * c[j] for c in (species.c6, species.c8, species.c10))
    return energy + damped_dispersion(r, b, *products).sum()


def _pairs(allowed: Tensor) -> tuple[Tensor, Tensor]:
    i, j = torch.nonzero(torch.triu(allowed, diagonal=1)).T
    return i, j


def _distance(xyz: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return torch.linalg.vector_norm(xyz[i] - xyz[j], dim=-1)
