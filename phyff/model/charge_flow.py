"""Charge that flows along the bonds of a molecule as it moves, felt by the bare cations next to it.

Charges of a molecule at rest miss the potential of one whose bonds and angles have changed, most of all where
a cation sits at 0.2 nm. For an atom i bonded to j, and a third one k, the charge that has gone from j to i is
F = bond |r_ij| + next_bond |r_jk| + bend theta_ijk + through / |r_ik| - at_rest; a bare cation of charge q
has the energy q F (1/r_i - 1/r_j) with it, switched off with the mean of r_i and r_j between SWITCH_START and
CUTOFF. The third atom is bonded to j, or is the next but one: so charge knows bonds, angles and torsions. Or
it is a polar one further away, whose own charge pushes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rdkit import Chem
from torch import Tensor

from phyff.model.near_field import contacts
from phyff.model.switch import quintic_switch
from phyff.species.molecule import Molecule
from phyff.units import COULOMB

if TYPE_CHECKING:
    from phyff.model.parameters import SpeciesTensors
    from phyff.species.parameters import ChargeFlow

SWITCH_START, CUTOFF = 0.40, 0.55
"""nm."""
FARTHEST = 5
"""Bonds of the way by which charge knows of a polar atom."""
POLAR = ("N", "O", "F", "Cl", "Br")
"""Elements with the charge that moves others."""


@dataclass(frozen=True)
class FlowTensors:
    """Flows of one species, (T,) each, float64.

    Attributes:
        atoms: (T, 3) i, j, k: charge goes from j to i.
        bond, next_bond: e/nm. bend: e/rad. through: e nm. at_rest: e.
    """

    atoms: Tensor
    bond: Tensor
    next_bond: Tensor
    bend: Tensor
    through: Tensor
    at_rest: Tensor

    @classmethod
    def of(cls, molecule: Molecule, flows: Sequence[ChargeFlow]) -> FlowTensors:
        """Of every triple of atoms whose symmetry classes have a flow."""
        known = {(flow.apart, flow.classes): flow for flow in flows}
        classes = molecule.symmetry_classes
        found = [
            (triple, known[key])
            for apart, triple in flow_triples(molecule, far=any(apart > 2 for apart, _ in known))
            if (key := (apart, (classes[triple[0]], classes[triple[1]], classes[triple[2]]))) in known
        ]
        columns = [
            torch.tensor([getattr(flow, name) for _, flow in found], dtype=torch.float64)
            for name in ("bond", "next_bond", "bend", "through", "at_rest")
        ]
        return cls(torch.tensor([triple for triple, _ in found], dtype=torch.int64).reshape(-1, 3), *columns)

    def charges(self, xyz: Tensor) -> Tensor:
        """(T,) e, that have gone from j to i in a molecule at xyz (n, 3), nm."""
        i, j, k = self.atoms.T
        near, far = xyz[i] - xyz[j], xyz[k] - xyz[j]
        one, other = (torch.linalg.vector_norm(edge, dim=1) for edge in (near, far))
        cosine = torch.clamp((near * far).sum(1) / (one * other), -1.0, 1.0)
        # Where a straight line may come up there is no bend, and no derivative of its angle may be taken.
        bent = self.bend != 0
        angle = torch.acos(torch.where(bent, cosine, torch.zeros_like(cosine)))
        across = torch.linalg.vector_norm(near - far, dim=1)
        moved = self.bond * one + self.next_bond * other + self.bend * angle + self.through / across
        return moved - self.at_rest

    def potential(self, xyz: Tensor, place: Tensor) -> Tensor:
        """(...,) kJ/mol/e that flown charge of a molecule at xyz (n, 3), nm, has at places (..., 3)."""
        r = torch.linalg.vector_norm(place[..., None, :] - xyz, dim=-1)
        near, far = r[..., self.atoms[:, 0]], r[..., self.atoms[:, 1]]
        switch = quintic_switch(0.5 * (near + far), SWITCH_START, CUTOFF)
        return COULOMB * (self.charges(xyz) * (1 / near - 1 / far) * switch).sum(-1)


def flow_triples(molecule: Molecule, far: bool) -> list[tuple[int, tuple[int, int, int]]]:
    """All (i, j, k) with i bonded to j, and how many bonds k is from i by the shortest way, which leads by j:
    2, and with `far` 3, or up to FARTHEST for a POLAR k and an i that is no hydrogen."""
    apart = Chem.GetDistanceMatrix(molecule.rdkit()).astype(int).tolist()
    found = []
    for j in range(molecule.n_atoms):
        for i in molecule.neighbours(j):
            for k in range(molecule.n_atoms):
                if k in (i, j) or (k not in molecule.neighbours(j) and apart[i][k] != apart[j][k] + 1):
                    continue
                bonds = apart[j][k] + 1
                polar = molecule.elements[k] in POLAR and molecule.elements[i] != "H"
                if bonds == 2 or (far and (bonds == 3 or (polar and bonds <= FARTHEST))):
                    found.append((bonds, (i, j, k)))
    return found


def flow_energy(atoms: Tensor, species: Sequence[SpeciesTensors], offsets: Sequence[int]) -> Tensor:
    """kJ/mol, of monomers with atoms (A, 3), nm, the first of each at its offset."""
    energy = atoms.new_zeros(())
    for cation, molecule, place, xyz in contacts(atoms, species, offsets):
        if len(molecule.flows.atoms):
            energy = energy + cation.charges[0] * molecule.flows.potential(xyz, place)
    return energy
