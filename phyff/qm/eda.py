"""Energy decomposition of a dimer in the full (counterpoise) basis.

Electrostatics is the Coulomb interaction of the unperturbed monomer densities, exchange the rest of the
Heitler-London energy (it holds the frozen semilocal correlation too), dispersion the VV10 part of the
Heitler-London density, induction the relaxation of that product (polarization and charge transfer).
The four sum to the counterpoise-corrected interaction energy with VV10 evaluated once, on that product.
Atomic units inside, kJ/mol in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from pyscf import dft, gto
from pyscf.symm import Dmatrix

from phyff.qm.level import LevelOfTheory
from phyff.qm.scf import (
    DenseBasis,
    DenseRKS,
    converge,
    coulomb_matrix,
    density_on_grid,
    nonlocal_grid,
    occupied_factor,
    run_rks,
    vv10_energy,
)
from phyff.units import HARTREE_KJ

NONLOCAL_GRID = (25, 50)
"""Radial and angular points of the VV10 grid: an EC dimer's dispersion is within 0.02 kJ/mol of (40, 110)."""
CONVERGENCE = (3e-5, 4e-3)
"""Hartree between cycles, orbital gradient: stops some 3e-6 hartree (0.01 kJ/mol) above convergence."""
SAME_SHAPE_ANGSTROM = 1e-3
"""Atoms closer than this after superposition: the same rigid monomer, whose density need only be rotated."""
_SEEN: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
"""Monomer densities this process has converged, by elements, charge and level: starting guesses only."""


@dataclass(frozen=True)
class Monomer:
    """One species as it stands in a cluster: elements, net charge, positions (n, 3) in angstrom."""

    elements: tuple[str, ...]
    charge: int
    xyz: np.ndarray


@dataclass(frozen=True)
class Fragments:
    """Monomers of a cluster, each converged in the basis of all.

    Attributes:
        whole: the cluster, not converged yet.
        separate: the monomers.
        product: (nao, nao) density matrix of the antisymmetrised product of the monomers.
    """

    whole: DenseRKS
    separate: tuple[DenseRKS, ...]
    product: np.ndarray

    @classmethod
    def of(
        cls, monomers: Sequence[Monomer], level: LevelOfTheory, convergence: tuple[float, float]
    ) -> Fragments:
        """Run the monomers; convergence as CONVERGENCE.

        Raises:
            RuntimeError: an SCF does not converge.
        """
        mol = _molecule(monomers, level)
        basis = DenseBasis.build(mol, level.functional, level.auxbasis, level.grid_level)
        fields = []
        for k, guess in enumerate(_guess_densities(monomers, level)):
            mf = DenseRKS(ghosted(monomers, level, (k,)), level.functional, basis)
            mf.conv_tol, mf.conv_tol_grad = convergence
            fields.append(converge(mf, guess))
        densities = [mf.make_rdm1() for mf in fields]
        product = heitler_london_density(mol.intor_symmetric("int1e_ovlp"), densities)
        whole = DenseRKS(mol, level.functional, basis)
        whole.conv_tol, whole.conv_tol_grad = convergence
        return cls(whole, tuple(fields), product)

    def dispersion(self, level: LevelOfTheory) -> float:
        """VV10 interaction energy of the product density, hartree."""
        points, weights, orbitals = nonlocal_grid(self.whole.mol, NONLOCAL_GRID)
        b, c = dft.libxc.nlc_coeff(level.functional)[0][0]
        densities = [self.product, *(mf.make_rdm1() for mf in self.separate)]
        product, *separate = (
            vv10_energy(points, weights, density_on_grid(orbitals, occupied_factor(dm)), b, c)
            for dm in densities
        )
        return product - sum(separate)


def decompose(first: Monomer, second: Monomer, level: LevelOfTheory) -> dict[str, float]:
    """Electrostatics, exchange, induction, dispersion and their total, kJ/mol.

    Raises:
        RuntimeError: an SCF does not converge.
    """
    fragments = Fragments.of([first, second], level, CONVERGENCE)
    whole = fragments.whole
    product_energy = whole.energy_tot(fragments.product)
    converge(whole, fragments.product)
    separate = sum(mf.e_tot for mf in fragments.separate)
    electrostatics = _electrostatics(fragments)
    parts = {
        "electrostatics": electrostatics,
        "exchange": product_energy - separate - electrostatics,
        "induction": whole.e_tot - product_energy,
        "dispersion": fragments.dispersion(level),
    }
    parts["total"] = sum(parts.values())
    return {name: float(value * HARTREE_KJ) for name, value in parts.items()}


