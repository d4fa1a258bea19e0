"""Nuclear gradient of a `DenseRKS` with dense matrix products; response of the fitting basis included, of
the grid not.

The density-fitted energy is 1/2 d V^-1 d - 1/4 sum_ij B_ij U^-1 B_ij, with d_P = (P|mn) D_mn over 1/r, and
B_Pij = (P|ij) over the functional's exchange operator. Only derivatives of the left basis function in (m
n|P) are evaluated; those of the fitting function follow from translational invariance. Atomic units.
"""

from __future__ import annotations

from collections.abc import Callable
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
    mol = mf.mol
    dm = np.asarray(mf.make_rdm1())
    occupied = occupied_factor(dm)
    gradient = np.array(rhf_gradient.grad_nuc(mol)) + _core_attraction(mf, dm)
    gradient += _sum_by_atom(mol, _energy_weighted_overlap(mf) + _exchange_correlation(mf, occupied))
    gradient += _two_electron(mf, dm, occupied, auxbasis)
    return np.asarray(gradient - gradient.mean(axis=0))


def _core_attraction(mf: DenseRKS, dm: np.ndarray) -> np.ndarray:
    derivative = rhf_gradient.Gradients(mf).hcore_generator(mf.mol)
    return np.array([np.einsum("xmn,mn->x", derivative(atom), dm) for atom in range(mf.mol.natm)])


def _energy_weighted_overlap(mf: DenseRKS) -> np.ndarray:
    """(3, nao) overlap part by basis function, 2 W_mn (d m|n)."""
    filled = mf.mo_occ > 0
    orbitals = mf.mo_coeff[:, filled]
    weighted = (orbitals * (mf.mo_occ * mf.mo_energy)[filled]) @ orbitals.T
    return np.asarray(2.0 * np.einsum("xmn,mn->xm", mf.mol.intor("int1e_ipovlp"), weighted))


def _exchange_correlation(mf: DenseRKS, occupied: np.ndarray) -> np.ndarray:
    """(3, nao) exchange-correlation part by basis function, on a fixed grid."""
    coords, weights, nao = mf.grids.coords, mf.grids.weights, mf.mol.nao
    total = np.zeros((3, nao))
    second = {(0, 0): 4, (0, 1): 5, (0, 2): 6, (1, 1): 7, (1, 2): 8, (2, 2): 9}
    block = max(1000, int(BLOCK_DOUBLES / (10 * nao)))
    for start in range(0, len(weights), block):
        points = slice(start, start + block)
        ao = dft.numint.eval_ao(mf.mol, coords[points], deriv=2)
        half = [ao[k] @ occupied for k in range(4)]
        rho = np.empty((4, len(ao[0])))
        rho[0] = np.einsum("gi,gi->g", half[0], half[0])
        for k in (1, 2, 3):
            rho[k] = 2.0 * np.einsum("gi,gi->g", half[0], half[k])
        wv = weights[points] * mf._numint.eval_xc_eff(mf.xc, rho, deriv=1, xctype="GGA")[1]
        density = half[0] @ occupied.T
        left = wv[0][:, None] * half[0]
        for k in (1, 2, 3):
            left += wv[k][:, None] * half[k]
        left = left @ occupied.T
        for x in range(3):
            right = sum(wv[y + 1][:, None] * ao[second[min(x, y), max(x, y)]] for y in range(3))
            total[x] -= 2.0 * (np.einsum("gm,gm->m", ao[x + 1], left) + np.einsum("gm,gm->m", right, density))
    return total


def _two_electron(mf: DenseRKS, dm: np.ndarray, occupied: np.ndarray, auxbasis: str) -> np.ndarray:
    """(N, 3) Coulomb and exact-exchange part."""
    mol = mf.mol
    auxmol = df.addons.make_auxmol(mol, auxbasis)
    omega, long_range, short_range = mf._numint.rsh_and_hybrid_coeff(mf.xc, mol.spin)
    operators = [(0.0, 1.0, short_range)]  # omega, factor of Coulomb, factor of exchange
    if omega:
        operators.append((omega, 0.0, long_range - short_range))
    packed = dm[np.tril_indices(len(dm))] * 2.0
    packed[np.cumsum(np.arange(1, len(dm) + 1)) - 1] *= 0.5
    fitted = scipy.linalg.cho_solve(mf.dense.metric, mf.dense.coulomb @ packed)
    exchange = None
    if mf.dense.exchange is not None:
        metric = np.zeros((auxmol.nao, auxmol.nao))
        for w, _, x in operators:
            metric += x * _with_range(mol, auxmol, w, lambda: auxmol.intor("int2c2e"))
        whitening = _orthonormalised(np.eye(auxmol.nao), metric)
        half = mf.dense.exchange @ occupied.astype(mf.dense.exchange.dtype)  # (rank, nao, nocc)
        exchange = np.tensordot(whitening.T, occupied.T @ half, axes=(1, 0))  # (naux, nocc, nocc)
    pair_coulomb = np.outer(fitted, fitted)
    pair_exchange = np.zeros_like(pair_coulomb)
    if exchange is not None:
        flat = exchange.reshape(len(exchange), -1)
        pair_exchange = flat @ flat.T
    gradient = np.zeros((mol.natm, 3))
    for w, j, x in operators:
        three = _with_range(mol, auxmol, w, lambda: _int3c_wrapper(mol, auxmol, "int3c2e_ip1", "s1"))
        by_function, by_auxiliary = _three_centre(three, mol, auxmol, j * fitted, x, exchange, dm, occupied)
        two = _with_range(mol, auxmol, w, lambda: auxmol.intor("int2c2e_ip1"))
        weight = -0.5 * j * pair_coulomb + 0.25 * x * pair_exchange
        by_auxiliary -= 2.0 * np.einsum("xpq,pq->xp", two, weight)
        gradient += _sum_by_atom(mol, by_function) + _sum_by_atom(auxmol, by_auxiliary)
    return gradient


def _three_centre(
    derivative: Callable[..., np.ndarray],
    mol: gto.Mole,
    auxmol: gto.Mole,
    fitted: np.ndarray,
    scale: float,
    exchange: np.ndarray | None,
    dm: np.ndarray,
    occupied: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (3, nao) and (3, naux) of sum_P,mn (P|mn) (fitted_P D_mn - scale/2 (X Y_P X^T)_mn), by
    function.
    """
    nao, location = mol.nao, auxmol.ao_loc
    by_function, by_auxiliary = np.zeros((3, nao)), np.zeros((3, auxmol.nao))
    block = max(1, int(BLOCK_DOUBLES / (4 * nao * nao)))
    first = 0
    while first < auxmol.nbas:
        last = first + 1
        while last < auxmol.nbas and location[last + 1] - location[first] <= block:
            last += 1
        p = slice(location[first], location[last])
        integrals = derivative((0, mol.nbas, 0, mol.nbas, first, last)).transpose(0, 3, 2, 1)
        pair = fitted[p, None, None] * dm
        if exchange is not None and scale:
            pair -= 0.5 * scale * (occupied @ exchange[p]) @ occupied.T
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
