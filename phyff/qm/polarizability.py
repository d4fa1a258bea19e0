"""Response of a molecule to electric fields: static by finite field, and at imaginary frequencies by RPA +
ALDA.

The frequency-dependent response is that of a Kohn-Sham ground state with the kernel factorised over the
Coulomb- orthonormal fitting basis: with L_ia^P the fitted orbital products, s_ia = 4 e_ia / (e_ia^2 + w^2)
and K = 1 + F_xc,

    alpha(v, w) = v s w - (v s L) K (1 + Pi0 K)^-1 (L s w),     Pi0 = L s L^T,

for any pair of perturbations v, w given in orbital products (dipoles, unit point charges). Only matrix
products of the size of the fitting basis. Atomic units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from pyscf import df, dft, gto, lib

from phyff.qm.esp import charge_integrals
from phyff.qm.scf import DenseBasis, DenseRKS, converge

FIELD_STRENGTH = 0.004
"""Finite field, hartree/(e bohr)."""
FREQUENCY_SCALE = 0.4
"""Frequency (hartree) below which half of the quadrature points lie."""
FREQUENCY_COUNT = 10
BLOCK_DOUBLES = 2e7


@dataclass(frozen=True)
class Response:
    """Linear response at imaginary frequencies.

    Attributes:
        frequencies: (F,) hartree; the first is 0, the others are the quadrature.
        weights: (F,) quadrature weights of an integral over frequency from 0 to infinity (0 for the static
            one).
        tensors: (F, 3, 3) polarizability, bohr^3.
        point_to_point: (F, P, P), hartree/e^2: minus the potential induced at point l by a unit charge at
            point k.
    """

    frequencies: np.ndarray
    weights: np.ndarray
    tensors: np.ndarray
    point_to_point: np.ndarray

    @property
    def c6(self) -> float:
        """Isotropic molecular C6 (hartree bohr^6) by Casimir and Polder."""
        isotropic = np.trace(self.tensors, axis1=1, axis2=2) / 3.0
        return float(3.0 / np.pi * self.weights @ isotropic**2)


def frequency_quadrature(count: int = FREQUENCY_COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and weights: 0 with no weight, then Gauss-Legendre points mapped to (0, infinity)."""
    t, w = np.polynomial.legendre.leggauss(count)
    frequencies = FREQUENCY_SCALE * (1.0 + t) / (1.0 - t)
    weights = w * 2.0 * FREQUENCY_SCALE / (1.0 - t) ** 2
    return np.concatenate([[0.0], frequencies]), np.concatenate([[0.0], weights])


def static_polarizability(mf: DenseRKS) -> np.ndarray:
    """(3, 3) polarizability (bohr^3) from central differences of the dipole of `mf` (converged) in a finite
    field.
    """
    mol = mf.mol
    with mol.with_common_orig(mol.atom_coords().mean(axis=0)):
        dipole_integrals = mol.intor_symmetric("int1e_r")
    hcore, dm0 = mf.get_hcore(), np.asarray(mf.make_rdm1())
    tensor = np.empty((3, 3))
    for axis in range(3):
        electronic = []
        for sign in (1.0, -1.0):
            in_field = DenseRKS(mol, mf.xc, mf.dense)
            in_field.conv_tol, in_field.conv_tol_grad = mf.conv_tol, mf.conv_tol_grad
            perturbed = hcore + sign * FIELD_STRENGTH * dipole_integrals[axis]
            in_field.get_hcore = lambda *_, h=perturbed: h
            converge(in_field, dm0)
            electronic.append(-np.einsum("xmn,mn->x", dipole_integrals, in_field.make_rdm1()))
        tensor[axis] = (electronic[0] - electronic[1]) / (2.0 * FIELD_STRENGTH)
    return 0.5 * (tensor + tensor.T)


