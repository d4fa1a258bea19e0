"""Sanity checks of a running simulation: each violation is one sentence naming the molecule."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phyff.md.packing import closest_contact

MAX_FORCE = 2e5
"""kJ/mol/nm on one atom; thermal forces of stiff bonds at 400 K stay below 2e4."""
BOND_STRETCH = (0.6, 1.5)
"""Allowed bond length over the length in the conformer."""
FUSED_NM = 0.09
"""Atoms of two molecules never come this close in a liquid, hydrogen bonds included."""
WALL_CHECKS = 3
"""A Drude particle found at the hard wall in this many consecutive checks has run away."""
DENSITY_RANGE = (0.3, 2.5)
"""Allowed density over the estimate."""
DRIFT_RANGE = (0.6, 1.6)
"""Outside this range a density that has moved one way for DRIFT_CHECKS checks counts as a runaway."""
DRIFT_CHECKS = 8


@dataclass
class Guard:
    """Checks one system; remembers Drude hits and densities between checks.

    Attributes:
        molecule: owner of each particle, (n_particles,), from 0.
        species: species name of each molecule.
        atom_names: name of each particle.
        atoms: particle indices of real atoms, (n_atoms,).
        bonds: particle index pairs, (n_bonds, 2).
        bond_lengths: in the conformer, (n_bonds,), nm.
        drudes: (n_drudes, 2) pairs (Drude particle, parent).
        hard_wall: largest Drude displacement the integrator allows, nm; 0 means none.
        density_estimate: g/cm3.
    """

    molecule: NDArray[np.int_]
    species: list[str]
    atom_names: list[str]
    atoms: NDArray[np.int_]
    bonds: NDArray[np.int_]
    bond_lengths: NDArray[np.float64]
    drudes: NDArray[np.int_]
    hard_wall: float
    density_estimate: float
    wall_hits: NDArray[np.int_] = field(init=False)
    densities: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh, as at the start of a stage."""
        self.wall_hits = np.zeros(len(self.drudes), dtype=int)
        self.densities = []

    def label(self, particle: int) -> str:
        """E.g. "EC (residue 12, atom C3)"."""
        molecule = int(self.molecule[particle])
        return f"{self.species[molecule]} (residue {molecule + 1}, atom {self.atom_names[particle]})"

    def numbers(
        self, positions: NDArray[np.float64], velocities: NDArray[np.float64], energy: float
    ) -> str | None:
        """Something that is not a finite number, as a sentence, or None."""
        bad = ~np.isfinite(positions).all(axis=1) | ~np.isfinite(velocities).all(axis=1)
        if bad.all():
            return "every coordinate became not-a-number"
        if bad.any():
            return f"the coordinates of {self.label(int(np.argmax(bad)))} became not-a-number"
        if not np.isfinite(energy):
            return "the potential energy became not-a-number"
        return None

    def structure(
        self, positions: NDArray[np.float64], forces: NDArray[np.float64], edge_nm: float
    ) -> str | None:
        """A broken molecule, fused molecules or a huge force in finite (n_particles, 3) arrays, or None."""
        if len(self.bonds):
            delta = positions[self.bonds[:, 0]] - positions[self.bonds[:, 1]]
            ratio = np.linalg.norm(delta, axis=1) / self.bond_lengths
            worst = int(np.argmax(np.abs(np.log(np.maximum(ratio, 1e-6)))))
            if not BOND_STRETCH[0] < ratio[worst] < BOND_STRETCH[1]:
                first, second = self.bonds[worst]
                return (
                    f"{self.label(int(first))} is torn: its bond to {self.atom_names[second]} is "
                    f"{ratio[worst] * self.bond_lengths[worst]:.3f} nm "
                    f"instead of {self.bond_lengths[worst]:.3f} nm"
                )
        fused = closest_contact(positions[self.atoms], self.molecule[self.atoms], edge_nm, FUSED_NM)
        if fused is not None:
            first, second = (self.label(int(self.atoms[k])) for k in fused[:2])
            return f"{first} and {second} fused: they are {fused[2]:.3f} nm apart"
        size, worst = self._largest_force(forces)
        return None if size < MAX_FORCE else f"the force on {self.label(worst)} is {size:.3g} kJ/mol/nm"

    def hardest(self, forces: NDArray[np.float64]) -> str:
        """The atom under the largest force, as a sentence about the step before everything broke."""
        size, worst = self._largest_force(forces)
        return f"the integration broke just after {self.label(worst)} felt {size:.3g} kJ/mol/nm"

    def names_a_molecule(self, found: str) -> bool:
        """Whether a sentence, ours or OpenMM's, says where the trouble is."""
        return "(residue " in found

    def _largest_force(self, forces: NDArray[np.float64]) -> tuple[float, int]:
        """Size (kJ/mol/nm) and particle index; an atom bears the force on its Drude particle too."""
        total = forces.copy()
        np.add.at(total, self.drudes[:, 1], forces[self.drudes[:, 0]])
        size = np.linalg.norm(total[self.atoms], axis=1)
        worst = int(np.argmax(np.where(np.isfinite(size), size, np.inf)))
        return float(size[worst]), int(self.atoms[worst])

    def drude(self, positions: NDArray[np.float64]) -> str | None:
        """A Drude particle that sits at the hard wall for the WALL_CHECKS-th check running, or None."""
        if not len(self.drudes) or self.hard_wall <= 0.0:
            return None
        reach = np.linalg.norm(positions[self.drudes[:, 0]] - positions[self.drudes[:, 1]], axis=1)
        self.wall_hits = np.where(reach > 0.97 * self.hard_wall, self.wall_hits + 1, 0)
        worst = int(np.argmax(self.wall_hits))
        if self.wall_hits[worst] < WALL_CHECKS:
            return None
        return (
            f"the Drude particle of {self.label(int(self.drudes[worst, 1]))} stays at the hard wall "
            f"({self.hard_wall:.3f} nm): a polarization catastrophe"
        )

    def density(self, density: float, positions: NDArray[np.float64], edge_nm: float) -> str | None:
        """A density (g/cm3) out of range or running away, naming the closest molecules, or None."""
        self.densities.append(density)
        ratio = density / self.density_estimate
        recent = np.diff(self.densities[-DRIFT_CHECKS - 1 :])
        steady = len(recent) == DRIFT_CHECKS and bool(np.all(recent < 0) or np.all(recent > 0))
        low, high = DRIFT_RANGE if steady else DENSITY_RANGE
        if low < ratio < high:
            return None
        what = "the box is evaporating" if ratio <= low else "the box is collapsing"
        close = closest_contact(positions[self.atoms], self.molecule[self.atoms], edge_nm, 0.5 * edge_nm)
        where = ""
        if close is not None:
            first, second = (self.label(int(self.atoms[k])) for k in close[:2])
            where = f"; the closest molecules are {first} and {second}, {close[2]:.3f} nm apart"
        return f"{what}: {density:.3f} g/cm3 against the estimate of {self.density_estimate:.3f}{where}"
