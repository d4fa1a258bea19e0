"""E_nn as an OpenMM force: phyff/model/neural.py behind a PythonForce, with a neighbour list of its own.

The force is written for any number of Contexts of one System: what it keeps between calls are neighbour
lists, and a list serves only positions close to those it was made for. Pickling it, which is how OpenMM
copies a PythonForce, leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from phyff.model.neural import (
    CUTOFF,
    AtomKinds,
    NeuralTerm,
    Pairs,
    atomic_energies,
    bonds_seen,
    neighbour_sums,
    pair_forces,
    predict_pairs,
)
from phyff.openmm.drude import Placed

NAME = "neural"
SKIN = 0.07
"""nm beyond the cut-off that a neighbour list reaches; it is made anew every 20 to 50 fs."""
KEPT_LISTS = 4
"""For as many Contexts that take turns."""
PRECISION = torch.float32
HALF_SHELL = np.array([s for s in product((-1, 0, 1), repeat=3) if s > (0, 0, 0)])
"""Every second neighbour cell, so that a pair across a face is found once."""

Floats = NDArray[np.float64]


def neural_force(
    term: NeuralTerm, molecules: Sequence[Placed], periodic: bool, precision: torch.dtype = PRECISION
) -> openmm.PythonForce:
    """The force of the committee's mean on the atoms of `molecules`, as either engine places them.

    All particles are passed on, oscillators and sites too: OpenMM 8.6.1 misplaces the positions of a subset.
    """
    force = openmm.PythonForce(neural_function(term, molecules, periodic, precision))
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName(NAME)
    return force


def neural_function(
    term: NeuralTerm, molecules: Sequence[Placed], periodic: bool, precision: torch.dtype = PRECISION
) -> NeuralForce:
    """What the force of `molecules` calls, which also tells the spread over the committee."""
    species = list({m.species.name: m.species for m in molecules}.values())
    kinds, numbers = AtomKinds.of(species)
    kind_of = {s.name: number for s, number in zip(species, numbers, strict=True)}
    return NeuralForce(
        term=term.to(precision),
        kinds=kinds.to(precision),
        kind=torch.cat([kind_of[m.species.name] for m in molecules]),
        atoms=np.array([index for m in molecules for index in m.atoms]),
        molecule=np.repeat(np.arange(len(molecules)), [len(m.atoms) for m in molecules]),
        bonds=bonds_seen(term.architecture.variant, [m.species for m in molecules]),
        periodic=periodic,
    )


@dataclass(frozen=True)
class NeighbourList:
    """Pairs (2, P) of atoms in different molecules within CUTOFF + SKIN, and where atoms (A, 3) and box
    (3, 3) were when it was made, nm; no box in vacuum."""

    pairs: Tensor
    xyz: Floats
    box: Floats | None

    @classmethod
    def of(cls, xyz: Floats, box: Floats | None, molecule: NDArray[np.int_]) -> NeighbourList:
        """Find the pairs."""
        found = close_pairs(xyz, box, CUTOFF + SKIN)
        found = found[molecule[found[:, 0]] != molecule[found[:, 1]]]
        return cls(torch.from_numpy(np.ascontiguousarray(found.T)), xyz, box)

    def serves(self, xyz: Floats, box: Floats | None) -> bool:
        """Whether no pair can have come within the cut-off that is not in the list. Atoms may have crossed
        the box, and the box may have changed: the list's positions are stretched with it first."""
        if (box is None) != (self.box is None):
            return False
        moved, strain = xyz - self.xyz, 0.0
        if box is not None and self.box is not None:
            if not np.array_equal(box, self.box):
                stretch = np.linalg.solve(self.box, box)
                strain = float(np.linalg.norm(stretch - np.eye(3), 2))
                moved = xyz - self.xyz @ stretch
            moved = minimum_image(moved, box)
        longest = float(np.sqrt((moved**2).sum(1).max()))
        return 2.0 * longest + strain * (CUTOFF + SKIN) < SKIN


