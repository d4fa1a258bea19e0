"""The `multipole` engine's energy of rigid monomers in vacuum: the reference for its OpenMM realisation.

Permanent charges, dipoles and quadrupoles in local frames; induced dipoles with AMOEBA's Thole damping (Ren
and Ponder 2003, doi 10.1021/jp027815+), self-consistent by solving their linear equations. Short range,
dispersion and charge flow are those of phyff/model/cluster.py. A molecule's own permanent moments do not
polarize it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phyff.model.charge_flow import flow_energy
from phyff.model.cluster import Cluster, with_short_range
from phyff.model.pairs import COMPONENTS, slater_overlap, thole_cubic_screening
from phyff.species.frames import handedness, laboratory_axes
from phyff.units import COULOMB


def interaction_energy(cluster: Cluster) -> dict[str, Tensor]:
    """Components phyff.model.cluster.PARTS and their total, kJ/mol; forces are their gradients with respect
    to `cluster.atoms`."""
    moments = laboratory_moments(cluster)
    polarization = induced_energy(cluster, moments) + contact_energy(cluster)
    return with_short_range(cluster, permanent_energy(cluster, moments), polarization)


@dataclass(frozen=True)
class Moments:
    """Permanent moments of all atoms in laboratory axes: (A,) e, (A, 3) e nm, (A, 3, 3) e nm^2."""

    charges: Tensor
    dipoles: Tensor
    quadrupoles: Tensor


def laboratory_moments(cluster: Cluster) -> Moments:
    """The moments of every molecule, turned from the local frames as its atoms stand."""
    charges, dipoles, quadrupoles = [], [], []
    for species, offset in zip(cluster.species, cluster.offsets, strict=True):
        own = species.multipoles
        xyz = cluster.atoms[offset : offset + len(own.charges)]
        axes = torch.stack([laboratory_axes(frame, xyz) for frame in own.frames])
        sides = [handedness(frame, xyz.detach().numpy()) for frame in own.frames]
        mirror = torch.ones_like(own.dipoles)
        mirror[:, 1] = torch.tensor(sides, dtype=mirror.dtype)
        charges.append(own.charges)
        dipoles.append(torch.einsum("ni,nia->na", mirror * own.dipoles, axes))
        local = mirror[:, :, None] * own.quadrupoles * mirror[:, None]
        quadrupoles.append(torch.einsum("nia,nij,njb->nab", axes, local, axes))
    return Moments(torch.cat(charges), torch.cat(dipoles), torch.cat(quadrupoles))


def permanent_energy(cluster: Cluster, moments: Moments) -> Tensor:
    """Undamped energy between permanent moments of different molecules (Smith 1998, CCP5 newsletter 46), and
    that of bare cations with charge that has flowed."""
    i, j = cluster.atom_pairs()
    away = cluster.atoms[j] - cluster.atoms[i]
    r = torch.linalg.vector_norm(away, dim=1)
    qi, qj = moments.charges[i], moments.charges[j]
    di, dj = moments.dipoles[i], moments.dipoles[j]
    ti, tj = moments.quadrupoles[i] / 3, moments.quadrupoles[j] / 3
    di_r, dj_r = _dot(di, away), _dot(dj, away)
    ti_r, tj_r = torch.einsum("pab,pb->pa", ti, away), torch.einsum("pab,pb->pa", tj, away)
    ti_rr, tj_rr = _dot(ti_r, away), _dot(tj_r, away)
    terms = (
        qi * qj,
        qj * di_r - qi * dj_r + _dot(di, dj),
        qi * tj_rr + qj * ti_rr - di_r * dj_r + 2 * (_dot(dj, ti_r) - _dot(di, tj_r) + (ti * tj).sum((1, 2))),
        di_r * tj_rr - dj_r * ti_rr - 4 * _dot(ti_r, tj_r),
        ti_rr * tj_rr,
    )
    weights = (1, 1, 3, 15, 105)
    energies = (w * term / r ** (2 * k + 1) for k, (w, term) in enumerate(zip(weights, terms, strict=True)))
    between = COULOMB * torch.stack([energy.sum() for energy in energies]).sum()
    return between + flow_energy(cluster.atoms, cluster.species, cluster.offsets)


def induced_energy(cluster: Cluster, moments: Moments) -> Tensor:
    """-1/2 sum of induced dipoles times the field of the other molecules' permanent moments."""
    alpha = torch.cat([s.multipoles.alpha for s in cluster.species])
    carriers = torch.nonzero(alpha > 0).ravel()
    if not len(carriers):
        return torch.zeros((), dtype=torch.float64)
    field = _permanent_field(cluster, moments)[carriers].ravel()
    coupling = _dipole_coupling(cluster, alpha[carriers], carriers)
    return -0.5 * COULOMB * field @ torch.linalg.solve(coupling, field)


