"""Closed-shell Kohn-Sham in PySCF with dense matrix products, and VV10 after the SCF.

Everything is PySCF's (integrals, grids, libxc, DIIS); only the Fock build is ours: with at most a few hundred
basis functions, plain matrix products over a density-fitted tensor and tabulated orbitals beat the screened
loops by three to four times on one core. Range-separated exchange is one fitted tensor of the combined
operator c_x/r + (c_lr - c_x) erf(omega r)/r, so it costs no more than a global hybrid. Atomic units
throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from pyscf import df, dft, gto, lib

OCCUPATION_CUTOFF = 1e-9
"""Eigenvalues of a density matrix below this (of at most two) are treated as empty."""
NEGLIGIBLE = 1e-12
"""Tabulated numbers below this are zero: their products would be denormal, which is 50 times slower."""
TABLE_PRECISION = np.float32
"""Of basis functions on the grid. It leaves 0.004 to 0.014 kJ/mol, by starting guess and number of threads,
on a three-body energy of Li+ and two argon atoms, the sum of seven; double takes twice the memory."""
GRID_BLOCK = 1024
"""Grid points handled at a time, so that a block of orbitals stays in the cache."""


@dataclass
class DenseBasis:
    """What depends on the basis functions and grid only, shared by every density in that basis.

    Attributes:
        coulomb: (naux, nao*(nao+1)/2) packed three-centre integrals (P|mn).
        metric: Cholesky factor of (P|Q), as scipy.linalg.cho_solve takes it.
        exchange: (naux, nao, nao) single-precision tensor of the functional's exchange operator, or None for
            a pure functional (single precision moves an interaction energy of the EC dimer by less than 0.01
            kJ/mol).
        grids: DFT grid on all centres, ghosts included (grid errors cancel between dimer and monomers).
        orbitals: (4, npoints, nao) basis functions and their x, y, z derivatives on the grid, single
            precision.
    """

    coulomb: np.ndarray
    metric: tuple[np.ndarray, bool]
    exchange: np.ndarray | None
    grids: Any
    orbitals: np.ndarray

    @classmethod
    def build(cls, mol: gto.Mole, functional: str, auxbasis: str, grid_level: int) -> DenseBasis:
        """Integrals and tabulated orbitals for the basis of `mol`."""
        omega, long_range, short_range = dft.numint.NumInt().rsh_and_hybrid_coeff(functional, mol.spin)
        auxmol = df.addons.make_auxmol(mol, auxbasis)
        coulomb_3c, coulomb_2c = _fitting_integrals(mol, auxmol)
        exchange = None
        if omega or short_range:
            exchange_3c, exchange_2c = short_range * coulomb_3c, short_range * coulomb_2c
            if omega:
                with mol.with_range_coulomb(omega), auxmol.with_range_coulomb(omega):
                    long_3c, long_2c = _fitting_integrals(mol, auxmol)
                exchange_3c = exchange_3c + (long_range - short_range) * long_3c
                exchange_2c = exchange_2c + (long_range - short_range) * long_2c
            exchange = lib.unpack_tril(_orthonormalised(exchange_3c, exchange_2c))
        metric = scipy.linalg.cho_factor(coulomb_2c, lower=True)
        grids = dft.gen_grid.Grids(mol)
        grids.level = grid_level
        grids.build(with_non0tab=False, sort_grids=False)
        return cls(coulomb_3c, metric, exchange, grids, tabulated_orbitals(mol, grids.coords))


class DenseRKS(dft.rks.RKS):  # type: ignore[misc]
    """PySCF's RKS with the Fock build replaced by dense matrix products over a `DenseBasis`. GGAs only."""

    def __init__(self, mol: gto.Mole, functional: str, basis: DenseBasis) -> None:
        super().__init__(mol, xc=functional)
        self.dense = basis
        self.grids = basis.grids
        self.nlc = 0
        self.conv_tol, self.conv_tol_grad = 2e-6, 1e-3
        self.conv_check = False
        self.verbose = 0
        self._keys: set[str] = self._keys.union({"dense"})

    def get_veff(
        self, mol: Any = None, dm: Any = None, dm_last: Any = None, vhf_last: Any = None, hermi: int = 1
    ) -> np.ndarray:
        """Coulomb, exchange and exchange-correlation potential, tagged with ecoul and exc for PySCF."""
        if dm is None:
            dm = self.make_rdm1()
        dm = np.asarray(dm)
        occupied = occupied_factor(dm)
        coulomb = coulomb_matrix(self.dense, dm)
        exc, potential = _exchange_correlation(self, occupied)
        if self.dense.exchange is not None:
            exchange = _exchange_matrix(self.dense.exchange, occupied)
            potential -= 0.5 * exchange
            exc -= 0.25 * float(np.vdot(exchange, dm))
        ecoul = 0.5 * float(np.vdot(coulomb, dm))
        return lib.tag_array(coulomb + potential, ecoul=ecoul, exc=exc, vj=None, vk=None)


