"""Points on van der Waals surfaces and electrostatic potentials."""

import numpy as np
import pytest
from pyscf import gto, scf

from phyff.errors import InputError
from phyff.qm.esp import ESP_SCALES, electrostatic_potential, shell_points, surface_points, vdw_radii

WATER = (["O", "H", "H"], np.array([[0.0, 0.0, 0.2], [1.43, 0.0, -0.9], [-1.43, 0.0, -0.9]]))


def test_points_lie_on_the_surface_of_the_union_of_spheres():
    elements, xyz = WATER
    points = surface_points(elements, xyz, 1.6, 100)
    gaps = np.linalg.norm(points[:, None] - xyz, axis=2) - 1.6 * vdw_radii(elements)
    assert points.shape == (100, 3)
    assert np.abs(gaps.min(axis=1)).max() < 1e-8


def test_any_leading_part_of_the_points_is_spread_evenly():
    points = surface_points(*WATER, 1.6, 100)[:30]
    apart = np.linalg.norm(points[:, None] - points, axis=2) + 100 * np.eye(30)
    assert apart.min() > 1.0


def test_shells_are_interleaved():
    points, scales = shell_points(*WATER, ESP_SCALES, 10)
    assert points.shape == (40, 3) and scales[:5].tolist() == [1.4, 1.6, 1.8, 2.0, 1.4]


def test_the_potential_of_a_molecule_tends_to_that_of_its_charge_and_dipole():
    mol = gto.M(atom=list(zip(*WATER, strict=True)), unit="Bohr", basis="sto-3g", charge=0, verbose=0)
    mf = scf.RHF(mol).run()
    far = np.array([[0.0, 0.0, 60.0], [0.0, 40.0, 40.0]])
    dipole = mf.dip_moment(unit="au", verbose=0)
    r = np.linalg.norm(far, axis=1)
    assert electrostatic_potential(mol, mf.make_rdm1(), far) == pytest.approx(far @ dipole / r**3, rel=0.05)


def test_an_element_without_a_radius_is_named():
    with pytest.raises(InputError, match="'Xx'"):
        vdw_radii(["Xx"])
