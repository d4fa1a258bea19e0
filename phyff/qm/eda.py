"""Energy decomposition of a dimer in the full (counterpoise) basis.

Electrostatics is the Coulomb interaction of the unperturbed monomer densities, exchange the rest of the
Heitler-London energy (it holds the frozen semilocal correlation too), dispersion the VV10 part of the
Heitler-London density, induction the relaxation of that product (polarization and charge transfer).
The four sum to the counterpoise-corrected interaction energy with VV10 evaluated once, on that product.
Follows the density-based decomposition of DESIGN.md section 4. Atomic units inside, kJ/mol in the record.
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


def decompose(first: Monomer, second: Monomer, level: LevelOfTheory) -> dict[str, float]:
    """Electrostatics, exchange, induction, dispersion and their total, kJ/mol.

    Raises:
        RuntimeError: an SCF does not converge.
    """
    dimer = _molecule([first, second], level)
    basis = DenseBasis.build(dimer, level.functional, level.auxbasis, level.grid_level)
    monomers = [_ghosted(first, second, level, real=0), _ghosted(first, second, level, real=1)]
    guesses = _guess_densities(first, second, level)
    fields = []
    for mol, guess in zip(monomers, guesses, strict=True):
        mf = DenseRKS(mol, level.functional, basis)
        mf.conv_tol, mf.conv_tol_grad = CONVERGENCE
        fields.append(converge(mf, guess))
    densities = [mf.make_rdm1() for mf in fields]
    product = heitler_london_density(dimer.intor_symmetric("int1e_ovlp"), densities)
    whole = DenseRKS(dimer, level.functional, basis)
    whole.conv_tol, whole.conv_tol_grad = CONVERGENCE
    product_energy = whole.energy_tot(product)
    converge(whole, product)

    separate = sum(mf.e_tot for mf in fields)
    electrostatics = _electrostatics(basis, dimer, monomers, densities)
    dispersion = _dispersion(dimer, [product, *densities], level)
    parts = {
        "electrostatics": electrostatics,
        "exchange": product_energy - separate - electrostatics,
        "induction": whole.e_tot - product_energy,
        "dispersion": dispersion,
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


def _ghosted(first: Monomer, second: Monomer, level: LevelOfTheory, real: int) -> gto.Mole:
    atoms = []
    for index, monomer in enumerate((first, second)):
        prefix = "" if index == real else "ghost-"
        atoms += [(prefix + e, x) for e, x in zip(monomer.elements, monomer.xyz, strict=True)]
    return _build(atoms, (first, second)[real].charge, level)


def _build(atoms: list[tuple[str, Any]], charge: int, level: LevelOfTheory) -> gto.Mole:
    elements = {symbol.replace("ghost-", "") for symbol, _ in atoms}
    basis = {prefix + e: level.basis_for(e) for e in elements for prefix in ("", "ghost-")}
    return gto.M(atom=atoms, charge=charge, basis=basis, unit="angstrom", verbose=0)


def _electrostatics(
    basis: DenseBasis, dimer: gto.Mole, monomers: Sequence[gto.Mole], densities: Sequence[np.ndarray]
) -> float:
    attraction = [mol.intor_symmetric("int1e_nuc") for mol in monomers]
    electrons = np.vdot(coulomb_matrix(basis, densities[0]), densities[1])
    crossed = np.vdot(attraction[0], densities[1]) + np.vdot(attraction[1], densities[0])
    nuclei = dimer.energy_nuc() - sum(mol.energy_nuc() for mol in monomers)
    return float(electrons + crossed + nuclei)


def _dispersion(dimer: gto.Mole, densities: Sequence[np.ndarray], level: LevelOfTheory) -> float:
    points, weights, orbitals = nonlocal_grid(dimer, NONLOCAL_GRID)
    b, c = dft.libxc.nlc_coeff(level.functional)[0][0]
    product, *separate = (
        vv10_energy(points, weights, density_on_grid(orbitals, occupied_factor(dm)), b, c) for dm in densities
    )
    return product - sum(separate)


def _guess_densities(first: Monomer, second: Monomer, level: LevelOfTheory) -> list[np.ndarray]:
    """Monomer densities in the dimer basis: those in the monomer's own basis, rotated into place."""
    own = [_oriented_density(m, level) for m in (first, second)]
    sizes = [len(dm) for dm in own]
    guesses = [np.zeros((sum(sizes),) * 2) for _ in own]
    guesses[0][: sizes[0], : sizes[0]] = own[0]
    guesses[1][sizes[0] :, sizes[0] :] = own[1]
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
