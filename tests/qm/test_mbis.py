"""The MBIS partition on densities whose answer is known."""

import numpy as np
import pytest
from pyscf import dft, gto

from phyff.qm.mbis import PartitionError, initial_shells, mbis


def shell(points, centre, population, width):
    r = np.linalg.norm(points - centre, axis=1)
    return population * np.exp(-r / width) / (8 * np.pi * width**3)


@pytest.fixture(scope="module")
def lithium_fluoride_grid():
    mol = gto.M(atom="Li 0 0 0; F 0 0 3.0", unit="Bohr", basis="sto-3g", verbose=0)
    grids = dft.gen_grid.Grids(mol)
    grids.level = 2
    grids.build()
    return mol, grids.coords, grids.weights


def test_a_sum_of_slater_shells_is_taken_apart_into_those_shells(lithium_fluoride_grid):
    mol, points, weights = lithium_fluoride_grid
    centres = mol.atom_coords()
    shells = [(0, 1.98, 0.20), (0, 0.22, 0.9), (1, 1.8, 0.06), (1, 8.0, 0.42)]
    density = sum(shell(points, centres[a], n, s) for a, n, s in shells)
    part = mbis(np.array([3, 9]), centres, 0, points, weights, density, tolerance=1e-8)
    assert part.charges == pytest.approx([3 - 2.2, 9 - 9.8], abs=2e-3)
    assert np.concatenate(part.shell_widths) == pytest.approx([s for _, _, s in shells], rel=0.02)
    assert part.valence_populations == pytest.approx([0.22, 8.0], rel=0.02)
    assert np.abs(part.dipoles).max() < 3e-3
    assert part.charges.sum() == pytest.approx(0.0, abs=1e-12)


def test_quadrupoles_are_traceless_and_moments_add_up_to_the_molecule(lithium_fluoride_grid):
    mol, points, weights = lithium_fluoride_grid
    mf = dft.RKS(mol, xc="pbe").run()
    rho = dft.numint.eval_rho(mol, dft.numint.eval_ao(mol, points), mf.make_rdm1())
    part = mbis(mol.atom_charges(), mol.atom_coords(), 0, points, weights, rho)
    dipole = part.charges @ mol.atom_coords() + part.dipoles.sum(axis=0)
    assert dipole == pytest.approx(mf.dip_moment(unit="au", verbose=0), abs=2e-3)
    assert np.trace(part.quadrupoles, axis1=1, axis2=2) == pytest.approx([0, 0], abs=1e-10)


def test_a_bare_cation_has_no_empty_valence_shell():
    for number, electrons, shells in [(3, 2, 1), (11, 10, 2), (19, 18, 3)]:
        _, populations, _ = initial_shells(np.array([number]), electrons)
        assert len(populations) == shells and populations.sum() == electrons


def test_a_grid_that_loses_charge_is_refused(lithium_fluoride_grid):
    mol, points, weights = lithium_fluoride_grid
    density = shell(points, mol.atom_coords()[1], 11.0, 0.4)
    with pytest.raises(PartitionError, match="finer grid"):
        mbis(np.array([3, 9]), mol.atom_coords(), 0, points, weights, density)