def response(
    mf: DenseRKS, auxbasis: str, points: np.ndarray, frequencies: Sequence[float] | np.ndarray
) -> Response:
    """RPA + ALDA response of the converged ground state `mf` to dipole fields and to unit charges at
    `points` (P, 3).

    `frequencies` are imaginary, hartree; weights of the result are zero unless they are
    `frequency_quadrature()`'s.
    """
    mol = mf.mol
    filled = mf.mo_occ > 0
    occupied, virtual = mf.mo_coeff[:, filled], mf.mo_coeff[:, ~filled]
    gaps = (mf.mo_energy[~filled][None, :] - mf.mo_energy[filled][:, None]).ravel()
    products = _fitted_products(mf.dense, occupied, virtual)
    fields = _perturbations(mol, occupied, virtual, points)
    kernel = np.eye(len(products)) + alda_kernel(mf, auxbasis)
    quadrature, weights = frequency_quadrature()
    known = len(frequencies) == len(quadrature) and np.allclose(frequencies, quadrature)
    alphas = []
    for frequency in frequencies:
        strength = 4.0 * gaps / (gaps**2 + frequency**2)
        weighted = products * strength
        bare = weighted @ products.T
        coupled = weighted @ fields.T
        screened = np.linalg.solve(np.eye(len(bare)) + kernel @ bare, kernel @ coupled)
        alpha = (fields * strength) @ fields.T - coupled.T @ screened
        alphas.append(0.5 * (alpha + alpha.T))
    stacked = np.array(alphas)
    return Response(
        frequencies=np.asarray(frequencies, dtype=float),
        weights=weights if known else np.zeros(len(frequencies)),
        tensors=stacked[:, :3, :3],
        point_to_point=stacked[:, 3:, 3:],
    )


def alda_kernel(mf: DenseRKS, auxbasis: str) -> np.ndarray:
    """(naux, naux) adiabatic local-density kernel of the density of `mf`, in its Coulomb-orthonormal fitting
    basis.
    """
    auxmol = df.addons.make_auxmol(mf.mol, auxbasis)
    rho = dft.numint.NumInt().get_rho(mf.mol, mf.make_rdm1(), mf.grids)
    keep = rho > 1e-9
    second = dft.libxc.eval_xc("lda,pw", rho[keep], deriv=2)[2][0]
    strength, points = mf.grids.weights[keep] * second, mf.grids.coords[keep]
    kernel = np.zeros((auxmol.nao, auxmol.nao))
    block = int(BLOCK_DOUBLES / auxmol.nao)
    for start in range(0, len(points), block):
        functions = dft.numint.eval_ao(auxmol, points[start : start + block])
        kernel += functions.T @ (functions * strength[start : start + block, None])
    return _whitened(mf.dense, _whitened(mf.dense, kernel).T)


def _whitened(basis: DenseBasis, rows: np.ndarray) -> np.ndarray:
    """Rows (naux, ...) of fitting functions turned into rows of Coulomb-orthonormal ones."""
    whitened = scipy.linalg.solve_triangular(basis.metric[0], rows, lower=True, check_finite=False)
    return np.asarray(whitened)


def _fitted_products(basis: DenseBasis, occupied: np.ndarray, virtual: np.ndarray) -> np.ndarray:
    """(naux, nocc * nvir) orbital products L_ia^P in the Coulomb-orthonormal fitting basis."""
    products = np.empty((len(basis.coulomb), occupied.shape[1] * virtual.shape[1]))
    block = max(1, int(BLOCK_DOUBLES / len(occupied) ** 2))
    for start in range(0, len(products), block):
        square = lib.unpack_tril(basis.coulomb[start : start + block])
        products[start : start + block] = (occupied.T @ square @ virtual).reshape(len(square), -1)
    return _whitened(basis, products)


def _perturbations(
    mol: gto.Mole, occupied: np.ndarray, virtual: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """(3 + P, nocc * nvir) dipole operators and potentials of unit charges, in orbital products."""
    with mol.with_common_orig(mol.atom_coords().mean(axis=0)):
        rows = [(occupied.T @ mol.intor_symmetric("int1e_r") @ virtual).reshape(3, -1)]
    for block in charge_integrals(mol, points):
        rows.append((occupied.T @ np.ascontiguousarray(block) @ virtual).reshape(len(block), -1))
    return np.concatenate(rows)