def contact_energy(cluster: Cluster) -> Tensor:
    """What a bare cation and an atom of a molecule have beside the energy of induced dipoles, so that their
    induction agrees with that of the `drude` engine's oscillators."""
    energy = torch.zeros((), dtype=torch.float64)
    for one, own_start in zip(cluster.species, cluster.offsets, strict=True):
        if not one.is_bare_cation:
            continue
        (element,) = one.elements
        exchange = one.contact_amplitudes[COMPONENTS.index("exchange")]
        for other, start in zip(cluster.species, cluster.offsets, strict=True):
            if element not in other.multipoles.contacts or other.is_bare_cation:
                continue
            steep, flat = other.multipoles.contacts[element]
            xyz = cluster.atoms[start : start + len(steep)]
            r = torch.linalg.vector_norm(xyz - cluster.atoms[own_start], dim=1)
            energy = (
                energy
                + (
                    exchange * steep * slater_overlap(r, one.contact_exponents * other.contact_exponents)
                    + exchange
                    * flat
                    * slater_overlap(r, one.contact_transfer_exponents * other.contact_transfer_exponents)
                ).sum()
            )
    return energy


def _permanent_field(cluster: Cluster, moments: Moments) -> Tensor:
    """(A, 3) damped field of the other molecules' moments at every atom, e/nm^2."""
    i, j = torch.nonzero(cluster.molecule[:, None] != cluster.molecule[None]).T
    away = cluster.atoms[i] - cluster.atoms[j]
    r = torch.linalg.vector_norm(away, dim=1)
    by_charge, by_dipole, by_quadrupole = thole_cubic_screening(_damping_argument(cluster, i, j, r))
    dipole, quadrupole = moments.dipoles[j], moments.quadrupoles[j] / 3
    along = torch.einsum("pab,pb->pa", quadrupole, away)
    third, fifth, seventh = by_charge / r**3, 3 * by_dipole / r**5, 15 * by_quadrupole / r**7
    radial = moments.charges[j] * third + _dot(dipole, away) * fifth + _dot(along, away) * seventh
    field = radial[:, None] * away - third[:, None] * dipole - 2 * fifth[:, None] * along
    return torch.zeros_like(cluster.atoms).index_add(0, i, field)


def _dipole_coupling(cluster: Cluster, alpha: Tensor, carriers: Tensor) -> Tensor:
    """(3K, 3K) matrix of the equations of the induced dipoles, 1/nm^3: inverse polarizabilities, and damped
    dipole tensors between all of them, in one molecule too."""
    k = len(carriers)
    first, second = torch.nonzero(~torch.eye(k, dtype=torch.bool)).T
    i, j = carriers[first], carriers[second]
    away = cluster.atoms[i] - cluster.atoms[j]
    r = torch.linalg.vector_norm(away, dim=1)
    third, fifth, _ = thole_cubic_screening(_damping_argument(cluster, i, j, r))
    eye = torch.eye(3, dtype=away.dtype)
    blocks = torch.zeros((k, k, 3, 3), dtype=away.dtype)
    blocks[first, second] = (third / r**3)[:, None, None] * eye - (3 * fifth / r**5)[:, None, None] * (
        away[:, :, None] * away[:, None]
    )
    own = torch.arange(k)
    blocks[own, own] = eye / alpha[:, None, None]
    return blocks.transpose(1, 2).reshape(3 * k, 3 * k)


def _damping_argument(cluster: Cluster, i: Tensor, j: Tensor, r: Tensor) -> Tensor:
    own = [s.multipoles for s in cluster.species]
    sizes = torch.cat([m.sizes for m in own])
    thole = torch.cat([torch.full_like(m.sizes, m.thole) for m in own])
    return torch.minimum(thole[i], thole[j]) * (r / (sizes[i] * sizes[j])) ** 3


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