def run_rks(
    mol: gto.Mole, functional: str, auxbasis: str, grid_level: int, dm0: np.ndarray | None = None
) -> DenseRKS:
    """One converged closed-shell SCF (without VV10).

    Raises:
        RuntimeError: the SCF does not converge, even with a level shift.
    """
    return converge(DenseRKS(mol, functional, DenseBasis.build(mol, functional, auxbasis, grid_level)), dm0)


def converge(mf: DenseRKS, dm0: np.ndarray | None = None) -> DenseRKS:
    """Run to convergence; a level shift and more cycles are tried before giving up."""
    mf.kernel(dm0)
    if not mf.converged:
        mf.level_shift, mf.max_cycle = 0.2, 150
        mf.kernel(mf.make_rdm1())
    if not mf.converged:
        raise RuntimeError(f"SCF did not converge for {mf.mol.atom_pure_symbol(0)}... ({mf.mol.natm} atoms)")
    return mf


def coulomb_matrix(basis: DenseBasis, dm: np.ndarray) -> np.ndarray:
    """(nao, nao) Coulomb matrix of density matrix `dm`."""
    packed = lib.pack_tril(dm + dm.T - np.diag(np.diag(dm)))
    fitted = scipy.linalg.cho_solve(basis.metric, basis.coulomb @ packed)
    return lib.unpack_tril(fitted @ basis.coulomb)


def occupied_factor(dm: np.ndarray) -> np.ndarray:
    """(nao, nocc) matrix X with X X^T equal to the density matrix, a column for each occupied orbital."""
    values, vectors = scipy.linalg.eigh(dm, driver="evd")
    keep = values > OCCUPATION_CUTOFF
    return vectors[:, keep] * np.sqrt(values[keep])


def tabulated_orbitals(mol: gto.Mole, points: np.ndarray) -> np.ndarray:
    """(4, npoints, nao) basis functions and their derivatives at `points`, in TABLE_PRECISION."""
    table = np.empty((4, len(points), mol.nao), dtype=TABLE_PRECISION)
    for start in range(0, len(points), 8 * GRID_BLOCK):
        block = slice(start, start + 8 * GRID_BLOCK)
        table[:, block] = dft.numint.eval_ao(mol, points[block], deriv=1)
    table[np.abs(table) < NEGLIGIBLE] = 0.0
    return table


