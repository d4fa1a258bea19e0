"""Nuclear gradient of a `DenseRKS` with dense matrix products; response of the fitting basis included, of
the grid not.

The density-fitted energy is 1/2 d V^-1 d - 1/4 sum_ij B_ij U^-1 B_ij, with d_P = (P|mn) D_mn over 1/r, and
B_Pij = (P|ij) over the functional's exchange operator. Only derivatives of the left basis function in (m
n|P) are evaluated; those of the fitting function follow from translational invariance. Atomic units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.linalg
from pyscf import df, dft, gto
from pyscf.df.grad.rhf import _int3c_wrapper
from pyscf.grad import rhf as rhf_gradient

from phyff.qm.scf import DenseRKS, _orthonormalised, occupied_factor

Evaluated = TypeVar("Evaluated")
BLOCK_DOUBLES = 3e7
"""Largest block of derivative integrals or tabulated orbitals, in double-precision numbers."""


def nuclear_gradient(mf: DenseRKS, auxbasis: str) -> np.ndarray:
    """(N, 3) gradient (hartree/bohr) of a converged DenseRKS; the net force left by the grid is taken off."""
    return nuclear_gradients([mf], auxbasis)[0]


def nuclear_gradients(fields: Sequence[DenseRKS], auxbasis: str) -> list[np.ndarray]:
    """The same of several that share basis, grid and functional, as a cluster and its monomers among ghosts
    do: derivatives of integrals and orbitals, most of the work, are evaluated once."""
    densities = [_FittedDensity.of(mf, auxbasis) for mf in fields]
    repulsions = _two_electron(fields[0], densities, auxbasis)
    by_functions = _exchange_correlation(fields[0], [density.occupied for density in densities])
    gradients = []
    for mf, density, repulsion, by_function in zip(fields, densities, repulsions, by_functions, strict=True):
        gradient = np.array(rhf_gradient.grad_nuc(mf.mol)) + _core_attraction(mf, density.dm) + repulsion
        gradient += _sum_by_atom(mf.mol, _energy_weighted_overlap(mf) + by_function)
        gradients.append(np.asarray(gradient - gradient.mean(axis=0)))
    return gradients


@dataclass(frozen=True)
class _FittedDensity:
    """A density matrix (nao, nao) with its occupied factor (nao, nocc), the fit of its Coulomb potential
    (naux,) and of its exchange, (naux, nocc, nocc) or None for a pure functional."""

    dm: np.ndarray
    occupied: np.ndarray
    coulomb: np.ndarray
    exchange: np.ndarray | None

    @classmethod
    def of(cls, mf: DenseRKS, auxbasis: str) -> _FittedDensity:
        dm = np.asarray(mf.make_rdm1())
        occupied = occupied_factor(dm)
        packed = dm[np.tril_indices(len(dm))] * 2.0
        packed[np.cumsum(np.arange(1, len(dm) + 1)) - 1] *= 0.5
        coulomb = scipy.linalg.cho_solve(mf.dense.metric, mf.dense.coulomb @ packed)
        exchange = None
        if mf.dense.exchange is not None:
            mol, auxmol = mf.mol, df.addons.make_auxmol(mf.mol, auxbasis)
            metric = np.zeros((auxmol.nao, auxmol.nao))
            for omega, _, factor in _operators(mf):
                metric += factor * _with_range(mol, auxmol, omega, lambda: auxmol.intor("int2c2e"))
            whitening = _orthonormalised(np.eye(auxmol.nao), metric)
            half = mf.dense.exchange @ occupied.astype(mf.dense.exchange.dtype)  # (rank, nao, nocc)
            exchange = np.tensordot(whitening.T, occupied.T @ half, axes=(1, 0))
        return cls(dm, occupied, coulomb, exchange)

    def pair_weight(self, coulomb: float, exchange: float) -> np.ndarray:
        """(naux, naux) what derivatives of the two-centre integrals are multiplied by."""
        weight = -0.5 * coulomb * np.outer(self.coulomb, self.coulomb)
        if self.exchange is not None:
            flat = self.exchange.reshape(len(self.exchange), -1)
            weight += 0.25 * exchange * (flat @ flat.T)
        return weight


def _operators(mf: DenseRKS) -> list[tuple[float, float, float]]:
    """Range parameter, factor of Coulomb and factor of exchange of each operator."""
    omega, long_range, short_range = mf._numint.rsh_and_hybrid_coeff(mf.xc, mf.mol.spin)
    operators = [(0.0, 1.0, short_range)]
    if omega:
        operators.append((omega, 0.0, long_range - short_range))
    return operators


def _core_attraction(mf: DenseRKS, dm: np.ndarray) -> np.ndarray:
    derivative = rhf_gradient.Gradients(mf).hcore_generator(mf.mol)
    return np.array([np.einsum("xmn,mn->x", derivative(atom), dm) for atom in range(mf.mol.natm)])


def _energy_weighted_overlap(mf: DenseRKS) -> np.ndarray:
    """(3, nao) overlap part by basis function, 2 W_mn (d m|n)."""
    filled = mf.mo_occ > 0
    orbitals = mf.mo_coeff[:, filled]
    weighted = (orbitals * (mf.mo_occ * mf.mo_energy)[filled]) @ orbitals.T
    return np.asarray(2.0 * np.einsum("xmn,mn->xm", mf.mol.intor("int1e_ipovlp"), weighted))


def _exchange_correlation(mf: DenseRKS, occupied: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(3, nao) exchange-correlation part by basis function, on a fixed grid, for each occupied factor."""
    coords, weights, nao = mf.grids.coords, mf.grids.weights, mf.mol.nao
    totals = [np.zeros((3, nao)) for _ in occupied]
    second = {(0, 0): 4, (0, 1): 5, (0, 2): 6, (1, 1): 7, (1, 2): 8, (2, 2): 9}
    block = max(1000, int(BLOCK_DOUBLES / (10 * nao)))
    for start in range(0, len(weights), block):
        points = slice(start, start + block)
        ao = dft.numint.eval_ao(mf.mol, coords[points], deriv=2)
        for total, own in zip(totals, occupied, strict=True):
            half = [ao[k] @ own for k in range(4)]
            rho = np.empty((4, len(ao[0])))
            rho[0] = np.einsum("gi,gi->g", half[0], half[0])
            for k in (1, 2, 3):
                rho[k] = 2.0 * np.einsum("gi,gi->g", half[0], half[k])
            wv = weights[points] * mf._numint.eval_xc_eff(mf.xc, rho, deriv=1, xctype="GGA")[1]
            density = half[0] @ own.T
            left = wv[0][:, None] * half[0]
            for k in (1, 2, 3):
                left += wv[k][:, None] * half[k]
            left = left @ own.T
            for x in range(3):
                right = sum(wv[y + 1][:, None] * ao[second[min(x, y), max(x, y)]] for y in range(3))
                total[x] -= 2.0 * (
                    np.einsum("gm,gm->m", ao[x + 1], left) + np.einsum("gm,gm->m", right, density)
                )
    return totals