class NeuralForce:
    """What the PythonForce calls: energy (kJ/mol) and forces (n_particles, 3) in kJ/mol/nm of a State."""

    def __init__(
        self,
        term: NeuralTerm,
        kinds: AtomKinds,
        kind: Tensor,
        atoms: NDArray[np.int_],
        molecule: NDArray[np.int_],
        bonds: Tensor,
        periodic: bool,
    ) -> None:
        self.term, self.kinds, self.kind = term, kinds, kind
        self.atoms, self.molecule, self.bonds, self.periodic = atoms, molecule, bonds, periodic
        self.lists: tuple[NeighbourList, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lists": ()}

    def __call__(self, state: openmm.State) -> tuple[float, Floats]:
        positions = state.getPositions(asNumpy=True)._value
        box = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value) if self.periodic else None
        energy, forces = self.evaluate(positions[self.atoms], box)
        of_all = np.zeros_like(positions)
        of_all[self.atoms] = forces
        return energy, of_all

    def evaluate(self, xyz: Floats, box: Floats | None) -> tuple[float, Floats]:
        """Energy and forces on atoms at xyz (A, 3) in nm."""
        pairs, vectors = self._near(xyz, box)
        if not pairs.between.shape[1]:
            return 0.0, np.zeros_like(xyz)
        vectors.requires_grad_(True)
        sums = neighbour_sums(self.term.architecture.variant, self.kinds, self.kind, pairs, vectors)
        energy = atomic_energies(self.term, self.kinds, self.kind, sums).mean(0).double().sum()
        (slope,) = torch.autograd.grad(energy, vectors)
        return energy.item(), pair_forces(pairs.all, slope.double(), len(xyz)).numpy()

    def spread(self, xyz: Floats, box: Floats | None) -> tuple[float, Floats]:
        """Standard deviations over the committee, atoms at xyz (A, 3) in nm: of the energy (kJ/mol), and (A,)
        of the force on each atom (kJ/mol/nm). One call costs as much as a few steps."""
        found = predict_pairs(self.term, self.kinds, self.kind, *self._near(xyz, box))
        return found.energy_spread, found.forces_spread.double().numpy()

    def _near(self, xyz: Floats, box: Floats | None) -> tuple[Pairs, Tensor]:
        """Pairs within the cut-off and bonds, and (P + B, 3) vectors between them."""
        listed, places = self._neighbours(xyz, box).pairs, torch.from_numpy(xyz)
        gaps, ways = (
            minimum_image_torch(places[second] - places[first], box) for first, second in (listed, self.bonds)
        )
        near = torch.nonzero((gaps**2).sum(1) < CUTOFF**2).ravel()
        vectors = torch.cat([gaps[near], ways]).to(self.kinds.exponents.dtype)
        return Pairs(listed[:, near], self.bonds), vectors

    def _neighbours(self, xyz: Floats, box: Floats | None) -> NeighbourList:
        for kept in self.lists:
            if kept.serves(xyz, box):
                return kept
        made = NeighbourList.of(xyz, box, self.molecule)
        self.lists = (made, *self.lists)[:KEPT_LISTS]
        return made


def close_pairs(xyz: Floats, box: Floats | None, reach: float) -> NDArray[np.int_]:
    """(P, 2) distinct pairs whose nearest images are within `reach` nm, in any periodic box (rows of `box`)
    wider than `reach`."""
    if box is None:
        return cKDTree(xyz).query_pairs(reach, output_type="ndarray")
    inverse = np.linalg.inv(box)
    fraction = xyz @ inverse
    fraction = fraction - np.floor(fraction)
    margin = reach * np.linalg.norm(inverse, axis=0)
    images = fraction[None] + HALF_SHELL[:, None]
    shell, number = np.nonzero(((images > -margin) & (images < 1.0 + margin)).all(axis=2))
    tree, ghosts = cKDTree(fraction @ box), cKDTree(images[shell, number] @ box)
    across = tree.sparse_distance_matrix(ghosts, reach, output_type="ndarray")
    inside = tree.query_pairs(reach, output_type="ndarray")
    pairs = np.vstack([inside, np.column_stack([across["i"], number[across["j"]]])])
    if (margin > 0.5).any():  # so small a box that two images of an atom can be within reach
        pairs = np.unique(np.sort(pairs, axis=1), axis=0)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs


def minimum_image(vectors: Floats, box: Floats) -> Floats:
    """(P, 3) periodic images, the shortest ones below half the box's diagonal elements (OpenMM's rule)."""
    return minimum_image_torch(torch.from_numpy(vectors), box).numpy()


def minimum_image_torch(vectors: Tensor, box: Floats | None) -> Tensor:
    """The same for tensors; unchanged without a box."""
    if box is None:
        return vectors
    for axis in (2, 1, 0):
        turns = torch.round(vectors[:, axis] / box[axis, axis])
        vectors = vectors - turns[:, None] * torch.from_numpy(box[axis])
    return vectors
