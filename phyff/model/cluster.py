"""Interaction energy of rigid monomers in vacuum by components: the reference the OpenMM engines are held to.

Electrostatics is the Coulomb energy of permanent charges on atoms and sites, and of bare cations with charge
that has flowed along bonds and in the near field of molecules, plus charge penetration;
induction the relaxation of charge-on-spring oscillators (Lamoureux and Roux 2003, doi 10.1063/1.1589749) plus
charge transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phyff.errors import SimulationError
from phyff.model.charge_flow import flow_energy
from phyff.model.near_field import near_field_energies
from phyff.model.pairs import (
    COMPONENTS,
    TAIL_SHARE,
    coulomb,
    damped_dispersion,
    exchange_overlap,
    slater_overlap,
    thole_screening,
)
from phyff.model.parameters import DRUDE_FORCE_CONSTANT, SpeciesTensors
from phyff.species.parameters import ChargeSite

PARTS = ("electrostatics", "exchange", "induction", "dispersion")
MAX_ITERATIONS = 500
DISPLACEMENT_TOLERANCE = 1e-9
"""nm; oscillators have converged when none moves more."""
COLLAPSE_NM = 0.05
"""An oscillator this far from its atom has fallen into a charge of another molecule (in liquids: 0.02)."""


@dataclass(frozen=True)
class Cluster:
    """Monomers put together; A atoms, Q permanent charges, K oscillators over all molecules.

    Attributes:
        atoms: (A, 3) nm. molecule: (A,) which monomer each belongs to.
        species: one entry a monomer; offsets: first atom of each.
    """

    atoms: Tensor
    molecule: Tensor
    species: tuple[SpeciesTensors, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, species: Sequence[SpeciesTensors], xyz: Sequence[Tensor]) -> Cluster:
        """From the positions (n, 3), nm, of each monomer."""
        sizes = [len(x) for x in xyz]
        offsets = tuple(sum(sizes[:i]) for i in range(len(sizes)))
        return cls(
            torch.cat(list(xyz)), torch.repeat_interleave(torch.tensor(sizes)), tuple(species), offsets
        )

    def column(self, name: str) -> Tensor:
        """A per-atom parameter of all molecules, atoms last."""
        return torch.cat([getattr(s, name) for s in self.species], dim=-1)

    def atom_pairs(self) -> Tensor:
        """(2, P) atoms of different molecules."""
        return self._between(self.molecule, self.molecule)

    @staticmethod
    def _between(first: Tensor, second: Tensor) -> Tensor:
        return torch.nonzero(first[:, None] < second[None]).T

    def permanent_charges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (Q, 3), charges (Q,) and parent atoms (Q,)."""
        xyz, parents = [], []
        for s, offset in zip(self.species, self.offsets, strict=True):
            own = self.atoms[offset : offset + len(s.widths)]
            xyz.append(torch.cat([own, site_positions(s.sites, own)]))
            parents.append(s.parents + offset)
        return torch.cat(xyz), self.column("charges"), torch.cat(parents)

    def oscillators(self) -> tuple[Tensor, Tensor]:
        """Parent atoms (K,) and mobile charges (K,)."""
        parents = [s.oscillators + offset for s, offset in zip(self.species, self.offsets, strict=True)]
        return torch.cat(parents), self.column("oscillator_charges")


def interaction_energy(cluster: Cluster) -> dict[str, Tensor]:
    """Components PARTS and their total, kJ/mol; forces are their gradients with respect to `cluster.atoms`.

    Raises:
        SimulationError: the oscillators do not converge (polarization catastrophe).
    """
    polarization = oscillator_energy(cluster, relaxed_displacements(cluster))
    return with_short_range(cluster, permanent_energy(cluster), polarization)


def with_short_range(cluster: Cluster, permanent: Tensor, polarization: Tensor) -> dict[str, Tensor]:
    """Components PARTS and their total from an engine's permanent and polarization energies."""
    short = short_range_energies(cluster)
    parts = {
        "electrostatics": permanent - short["penetration"] + short["potential"],
        "exchange": short["exchange"],
        "induction": polarization - short["charge_transfer"],
        "dispersion": dispersion_energy(cluster),
    }
    return {**parts, "total": sum(parts.values(), torch.zeros((), dtype=torch.float64))}


