"""Analytic gradients against finite differences and PySCF."""

import numpy as np
import pytest
from pyscf import dft, gto

from phyff.qm.gradient import nuclear_gradient
from phyff.qm.scf import DenseBasis, DenseRKS, converge

AUXBASIS = "def2-universal-jkfit"


@pytest.mark.parametrize("functional", ["pbe0", "pbe", "wb97x_v"])
def test_the_gradient_agrees_with_pyscf(functional):
    mol = gto.M(atom="O 0 0 0.1; H 0.8 0 -0.5; H -0.7 0.1 -0.55", basis="def2-svp", verbose=0)
    mf = DenseRKS(mol, functional, DenseBasis.build(mol, functional, AUXBASIS, 1))
    mf.conv_tol, mf.conv_tol_grad = 1e-8, 3e-6
    converge(mf)
    reference = dft.RKS(mol, xc=functional).density_fit(auxbasis=AUXBASIS)
    reference.grids.level, reference.nlc, reference.conv_tol = 1, 0, 1e-10
    reference.kernel()
    gradients = reference.nuc_grad_method()
    gradients.auxbasis_response = True
    expected = gradients.kernel()
    assert mf.e_tot == pytest.approx(reference.e_tot, abs=5e-6)
    assert np.abs(nuclear_gradient(mf, AUXBASIS) - (expected - expected.mean(axis=0))).max() < 1e-5
