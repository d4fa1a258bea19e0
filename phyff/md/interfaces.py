"""What molecular dynamics needs from a force field, so that `phyff.md` depends on no particular realisation.

Units: nm, kJ/mol, e, ps, amu, K throughout.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ConformerLike(Protocol):
    """One rigid shape of a species."""

    @property
    def xyz_nm(self) -> Any:
        """Coordinates, (n_atoms, 3) in nm, map order."""

    @property
    def weight(self) -> float:
        """Boltzmann weight; weights need not sum to one."""


class SpeciesLike(Protocol):
    """A fitted molecule or ion."""

    @property
    def name(self) -> str:
        """Library name, e.g. "EC"."""

    @property
    def smiles(self) -> str:
        """Canonical SMILES."""

    @property
    def mapped_smiles(self) -> str:
        """SMILES with every atom mapped 1..N in atom order."""

    @property
    def charge(self) -> int:
        """Net charge in e."""

    @property
    def elements(self) -> Sequence[str]:
        """Element symbols, length n_atoms, map order."""

    @property
    def conformers(self) -> Sequence[ConformerLike]:
        """At least one conformer, lowest energy first."""


class ForceFieldLike(Protocol):
    """The methods of `phyff.ForceField` that a run uses."""

    @property
    def species(self) -> Sequence[SpeciesLike]:
        """All species of the force field."""

    def topology(self, counts: Sequence[tuple[str, int]], box_nm: float | None) -> Any:
        """`openmm.app.Topology`: one residue a molecule; atoms, then Drude particles, then virtual sites."""

    def create_system(self, topology: Any, cutoff_nm: float | None = 0.8) -> Any:
        """`openmm.System` without thermostat or barostat."""

    def place(self, topology: Any, atom_xyz_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_particles, 3) positions in nm from the (n_atoms, 3) positions of the real atoms."""

    def integrator(self, temperature: float, timestep_fs: float = 1.0, friction: float = 5.0) -> Any:
        """A Drude Langevin integrator: K, fs, 1/ps; Drudes at 1 K behind a hard wall."""

    def atom_indices(self, topology: Any) -> NDArray[np.int_]:
        """Particle indices of the real atoms, (n_atoms,)."""

    def committee(
        self, topology: Any
    ) -> Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
        """Of the neural term, if it is watched: from real atoms (n_atoms, 3) and box vectors (3, 3) to the
        standard deviations over its members of the energy, and (n_atoms,) of the forces."""

    def save(self, path: Path) -> None:
        """Write the force field as one file, the same bytes for the same force field."""
