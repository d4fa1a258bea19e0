"""Polarizabilities and dispersion of ethylene carbonate, fitted to its committed quantum records."""

import numpy as np
import pytest

from phyff.fit.response import ResponseFit, amoeba, exponential, fit_response, molecular_tensor, slater_of
from phyff.qm.monomer import MonomerData
from phyff.units import BOHR_NM, HARTREE_KJ


@pytest.fixture(scope="module")
def fit(ec: MonomerData) -> ResponseFit:
    return fit_response(ec)


@pytest.mark.parametrize("engine", ["drude", "multipole"])
def test_the_fitted_tensor_has_the_trace_and_the_eigenvalues_of_the_molecule(
    ec: MonomerData, fit: ResponseFit, engine: str
) -> None:
    own, screening = {
        "drude": (fit.polarizability, exponential),
        "multipole": (fit.multipole_polarizability, amoeba),
    }[engine]
    tensor = molecular_tensor(ec.conformers[0] * BOHR_NM, np.array(own.alpha), own.thole, screening)
    expected = ec.polarizability * BOHR_NM**3
    assert np.trace(tensor) == pytest.approx(np.trace(expected), rel=0.01)
    assert np.linalg.eigvalsh(tensor) == pytest.approx(np.linalg.eigvalsh(expected), rel=0.08)


def test_hydrogens_carry_their_own_share(ec: MonomerData, fit: ResponseFit) -> None:
    hydrogens = [i for i, element in enumerate(ec.molecule.elements) if element == "H"]
    alpha = np.array(fit.polarizability.alpha) * 1e3
    # angstrom^3; Thole's and later isotropic models put a bound hydrogen between 0.3 and 0.6
    assert np.all((alpha[hydrogens] > 0.2) & (alpha[hydrogens] < 0.6))
    assert min(fit.dispersion.c6) > 0.0
    assert fit.quality["response_relative_rms"] < 0.06


def test_equivalent_atoms_share_polarizability_dispersion_and_slater_widths(
    ec: MonomerData, fit: ResponseFit
) -> None:
    slater, classes = slater_of(ec), np.array(ec.molecule.symmetry_classes)
    columns = [fit.polarizability.alpha, fit.dispersion.c6, slater.populations, slater.exponents]
    for label in set(classes.tolist()):
        for values in columns:
            own = np.array(values)[classes == label]
            assert own == pytest.approx(np.full(len(own), own[0]), rel=1e-12)


def test_the_c6_of_all_pairs_sum_to_the_casimir_polder_integral(ec: MonomerData, fit: ResponseFit) -> None:
    isotropic = np.trace(ec.response.tensors, axis1=1, axis2=2) / 3
    molecular = 3 / np.pi * (ec.response.weights * isotropic**2).sum() * HARTREE_KJ * BOHR_NM**6
    root = np.sqrt(fit.dispersion.c6)
    assert np.outer(root, root).sum() == pytest.approx(molecular, rel=1e-3)


def test_higher_dispersion_coefficients_obey_their_known_relation(fit: ResponseFit) -> None:
    c6, c8, c10 = np.array([fit.dispersion.c6, fit.dispersion.c8, fit.dispersion.c10])
    # C10 C6 / C8^2 = 49/40 (Thakkar 1988), and C8/C6 of first-row atoms is 30-70 bohr^2
    assert c10 * c6 / c8**2 == pytest.approx(np.full(len(c6), 49 / 40), rel=1e-6)
    assert np.all((c8 / c6 > 10 * BOHR_NM**2) & (c8 / c6 < 100 * BOHR_NM**2))


def test_one_atom_alone_keeps_its_polarizability_and_distant_atoms_add() -> None:
    alpha = np.array([1e-3, 2e-3])
    np.testing.assert_allclose(molecular_tensor(np.zeros((1, 3)), alpha[:1], 2.0), 1e-3 * np.eye(3))
    apart = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    np.testing.assert_allclose(molecular_tensor(apart, alpha, 2.0), 3e-3 * np.eye(3), atol=1e-9)


def test_a_pair_of_atoms_is_more_polarizable_along_its_axis() -> None:
    # Silberstein: 2 alpha / (1 - 2 alpha/r^3) along, 2 alpha / (1 + alpha/r^3) across, undamped
    alpha, r = 1e-3, 0.3
    pair = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]])
    expected = [2 * alpha / (1 + alpha / r**3)] * 2 + [2 * alpha / (1 - 2 * alpha / r**3)]
    for screening in (exponential, amoeba):
        tensor = molecular_tensor(pair, np.full(2, alpha), 60.0, screening)
        assert np.diag(tensor) == pytest.approx(expected, rel=1e-9)