def heitler_london_density(overlap: np.ndarray, densities: Sequence[np.ndarray]) -> np.ndarray:
    """Density matrix of the antisymmetrised product of monomer determinants (symmetric orthogonalisation)."""
    occupied = np.hstack([occupied_factor(dm) for dm in densities])
    metric = occupied.T @ overlap @ occupied / 2.0
    return occupied @ scipy.linalg.solve(metric, occupied.T, assume_a="pos")


def _molecule(monomers: Sequence[Monomer], level: LevelOfTheory) -> gto.Mole:
    atoms = [(e, x) for m in monomers for e, x in zip(m.elements, m.xyz, strict=True)]
    return _build(atoms, sum(m.charge for m in monomers), level)


def ghosted(monomers: Sequence[Monomer], level: LevelOfTheory, real: Sequence[int]) -> gto.Mole:
    """All monomers' basis functions, the nuclei and electrons of the `real` ones only."""
    atoms = []
    for index, monomer in enumerate(monomers):
        prefix = "" if index in real else "ghost-"
        atoms += [(prefix + e, x) for e, x in zip(monomer.elements, monomer.xyz, strict=True)]
    return _build(atoms, sum(monomers[k].charge for k in real), level)


def _build(atoms: list[tuple[str, Any]], charge: int, level: LevelOfTheory) -> gto.Mole:
    elements = {symbol.replace("ghost-", "") for symbol, _ in atoms}
    basis = {prefix + e: level.basis_for(e) for e in elements for prefix in ("", "ghost-")}
    return gto.M(atom=atoms, charge=charge, basis=basis, unit="angstrom", verbose=0)


def _electrostatics(fragments: Fragments) -> float:
    """Coulomb interaction of two monomers, hartree."""
    monomers = [mf.mol for mf in fragments.separate]
    densities = [mf.make_rdm1() for mf in fragments.separate]
    attraction = [mol.intor_symmetric("int1e_nuc") for mol in monomers]
    electrons = np.vdot(coulomb_matrix(fragments.whole.dense, densities[0]), densities[1])
    crossed = np.vdot(attraction[0], densities[1]) + np.vdot(attraction[1], densities[0])
    nuclei = fragments.whole.mol.energy_nuc() - sum(mol.energy_nuc() for mol in monomers)
    return float(electrons + crossed + nuclei)


def _guess_densities(monomers: Sequence[Monomer], level: LevelOfTheory) -> list[np.ndarray]:
    """Monomer densities in the basis of all: those in the monomer's own basis, rotated into place."""
    own = [_oriented_density(m, level) for m in monomers]
    ends = np.cumsum([len(dm) for dm in own])
    guesses = [np.zeros((ends[-1], ends[-1])) for _ in own]
    for guess, dm, end in zip(guesses, own, ends, strict=True):
        block = slice(end - len(dm), end)
        guess[block, block] = dm
    return guesses


def _oriented_density(monomer: Monomer, level: LevelOfTheory) -> np.ndarray:
    mol = _molecule([monomer], level)
    for reference, dm in _SEEN.setdefault((monomer.elements, monomer.charge, level), []):
        rotation = _rotation_onto(reference, monomer.xyz)
        shifted = monomer.xyz - monomer.xyz.mean(0)
        if np.abs((reference - reference.mean(0)) @ rotation.T - shifted).max() < SAME_SHAPE_ANGSTROM:
            turn = _orbital_rotation(mol, rotation)
            return turn @ dm @ turn.T
    dm = run_rks(mol, level.functional, level.auxbasis, level.grid_level).make_rdm1()
    _SEEN[monomer.elements, monomer.charge, level].append((monomer.xyz, dm))
    return dm


def _rotation_onto(reference: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Proper rotation R with xyz = reference @ R.T up to a shift (Kabsch)."""
    a, b = reference - reference.mean(0), xyz - xyz.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (u @ sign @ vt).T


def _orbital_rotation(mol: gto.Mole, rotation: np.ndarray) -> np.ndarray:
    """(nao, nao) matrix that turns orbital coefficients as `rotation` turns the molecule."""
    alpha, beta, gamma = Dmatrix.get_euler_angles(np.eye(3), rotation.T)
    largest = max(mol.bas_angular(b) for b in range(mol.nbas))
    by_momentum = [np.eye(1)] + [
        Dmatrix.Dmatrix(momentum, alpha, beta, gamma, reorder_p=True) for momentum in range(1, largest + 1)
    ]
    blocks = [by_momentum[mol.bas_angular(b)] for b in range(mol.nbas) for _ in range(mol.bas_nctr(b))]
    return scipy.linalg.block_diag(*blocks)