def _two_electron(mf: DenseRKS, densities: Sequence[_FittedDensity], auxbasis: str) -> list[np.ndarray]:
    """(N, 3) Coulomb and exact-exchange part for each density."""
    mol = mf.mol
    auxmol = df.addons.make_auxmol(mol, auxbasis)
    gradients = [np.zeros((mol.natm, 3)) for _ in densities]
    for omega, coulomb, exchange in _operators(mf):
        three = _with_range(mol, auxmol, omega, lambda: _int3c_wrapper(mol, auxmol, "int3c2e_ip1", "s1"))
        two = _with_range(mol, auxmol, omega, lambda: auxmol.intor("int2c2e_ip1"))
        sums = _three_centre(three, mol, auxmol, coulomb, exchange, densities)
        for gradient, density, (by_function, by_auxiliary) in zip(gradients, densities, sums, strict=True):
            by_auxiliary -= 2.0 * np.einsum("xpq,pq->xp", two, density.pair_weight(coulomb, exchange))
            gradient += _sum_by_atom(mol, by_function) + _sum_by_atom(auxmol, by_auxiliary)
    return gradients


def _three_centre(
    derivative: Callable[..., np.ndarray],
    mol: gto.Mole,
    auxmol: gto.Mole,
    coulomb: float,
    exchange: float,
    densities: Sequence[_FittedDensity],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gradient (3, nao) and (3, naux), by function, of sum_P,mn (P|mn) (coulomb d_P D_mn - exchange/2 (X Y_P
    X^T)_mn) for each density."""
    nao, location = mol.nao, auxmol.ao_loc
    sums = [(np.zeros((3, nao)), np.zeros((3, auxmol.nao))) for _ in densities]
    block = max(1, int(BLOCK_DOUBLES / (4 * nao * nao)))
    first = 0
    while first < auxmol.nbas:
        last = first + 1
        while last < auxmol.nbas and location[last + 1] - location[first] <= block:
            last += 1
        p = slice(location[first], location[last])
        integrals = derivative((0, mol.nbas, 0, mol.nbas, first, last)).transpose(0, 3, 2, 1)
        for density, (by_function, by_auxiliary) in zip(densities, sums, strict=True):
            pair = coulomb * density.coulomb[p, None, None] * density.dm
            if density.exchange is not None and exchange:
                pair -= 0.5 * exchange * (density.occupied @ density.exchange[p]) @ density.occupied.T
            for x in range(3):
                product = np.einsum("pnm,pnm->pm", integrals[x], pair)
                by_function[x] -= 2.0 * product.sum(axis=0)
                by_auxiliary[x, p] += 2.0 * product.sum(axis=1)
        first = last
    return sums


def _with_range(
    mol: gto.Mole, auxmol: gto.Mole, omega: float, evaluate: Callable[[], Evaluated]
) -> Evaluated:
    """`evaluate()` with erf(omega r)/r in place of 1/r (omega 0: 1/r itself)."""
    with mol.with_range_coulomb(omega), auxmol.with_range_coulomb(omega):
        return evaluate()


def _sum_by_atom(mol: gto.Mole, by_function: np.ndarray) -> np.ndarray:
    """(N, 3) sums of (3, nao) over the functions of each atom."""
    slices = mol.aoslice_by_atom()[:, 2:]
    return np.array([by_function[:, start:stop].sum(axis=1) for start, stop in slices])
