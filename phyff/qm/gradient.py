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
    return combined_gradient([mf], [1.0], auxbasis)


def combined_gradient(fields: Sequence[DenseRKS], factors: Sequence[float], auxbasis: str) -> np.ndarray:
    """(N, 3) sum of factor times gradient over fields that share basis, grid and functional, as a cluster and
    its monomers among ghosts do: derivatives of integrals and orbitals, most of the work, are evaluated and
    contracted once."""
    densities = [_FittedDensity.of(mf, auxbasis) for mf in fields]
    gradient = _two_electron(fields[0], densities, factors, auxbasis)
    by_function = _exchange_correlation(fields[0], [density.occupied for density in densities], factors)
    for mf, density, factor in zip(fields, densities, factors, strict=True):
        gradient += factor * (np.array(rhf_gradient.grad_nuc(mf.mol)) + _core_attraction(mf, density.dm))
        by_function += factor * _energy_weighted_overlap(mf)
    gradient += _sum_by_atom(fields[0].mol, by_function)
    return np.asarray(gradient - gradient.mean(axis=0))


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


def _exchange_correlation(
    mf: DenseRKS, occupied: Sequence[np.ndarray], factors: Sequence[float]
) -> np.ndarray:
    """(3, nao) exchange-correlation part by basis function, on a fixed grid: factor times that of each
    occupied matrix, summed."""
    coords, weights, nao = mf.grids.coords, mf.grids.weights, mf.mol.nao
    total = np.zeros((3, nao))
    second = {(0, 0): 4, (0, 1): 5, (0, 2): 6, (1, 1): 7, (1, 2): 8, (2, 2): 9}
    block = max(1000, int(BLOCK_DOUBLES / (14 * nao)))
    for start in range(0, len(weights), block):
        points = slice(start, start + block)
        ao = dft.numint.eval_ao(mf.mol, coords[points], deriv=2)
        with_slopes = np.zeros(ao[0].shape)
        with_curvatures = np.zeros((3, *ao[0].shape))
        for own, factor in zip(occupied, factors, strict=True):
            half = [ao[k] @ own for k in range(4)]
            rho = np.empty((4, len(ao[0])))
            rho[0] = np.einsum("gi,gi->g", half[0], half[0])
            for k in (1, 2, 3):
                rho[k] = 2.0 * np.einsum("gi,gi->g", half[0], half[k])
            wv = mf._numint.eval_xc_eff(mf.xc, rho, deriv=1, xctype="GGA")[1]
            wv = factor * weights[points] * wv
            density = half[0] @ own.T
            left = wv[0][:, None] * half[0]
            for k in (1, 2, 3):
                left += wv[k][:, None] * half[k]
                with_curvatures[k - 1] += wv[k][:, None] * density
            with_slopes += left @ own.T
        for x in range(3):
            total[x] -= 2.0 * np.einsum("gm,gm->m", ao[x + 1], with_slopes)
            for y in range(3):
                pair = second[min(x, y), max(x, y)]
                total[x] -= 2.0 * np.einsum("gm,gm->m", ao[pair], with_curvatures[y])
    return total


def _two_electron(
    mf: DenseRKS, densities: Sequence[_FittedDensity], factors: Sequence[float], auxbasis: str
) -> np.ndarray:
    """(N, 3) Coulomb and exact-exchange part: factor times that of each density, summed."""
    mol = mf.mol
    auxmol = df.addons.make_auxmol(mol, auxbasis)
    gradient = np.zeros((mol.natm, 3))
    for omega, coulomb, exchange in _operators(mf):
        three = _with_range(mol, auxmol, omega, lambda: _int3c_wrapper(mol, auxmol, "int3c2e_ip1", "s1"))
        two = _with_range(mol, auxmol, omega, lambda: auxmol.intor("int2c2e_ip1"))
        by_function, by_auxiliary = _three_centre(three, mol, auxmol, coulomb, exchange, densities, factors)
        for density, factor in zip(densities, factors, strict=True):
            weight = density.pair_weight(coulomb, exchange)
            by_auxiliary -= 2.0 * factor * np.einsum("xpq,pq->xp", two, weight)
        gradient += _sum_by_atom(mol, by_function) + _sum_by_atom(auxmol, by_auxiliary)
    return gradient


def _three_centre(
    derivative: Callable[..., np.ndarray],
    mol: gto.Mole,
    auxmol: gto.Mole,
    coulomb: float,
    exchange: float,
    densities: Sequence[_FittedDensity],
    factors: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (3, nao) and (3, naux), by function, of sum_P,mn (P|mn) (coulomb d_P D_mn - exchange/2 (X Y_P
    X^T)_mn), factor times that of each density, summed."""
    nao, location = mol.nao, auxmol.ao_loc
    by_function, by_auxiliary = np.zeros((3, nao)), np.zeros((3, auxmol.nao))
    fitted = np.array([factor * d.coulomb for d, factor in zip(densities, factors, strict=True)])
    flat = np.array([d.dm.ravel() for d in densities])
    occupied = np.hstack([factor * d.occupied for d, factor in zip(densities, factors, strict=True)]).T
    block = max(1, int(BLOCK_DOUBLES / (4 * nao * nao)))
    first = 0
    while first < auxmol.nbas:
        last = first + 1
        while last < auxmol.nbas and location[last + 1] - location[first] <= block:
            last += 1
        p = slice(location[first], location[last])
        integrals = derivative((0, mol.nbas, 0, mol.nbas, first, last)).transpose(0, 3, 2, 1)
        pair = (fitted[:, p].T @ flat).reshape(-1, nao, nao) * coulomb
        if exchange:
            halves = [d.occupied @ d.exchange[p] for d in densities if d.exchange is not None]
            pair -= (0.5 * exchange) * (np.concatenate(halves, axis=2) @ occupied)
        for x in range(3):
            product = np.einsum("pnm,pnm->pm", integrals[x], pair)
            by_function[x] -= 2.0 * product.sum(axis=0)
            by_auxiliary[x, p] += 2.0 * product.sum(axis=1)
        first = last
    return by_function, by_auxiliary


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