def site_positions(sites: Sequence[ChargeSite], xyz: Tensor) -> Tensor:
    """(m, 3) positions of off-atom charges on a molecule with atoms at xyz (n, 3)."""
    rows = []
    for site in sites:
        corner = [xyz[a] for a in site.atoms]
        if site.kind == "average":
            rows.append(sum(w * x for w, x in zip(site.weights, corner, strict=True)))
        else:
            first, second = corner[1] - corner[0], corner[2] - corner[0]
            along, beside, normal = site.weights
            rows.append(
                corner[0] + along * first + beside * second + normal * torch.linalg.cross(first, second)
            )
    return torch.stack(rows) if rows else xyz.new_zeros((0, 3))  # type: ignore[arg-type]


def permanent_energy(cluster: Cluster) -> Tensor:
    """Coulomb energy between the permanent charges of different molecules, undamped, and that of bare cations
    with charge that has flowed."""
    xyz, charge, parent = cluster.permanent_charges()
    i, j = Cluster._between(cluster.molecule[parent], cluster.molecule[parent])
    between = coulomb(charge[i], charge[j], _distance(xyz[i], xyz[j])).sum()
    return between + flow_energy(cluster.atoms, cluster.species, cluster.offsets)


def short_range_energies(cluster: Cluster) -> dict[str, Tensor]:
    """Magnitude of each short-range component, all positive, and the energy of bare cations in the
    "potential" that charges miss close to a molecule."""
    i, j = cluster.atom_pairs()
    r, cation = _distance(cluster.atoms[i], cluster.atoms[j]), cluster.column("bare_cation")
    contact = cation[i] | cation[j]

    def product(own: str, towards_cation: str) -> Tensor:
        """Of a parameter of both atoms."""
        plain, close = cluster.column(own), cluster.column(towards_cation)
        return torch.where(contact, close[..., i] * close[..., j], plain[..., i] * plain[..., j])

    exponents = {
        "exchange": product("exponents", "contact_exponents"),
        "penetration": product("attraction_exponents", "contact_attraction_exponents"),
        "charge_transfer": product("attraction_exponents", "contact_transfer_exponents"),
    }
    amplitudes = dict(zip(COMPONENTS, product("amplitudes", "contact_amplitudes"), strict=True))
    overlaps = {name: slater_overlap(r, exponents[name]) for name in COMPONENTS[1:]}
    tail = torch.where(contact, 0.0, TAIL_SHARE)
    overlaps["exchange"] = exchange_overlap(r, exponents["exchange"], tail)
    short = {name: (amplitudes[name] * overlaps[name]).sum() for name in COMPONENTS}
    near = near_field_energies(cluster.atoms, cluster.species, cluster.offsets)
    return {name: short.get(name, 0.0) + near.get(name, 0.0) for name in (*COMPONENTS, "potential")}


def dispersion_energy(cluster: Cluster) -> Tensor:
    """Damped C6, C8, C10 between atoms of different molecules."""
    i, j = cluster.atom_pairs()
    b = cluster.column("damping_exponents")
    c6, c8, c10 = (cluster.column(name) for name in ("c6", "c8", "c10"))
    r = _distance(cluster.atoms[i], cluster.atoms[j])
    return damped_dispersion(r, b[i] * b[j], c6[i] * c6[j], c8[i] * c8[j], c10[i] * c10[j]).sum()


def oscillator_energy(cluster: Cluster, displacements: Tensor) -> Tensor:
    """Energy of oscillators displaced by (K, 3) nm over undisplaced ones: springs, the field of other
    molecules' charges and of all other oscillators."""
    return _Oscillators.of(cluster).energy(displacements)


