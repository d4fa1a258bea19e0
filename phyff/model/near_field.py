"""What a bare cation feels of the electrons of a molecule beside it.

A cation sits in the density of its neighbour, which is no sphere: the exchange of Li+ with any molecule or
anion is that density at the ion times one constant, within 11 % over two orders of magnitude, and their
electrostatics the potential there less another constant times that density, both properties of the molecule
alone (benchmarks/notes/interactions.md). So an atom's Slater terms with a bare cation start from its part of
that density, n S(b r), S the Slater overlap; exchange and penetration are multiplied with exp(g), where g is
a polynomial of the direction in which the cation lies; and a cation of charge q has the energy q S(b' r) p,
where p is another one: what charges miss of the potential. Directions are the cosines c1, c2 between the way
to the cation and those to two other atoms of the molecule; the terms of both polynomials c1, c2, c1^2, c1 c2,
c2^2, before which p has a constant. What directions do, and the potential, is switched off between
SWITCH_START and CUTOFF.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from phyff.model.pairs import slater_overlap
from phyff.model.switch import quintic_switch
from phyff.species.molecule import Molecule

if TYPE_CHECKING:
    from phyff.model.parameters import SpeciesTensors
    from phyff.species.parameters import NearField

SWITCH_START, CUTOFF = 0.36, 0.46
"""nm."""
ROUND = ("C", "B", "Si", "P", "S", "Cl", "Br")
"""Elements that hide behind what is bonded to them; of the others bare cations feel directions."""
TERMS = 5
"""Of a polynomial of directions, beside its constant."""


def references(molecule: Molecule) -> np.ndarray:
    """(n, 2) atoms that an atom's directions count from; -1, -1 of an atom without directions, twice the same
    where there is one direction only.

    Of an atom with two partners, these; of one with one partner that has two others (a carbonyl's oxygen),
    these, for they span the same plane; of any other with one partner, this one.
    """

    def alike_first(atoms: Iterable[int]) -> list[int]:
        """In an order that equivalent atoms share."""
        return sorted(atoms, key=lambda k: (molecule.symmetry_classes[k], k))

    found = np.full((molecule.n_atoms, 2), -1)
    for i, element in enumerate(molecule.elements):
        partners = alike_first(molecule.neighbours(i))
        if element in ROUND or len(partners) not in (1, 2):
            continue
        beyond = alike_first(k for k in molecule.neighbours(partners[0]) if k != i)
        if len(partners) == 2:
            found[i] = partners
        elif len(beyond) == 2 and element != "H":
            found[i] = beyond
        else:
            found[i] = partners[0], partners[0]
    return found


@dataclass(frozen=True)
class NearFieldTensors:
    """Near field of one species with n atoms, float64.

    Attributes:
        densities: (n,) e/nm^3. density_exponents: (n,) 1/nm, of the overlap these go with.
        references: (n, 2) atoms, as of `references`; an atom without directions has itself there.
        directed: (n,) whether it has directions.
        shapes: (n, TERMS) coefficients of the exponent of its density.
        potentials: (n, 1 + TERMS) kJ/mol/e. exponents: (n,) 1/nm, of the overlap these go with.
    """

    densities: Tensor
    density_exponents: Tensor
    references: Tensor
    directed: Tensor
    shapes: Tensor
    potentials: Tensor
    exponents: Tensor

    @classmethod
    def of(cls, molecule: Molecule, atoms: Sequence[NearField]) -> NearFieldTensors:
        """Of what a species has for each of its atoms; of nothing, zeros."""
        places = references(molecule)
        own = np.arange(molecule.n_atoms)[:, None]
        return cls(
            densities=_rows([(atom.density,) for atom in atoms], molecule.n_atoms, 1)[:, 0],
            density_exponents=_rows([(atom.density_exponent,) for atom in atoms], molecule.n_atoms, 1)[:, 0],
            references=torch.tensor(np.where(places < 0, own, places)),
            directed=torch.tensor(places[:, 0] >= 0),
            shapes=_rows([atom.shape for atom in atoms], molecule.n_atoms, TERMS),
            potentials=_rows([atom.potential for atom in atoms], molecule.n_atoms, 1 + TERMS),
            exponents=_rows([(atom.exponent,) for atom in atoms], molecule.n_atoms, 1)[:, 0],
        )

    def terms(self, xyz: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (..., n), nm, from atoms at xyz (n, 3) to places (..., 3), and the terms (..., n, TERMS)
        of these directions."""
        way = place[..., None, :] - xyz
        r = torch.linalg.vector_norm(way, dim=-1)
        edges = xyz[self.references] - xyz[:, None]
        length = torch.linalg.vector_norm(torch.where(self.directed[:, None, None], edges, 1.0), dim=-1)
        cosines = (way[..., None, :] * edges).sum(-1) / (r[..., None] * length)
        one, other = cosines.unbind(-1)
        return r, torch.stack([one, other, one**2, one * other, other**2], dim=-1)

    def at(self, xyz: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Of atoms at xyz (n, 3), nm, at places (..., 3): by how much their density exceeds a sphere's,
        exp(g) - 1 (..., n), and the potential (..., n), kJ/mol/e."""
        r, terms = self.terms(xyz, place)
        switch = quintic_switch(r, SWITCH_START, CUTOFF)
        potential = self.potentials[:, 0] + (terms * self.potentials[:, 1:]).sum(-1)
        excess = torch.expm1((terms * self.shapes).sum(-1))
        return switch * excess, switch * slater_overlap(r, self.exponents) * potential


def _rows(values: Sequence[Sequence[float]], atoms: int, width: int) -> Tensor:
    filled = values or [[0.0] * width] * atoms
    return torch.tensor(filled, dtype=torch.float64).reshape(atoms, width)


def contacts(
    atoms: Tensor, species: Sequence[SpeciesTensors], offsets: Sequence[int]
) -> Iterator[tuple[SpeciesTensors, SpeciesTensors, Tensor, Tensor]]:
    """Every bare cation with every other molecule of monomers with atoms (A, 3), nm, the first of each at its
    offset: the cation, the molecule, and the positions of both."""
    for cation, place in zip(species, offsets, strict=True):
        if not cation.is_bare_cation:
            continue
        for molecule, start in zip(species, offsets, strict=True):
            if not molecule.is_bare_cation:
                yield cation, molecule, atoms[place], atoms[start : start + len(molecule.widths)]


def near_field_energies(
    atoms: Tensor, species: Sequence[SpeciesTensors], offsets: Sequence[int]
) -> dict[str, Tensor]:
    """Of all contacts, kJ/mol: "exchange" and "penetration", what direction adds to these components, and the
    energy in the "potential"."""
    found = {name: atoms.new_zeros(()) for name in ("exchange", "penetration", "potential")}
    for cation, molecule, place, xyz in contacts(atoms, species, offsets):
        excess, potential = molecule.near_field.at(xyz, place)
        r = torch.linalg.vector_norm(xyz - place, dim=1)
        amplitudes = molecule.contact_amplitudes * cation.contact_amplitudes
        exchange = slater_overlap(r, molecule.contact_exponents * cation.contact_exponents)
        penetration = slater_overlap(
            r, molecule.contact_attraction_exponents * cation.contact_attraction_exponents
        )
        found["exchange"] = found["exchange"] + (amplitudes[0] * exchange * excess).sum()
        found["penetration"] = found["penetration"] + (amplitudes[1] * penetration * excess).sum()
        found["potential"] = found["potential"] + cation.charges[0] * potential.sum()
    return found
