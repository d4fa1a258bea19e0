"""The level of theory: functional, basis sets, grids, named once and stored with every record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pyscf import gto


@dataclass(frozen=True)
class LevelOfTheory:
    """What a quantum record was computed with.

    Attributes:
        name: what people call it.
        functional: of densities, electrostatic potentials, polarizabilities and dimer decompositions (libxc
            name).
        nonlocal_correlation: how the non-local (VV10) part is treated; it does not touch monomer densities.
        basis, auxbasis: orbital and density-fitting sets.
        basis_overrides: (element, basis) pairs where `basis` is not good enough: def2-SVPD gives bare
            cations no function to polarize into.
        grid_level, partition_grid_level: PySCF's DFT grid of the SCF, and of the MBIS partition.
        response_functional: ground state whose orbitals carry the frequency-dependent response (RPA + ALDA),
            which is then scaled to the static polarizability of `functional`.
        geometry_functional, geometry_basis, geometry_auxbasis, geometry_grid_level: the cheaper level of
            minima, Hessians and the gradients behind valence terms.
    """

    name: str
    functional: str
    nonlocal_correlation: str
    basis: str
    basis_overrides: tuple[tuple[str, str], ...]
    auxbasis: str
    grid_level: int
    partition_grid_level: int
    response_functional: str
    geometry_functional: str
    geometry_basis: str
    geometry_auxbasis: str
    geometry_grid_level: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "basis_overrides": [list(pair) for pair in self.basis_overrides]}

    def basis_for(self, element: str) -> str:
        """Orbital basis of an element in density, response and decomposition jobs."""
        return dict(self.basis_overrides).get(element, self.basis)

    def density_key(self) -> dict[str, Any]:
        """The part of the level a density or decomposition depends on."""
        return {
            "functional": self.functional,
            "basis": self.basis,
            "basis_overrides": [list(pair) for pair in self.basis_overrides],
            "auxbasis": self.auxbasis,
            "grid_level": self.grid_level,
        }

    def response_key(self) -> dict[str, Any]:
        """The part of the level a frequency-dependent response depends on."""
        return {**self.density_key(), "functional": self.response_functional}

    def geometry_key(self) -> dict[str, Any]:
        """The part of the level a geometry, Hessian or valence gradient depends on."""
        return {
            "functional": self.geometry_functional,
            "basis": self.geometry_basis,
            "basis_overrides": [],
            "auxbasis": self.geometry_auxbasis,
            "grid_level": self.geometry_grid_level,
        }


PHYFF_2026A = LevelOfTheory(
    name="phyff-2026a",
    functional="wb97x_v",
    nonlocal_correlation="VV10 once after the SCF",
    basis="def2-svpd",
    basis_overrides=(("K", "def2-tzvppd"), ("Li", "def2-tzvppd"), ("Na", "def2-tzvppd")),
    auxbasis="def2-universal-jkfit",
    grid_level=1,
    partition_grid_level=3,
    response_functional="pbe",
    geometry_functional="pbe0",
    geometry_basis="def2-svp",
    geometry_auxbasis="def2-universal-jkfit",
    geometry_grid_level=1,
)


def build_mol(elements: list[str], xyz_bohr: Any, charge: int, key: dict[str, Any]) -> gto.Mole:
    """PySCF molecule of closed-shell `elements` at `xyz_bohr` (N, 3) with the basis sets of a level key."""
    overrides = {element: basis for element, basis in key["basis_overrides"]}
    return gto.M(
        atom=[
            (element, tuple(map(float, position)))
            for element, position in zip(elements, xyz_bohr, strict=True)
        ],
        basis={element: overrides.get(element, key["basis"]) for element in sorted(set(elements))},
        charge=charge,
        unit="Bohr",
        verbose=0,
    )