@dataclass(frozen=True)
class _Oscillators:
    """All that stays as it is while the oscillators of a cluster move.

    A charge is an end of an oscillator (its atom's, then the mobile ones, 2K in all) or a permanent one.

    Attributes:
        home: (K, 3) nm. permanent: (Q, 3) nm. pairs: (2, P) numbers of charges, ends before permanent ones.
        charges: (2K + Q,). scales: (P,) 1/nm, distances times these are the argument of the screening.
    """

    home: Tensor
    permanent: Tensor
    charges: Tensor
    pairs: Tensor
    scales: Tensor

    @classmethod
    def of(cls, cluster: Cluster) -> _Oscillators:
        """Ends feel ends of other atoms, and permanent charges of other molecules."""
        parents, mobile = cluster.oscillators()
        xyz, permanent, carrier = cluster.permanent_charges()
        parent = torch.cat([parents, parents])
        owner, widths = cluster.molecule[parent], cluster.column("widths")
        alpha = torch.cat([cluster.column("alpha")] * 2)
        thole = torch.cat([s.alpha.new_full(s.alpha.shape, s.thole) for s in cluster.species] * 2)

        i, j = between = Cluster._between(owner, owner)
        near = 1 / (widths[parent[i]] * widths[parent[j]])
        i, j = within = torch.nonzero((owner[:, None] == owner) & (parent[:, None] < parent)).T
        inside = thole[i] / (alpha[i] * alpha[j]) ** (1 / 6)
        i, j = field = torch.nonzero(owner[:, None] != cluster.molecule[carrier]).T
        far = 1 / (widths[parent[i]] * widths[carrier[j]])
        return cls(
            cluster.atoms[parents],
            xyz,
            torch.cat([-mobile, mobile, permanent]),
            torch.cat([between, within, torch.stack([field[0], field[1] + len(parent)])], dim=1),
            torch.cat([near, inside, far]),
        )

    def energy(self, displacements: Tensor) -> Tensor:
        """As oscillator_energy."""
        places = torch.cat([self.home, self.home + displacements, self.permanent])
        i, j = self.pairs
        r = _distance(places[i], places[j])
        spring = 0.5 * DRUDE_FORCE_CONSTANT * (displacements**2).sum()
        return (
            spring + (thole_screening(r * self.scales) * coulomb(self.charges[i], self.charges[j], r)).sum()
        )


def relaxed_displacements(cluster: Cluster) -> Tensor:
    """(K, 3) displacements, nm, with every oscillator in equilibrium (fixed point with Anderson mixing).

    Raises:
        SimulationError: no convergence within MAX_ITERATIONS, or to a collapsed state.
    """
    frozen = Cluster(cluster.atoms.detach(), cluster.molecule, cluster.species, cluster.offsets)
    oscillators = _Oscillators.of(frozen)
    d = torch.zeros_like(oscillators.home)
    if not len(d):
        return d
    history: list[tuple[Tensor, Tensor]] = []
    for _ in range(MAX_ITERATIONS):
        trial = d.clone().requires_grad_(True)
        energy = oscillators.energy(trial)
        (gradient,) = torch.autograd.grad(energy, trial)
        step = -gradient / DRUDE_FORCE_CONSTANT
        largest = float(step.abs().max())
        if largest < DISPLACEMENT_TOLERANCE:
            # A stationary point above the undisplaced state is a saddle: relaxing has gone wrong.
            if float(d.norm(dim=1).max()) < COLLAPSE_NM and float(energy.detach()) <= 0.0:
                return d
            break
        if not np.isfinite(largest):
            break
        history = [*history[-5:], (d, step)]
        d = _anderson(history)
    raise SimulationError(
        "The induced dipoles do not converge: two molecules of the cluster are too close together."
    )


def _anderson(history: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Next displacements from past (displacement, step) pairs (Anderson 1965)."""
    d, step = history[-1]
    if len(history) == 1:
        return d + step
    dd = torch.stack([(d - old).ravel() for old, _ in history[:-1]], dim=1)
    ds = torch.stack([(step - old).ravel() for _, old in history[:-1]], dim=1)
    weights = torch.linalg.lstsq(ds, step.ravel()[:, None]).solution
    return d + step - ((dd + ds) @ weights).reshape(d.shape)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a - b, dim=-1)
