"""Static polarizability and response at imaginary frequencies."""

import numpy as np
import pytest

from phyff.qm.esp import RESPONSE_SCALES, shell_points
from phyff.qm.level import PHYFF_2026A, build_mol
from phyff.qm.polarizability import frequency_quadrature, response, static_polarizability
from phyff.qm.scf import DenseBasis, DenseRKS, converge
from phyff.units import BOHR_ANGSTROM


def ground_state(elements, xyz, charge, key):
    mol = build_mol(elements, xyz, charge, key)
    mf = DenseRKS(mol, key["functional"], DenseBasis.build(mol, key["functional"], key["auxbasis"], 1))
    mf.conv_tol, mf.conv_tol_grad = 1e-8, 3e-6
    return converge(mf)


@pytest.fixture(scope="module")
def water():
    xyz = np.array([[0.0, 0.0, 0.2], [1.43, 0.0, -0.9], [-1.43, 0.0, -0.9]])
    elements = ["O", "H", "H"]
    static = static_polarizability(ground_state(elements, xyz, 0, PHYFF_2026A.density_key()))
    points, _ = shell_points(elements, xyz, RESPONSE_SCALES, 10)
    bare = ground_state(elements, xyz, 0, PHYFF_2026A.response_key())
    answer = response(bare, PHYFF_2026A.auxbasis, points, frequency_quadrature()[0])
    return xyz, points, static, answer, static_polarizability(bare)


def test_lithium_cation_has_its_known_polarizability():
    mf = ground_state(["Li"], np.zeros((1, 3)), 1, PHYFF_2026A.density_key())
    tensor = static_polarizability(mf) * BOHR_ANGSTROM**3
    assert np.diag(tensor) == pytest.approx([0.028] * 3, rel=0.02)


def test_water_has_its_known_polarizability_and_c6(water):
    _, _, static, answer, _ = water
    assert np.trace(static) / 3 == pytest.approx(9.5, rel=0.08)  # bohr^3; accurate value 9.6
    scale = np.trace(static) / np.trace(answer.tensors[0])
    assert answer.c6 * scale**1.5 == pytest.approx(45.3, rel=0.1)  # Margoliash and Meath 1978


def test_the_static_response_agrees_with_finite_fields_of_the_same_functional(water):
    *_, answer, finite = water
    assert np.linalg.eigvalsh(answer.tensors[0]) == pytest.approx(np.linalg.eigvalsh(finite), rel=0.02)


def test_the_response_to_a_distant_charge_is_that_of_the_tensor(water):
    xyz = water[0]
    bare = ground_state(["O", "H", "H"], xyz, 0, PHYFF_2026A.response_key())
    far = xyz.mean(axis=0) + np.array([[0.0, 0.0, 200.0], [0.0, 200.0, 0.0]])
    answer = response(bare, PHYFF_2026A.auxbasis, far, [0.0])
    fields = (far - xyz.mean(axis=0)) / 200.0**3
    expected = fields @ answer.tensors[0] @ fields.T
    assert np.diag(answer.point_to_point[0]) == pytest.approx(np.diag(expected), rel=0.02)


def test_the_response_falls_with_frequency_and_is_symmetric(water):
    answer = water[3]
    isotropic = np.trace(answer.tensors, axis1=1, axis2=2)
    order = np.argsort(answer.frequencies)
    assert np.all(np.diff(isotropic[order]) < 0)
    assert answer.point_to_point == pytest.approx(answer.point_to_point.transpose(0, 2, 1), abs=1e-12)
    assert np.linalg.eigvalsh(answer.point_to_point[0]).min() > -1e-8