def density_on_grid(orbitals: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """(4, npoints) density and gradient from orbitals (4, npoints, nao) and occupied factor (nao, nocc)."""
    occupied = occupied.astype(orbitals.dtype)
    tabulated = orbitals[0] @ occupied
    rho = np.empty((4, orbitals.shape[1]))
    rho[0] = np.einsum("gi,gi->g", tabulated, tabulated)
    for axis in (1, 2, 3):
        rho[axis] = 2.0 * np.einsum("gi,gi->g", tabulated, orbitals[axis] @ occupied)
    return rho


def nonlocal_grid(
    mol: gto.Mole, radial_angular: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3), weights (n,) and tabulated orbitals (4, n, nao) of the coarse grid of VV10."""
    grids = dft.gen_grid.Grids(mol)
    grids.atom_grid = {mol.atom_symbol(i): radial_angular for i in range(mol.natm)}
    grids.build(with_non0tab=False, sort_grids=False)
    return grids.coords, grids.weights, tabulated_orbitals(mol, grids.coords)


def vv10_energy(
    points: np.ndarray, weights: np.ndarray, rho: np.ndarray, b: float, c: float, threshold: float = 1e-6
) -> float:
    """VV10 non-local correlation energy of a density (Vydrov and Van Voorhis 2010, doi 10.1063/1.3521275,
    eqs. 4-13).

    Points whose density is below `threshold` are left out. Pairs are summed in single precision, blocks in
    double.
    """
    keep = rho[0] > threshold
    n, gradient_squared = rho[0, keep], (rho[1:, keep] ** 2).sum(axis=0)
    xyz = points[keep] - points[keep].mean(axis=0)
    omega0 = np.sqrt(c * (gradient_squared / n**2) ** 2 + 4.0 * np.pi / 3.0 * n)
    kappa = b * 1.5 * np.pi * (n / (9.0 * np.pi)) ** (1.0 / 6.0)
    beta = (3.0 / b**2) ** 0.75 / 32.0
    charge = torch.tensor(weights[keep] * n)
    r, w, k = (torch.tensor(a, dtype=torch.float32) for a in (xyz, omega0, kappa))
    q, square, size = charge.float(), (r * r).sum(1), 768
    buffers = [torch.empty(size * size) for _ in range(3)]
    total = 0.0
    for i in range(0, len(r), size):
        a = slice(i, i + size)
        for j in range(i, len(r), size):
            d = slice(j, j + size)
            shape = (len(r[a]), len(r[d]))
            r2, g_i, g_j = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
            torch.addmm(square[d].expand(shape), r[a], r[d].T, alpha=-2.0, out=r2).add_(square[a, None])
            torch.addcmul(k[a, None], r2, w[a, None], out=g_i)
            torch.addcmul(k[None, d], r2, w[None, d], out=g_j)
            torch.mul(g_i, g_j, out=r2).mul_(g_i.add_(g_j)).reciprocal_()
            pair = float(charge[a] @ (r2 @ q[d]).double())
            total += pair if j > i else 0.5 * pair
    return float(beta * charge.sum()) - 1.5 * total


def _fitting_integrals(mol: gto.Mole, auxmol: gto.Mole) -> tuple[np.ndarray, np.ndarray]:
    three_centre = df.incore.aux_e2(mol, auxmol, "int3c2e", aosym="s2ij").T
    return np.ascontiguousarray(three_centre), auxmol.intor("int2c2e")


def _orthonormalised(three_centre: np.ndarray, two_centre: np.ndarray) -> np.ndarray:
    try:
        factor = scipy.linalg.cholesky(two_centre, lower=True)
        return scipy.linalg.solve_triangular(factor, three_centre, lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(two_centre)
        keep = values > 1e-8
        return (vectors[:, keep] / np.sqrt(values[keep])).T @ three_centre


def _exchange_matrix(tensor: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    half = np.matmul(occupied.T.astype(tensor.dtype), tensor).reshape(-1, tensor.shape[2])
    return (half.T @ half).astype(float)


def _exchange_correlation(mf: DenseRKS, occupied: np.ndarray) -> tuple[float, np.ndarray]:
    orbitals, weights = mf.dense.orbitals, mf.grids.weights
    half = np.zeros((orbitals.shape[2],) * 2, dtype=orbitals.dtype)
    exc_total = 0.0
    for start in range(0, len(weights), GRID_BLOCK):
        block = orbitals[:, start : start + GRID_BLOCK]
        rho = density_on_grid(block, occupied)
        exc, vxc = mf._numint.eval_xc_eff(mf.xc, rho, deriv=1, xctype="GGA")[:2]
        weight = weights[start : start + GRID_BLOCK]
        exc_total += float(np.dot(weight * rho[0], exc))
        weighted = (weight * vxc).astype(orbitals.dtype)
        weighted[np.abs(weighted) < NEGLIGIBLE] = 0.0
        weighted[0] *= 0.5
        scaled = block[0] * weighted[0][:, None]
        for axis in (1, 2, 3):
            scaled += block[axis] * weighted[axis][:, None]
        half += block[0].T @ scaled
    return exc_total, (half + half.T).astype(float)
