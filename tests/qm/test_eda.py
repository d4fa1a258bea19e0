"""Energy decomposition of a dimer against plain PySCF, on helium and Li+ in a small basis."""

from dataclasses import replace

import numpy as np
import pytest
from pyscf import dft, gto

from phyff.qm import eda
from phyff.qm.eda import Monomer, decompose, heitler_london_density
from phyff.qm.level import PHYFF_2026A
from phyff.qm.scf import density_on_grid, nonlocal_grid, occupied_factor, vv10_energy
from phyff.units import BOHR_ANGSTROM, HARTREE_KJ

LEVEL = replace(PHYFF_2026A, basis="def2-svp", basis_overrides=(), grid_level=3)
ION, ATOM = Monomer(("Li",), 1, np.zeros((1, 3))), Monomer(("He",), 0, np.array([[0.3, 0.2, 1.7]]))


@pytest.fixture(scope="module")
def parts() -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eda, "CONVERGENCE", (1e-9, 1e-5))
        return decompose(ION, ATOM, LEVEL)


@pytest.fixture(scope="module")
def plain() -> list[dft.rks.RKS]:
    """PySCF's own density-fitted RKS of the dimer and of both monomers in its basis and on its grid."""
    at = [("Li", (0.0, 0.0, 0.0)), ("He", tuple(ATOM.xyz[0]))]
    ghost = [(f"ghost-{symbol}", xyz) for symbol, xyz in at]
    fields: list[dft.rks.RKS] = []
    for atoms, charge in ((at, 1), ([at[0], ghost[1]], 1), ([ghost[0], at[1]], 0)):
        mol = gto.M(atom=atoms, charge=charge, basis="def2-svp", unit="angstrom", verbose=0)
        mf = dft.RKS(mol, xc=LEVEL.functional).density_fit(auxbasis=LEVEL.auxbasis)
        mf.nlc, mf.grids.level, mf.conv_tol = 0, LEVEL.grid_level, 1e-10
        if fields:
            mf.grids.coords, mf.grids.weights = fields[0].grids.coords, fields[0].grids.weights
        mf.kernel()
        fields.append(mf)
    return fields


def test_the_components_sum_to_the_total(parts: dict[str, float]) -> None:
    assert parts["total"] == pytest.approx(sum(v for k, v in parts.items() if k != "total"), abs=1e-9)


def test_the_total_is_the_counterpoise_corrected_interaction_energy(
    parts: dict[str, float], plain: list[dft.rks.RKS]
) -> None:
    whole, first, second = (mf.e_tot for mf in plain)
    without_vv10 = (parts["total"] - parts["dispersion"]) / HARTREE_KJ
    assert without_vv10 == pytest.approx(whole - first - second, abs=1e-5)


def test_electrostatics_is_the_coulomb_energy_of_the_unperturbed_densities(
    parts: dict[str, float], plain: list[dft.rks.RKS]
) -> None:
    dimer, *monomers = plain
    densities = [mf.make_rdm1() for mf in monomers]
    electrons = np.vdot(densities[0], dimer.get_j(dimer.mol, densities[1]))
    crossed = np.vdot(monomers[0].mol.intor("int1e_nuc"), densities[1])
    crossed += np.vdot(monomers[1].mol.intor("int1e_nuc"), densities[0])
    expected = electrons + crossed + 3 * 2 / (np.linalg.norm(ATOM.xyz) / BOHR_ANGSTROM)
    assert parts["electrostatics"] / HARTREE_KJ == pytest.approx(expected, abs=1e-5)


def test_each_component_has_the_sign_physics_gives_it(parts: dict[str, float]) -> None:
    assert parts["exchange"] > 0
    assert parts["induction"] < 0
    assert parts["dispersion"] < 0


def test_the_decomposition_does_not_depend_on_how_the_dimer_lies(parts: dict[str, float]) -> None:
    turned = Monomer(("He",), 0, np.linalg.norm(ATOM.xyz) * np.array([[0.0, 1.0, 0.0]]))
    again = decompose(ION, turned, LEVEL)
    assert again == pytest.approx(parts, abs=0.05)


def test_the_heitler_london_density_is_that_of_one_determinant() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(9, 9))
    overlap = mixing @ mixing.T + 0.5 * np.eye(9)
    occupied = [_orthonormal(rng.normal(size=(9, n)), overlap) for n in (2, 1)]
    densities = [2 * c @ c.T for c in occupied]
    product = heitler_london_density(overlap, densities)
    np.testing.assert_allclose(product @ overlap @ product, 2 * product, atol=1e-10)
    assert np.vdot(product, overlap) == pytest.approx(6.0, abs=1e-10)
    # it spans both monomers' orbitals
    for c in occupied:
        np.testing.assert_allclose(product @ overlap @ c, 2 * c, atol=1e-10)


def test_monomers_that_do_not_overlap_keep_their_densities() -> None:
    first, second = np.diag([2.0, 0.0, 0.0]), np.diag([0.0, 0.0, 2.0])
    np.testing.assert_allclose(heitler_london_density(np.eye(3), [first, second]), first + second, atol=1e-12)


def _orthonormal(orbitals: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(orbitals.T @ overlap @ orbitals)
    return orbitals @ vectors / np.sqrt(values)


def test_vv10_is_pyscf_s_non_local_correlation() -> None:
    mol = gto.M(atom="H 0 0 0; H 0 0 0.74", basis="def2-svp", verbose=0)
    dm = dft.RKS(mol).get_init_guess()
    points, weights, orbitals = nonlocal_grid(mol, (25, 50))
    b, c = dft.libxc.nlc_coeff(LEVEL.functional)[0][0]
    rho = density_on_grid(orbitals, occupied_factor(dm))
    grids = dft.gen_grid.Grids(mol)
    grids.coords, grids.weights = points, weights
    _, expected, _ = dft.numint.NumInt().nr_nlc_vxc(mol, grids, LEVEL.functional, dm)
    assert vv10_energy(points, weights, rho, b, c, threshold=1e-8) == pytest.approx(expected, abs=1e-7)
    assert vv10_energy(points, weights, rho, b, c) == pytest.approx(expected, abs=3e-6)
    assert abs(expected) > 1e-3
