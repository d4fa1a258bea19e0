"""Charges and multipoles of ethylene and dimethyl carbonate, fitted to their committed quantum records."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from phyff.errors import FitError
from phyff.fit import electrostatics
from phyff.fit.electrostatics import ElectrostaticFit, fit_electrostatics
from phyff.fit.species import boltzmann_weights
from phyff.model.cluster import site_positions
from phyff.qm.monomer import MonomerData
from phyff.units import BOHR_NM, DEBYE_E_NM


@pytest.fixture(scope="module")
def fit(ec: MonomerData) -> ElectrostaticFit:
    return fit_electrostatics(ec.molecule, ec.densities, boltzmann_weights(ec.energies))


def _placed_charges(fit: ElectrostaticFit, xyz_bohr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (bohr) and charges of atoms and sites."""
    sites = fit.drude_charges.sites
    places = site_positions(sites, torch.tensor(xyz_bohr * BOHR_NM)).numpy() / BOHR_NM
    charges = np.array([*fit.drude_charges.atoms, *(site.charge for site in sites)])
    return np.vstack([xyz_bohr, places]), charges


def test_charges_and_multipoles_sum_to_the_net_charge(fit: ElectrostaticFit) -> None:
    sites = sum(site.charge for site in fit.drude_charges.sites)
    assert sum(fit.drude_charges.atoms) + sites == pytest.approx(0.0, abs=1e-6)
    assert sum(fit.multipoles.charges) == pytest.approx(0.0, abs=1e-6)


def test_the_potential_of_the_sites_is_as_good_as_reported(ec: MonomerData, fit: ElectrostaticFit) -> None:
    density = ec.densities[0]
    places, charges = _placed_charges(fit, density.xyz)
    potential = (charges / np.linalg.norm(density.esp_points[:, None] - places, axis=2)).sum(1)
    error = np.linalg.norm(potential - density.esp_values) / np.linalg.norm(density.esp_values)
    assert error == pytest.approx(fit.quality["esp_relative_rms_drude"], rel=1e-6)
    assert error <= 0.06


def test_the_sites_come_within_one_percent_of_the_rank_two_multipoles(fit: ElectrostaticFit) -> None:
    assert fit.quality["esp_relative_rms_drude"] <= fit.quality["esp_relative_rms_rank2"] + 0.01


def test_a_higher_price_of_sites_buys_fewer_of_them_and_a_larger_error(
    ec: MonomerData, fit: ElectrostaticFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electrostatics, "SITE_WORTH", 10 * electrostatics.SITE_WORTH)
    dear = fit_electrostatics(ec.molecule, ec.densities, boltzmann_weights(ec.energies)).quality
    assert 0 < dear["sites"] < fit.quality["sites"]
    assert dear["esp_relative_rms_drude"] > fit.quality["esp_relative_rms_drude"]


def test_sites_and_multipoles_beat_charges_alone(fit: ElectrostaticFit) -> None:
    alone = fit.quality["esp_relative_rms_rank0"]
    assert fit.quality["esp_relative_rms_drude"] < 0.7 * alone
    assert fit.quality["esp_relative_rms_rank2"] < fit.quality["esp_relative_rms_rank1"] < alone


def test_refinement_lowers_the_error_of_the_bare_partition(fit: ElectrostaticFit) -> None:
    for rank in (0, 1, 2):
        refined = fit.quality[f"esp_relative_rms_rank{rank}"]
        assert refined < fit.quality[f"esp_relative_rms_mbis_rank{rank}"]


def test_multipoles_are_held_to_the_sites_at_contact_at_little_cost(
    ec: MonomerData, fit: ElectrostaticFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electrostatics, "CONTACT_WEIGHT", 0.0)
    free = fit_electrostatics(ec.molecule, ec.densities, boltzmann_weights(ec.energies))
    assert free.drude_charges == fit.drude_charges
    best = fit.quality["esp_relative_rms_rank2"]
    assert free.quality["esp_relative_rms_multipoles"] == pytest.approx(best, rel=1e-9)
    # held to the sites, they miss the potential farther out no more than the sites do
    assert best < fit.quality["esp_relative_rms_multipoles"] < 1.01 * fit.quality["esp_relative_rms_drude"]


def test_the_dipole_is_that_of_the_density(ec: MonomerData, fit: ElectrostaticFit) -> None:
    places, charges = _placed_charges(fit, ec.densities[0].xyz)
    error = np.linalg.norm(charges @ places - ec.densities[0].dipole)
    assert error < 0.01 * np.linalg.norm(ec.densities[0].dipole)
    assert fit.quality["dipole_error_D"] < 0.01 * fit.quality["dipole_qm_D"]
    assert fit.quality["drude_dipole_error_D"] == pytest.approx(error * BOHR_NM / DEBYE_E_NM, abs=1e-4)


def test_equivalent_atoms_share_their_charges_multipoles_and_sites(
    ec: MonomerData, fit: ElectrostaticFit
) -> None:
    classes = ec.molecule.symmetry_classes
    by_parent: dict[int, list[float]] = {i: [] for i in range(len(classes))}
    for site in fit.drude_charges.sites:
        by_parent[site.atoms[0]].append(site.charge)
    for label in set(classes):
        first, *others = (i for i, c in enumerate(classes) if c == label)
        for other in others:
            assert fit.drude_charges.atoms[other] == fit.drude_charges.atoms[first]
            assert fit.multipoles.charges[other] == pytest.approx(fit.multipoles.charges[first], abs=1e-12)
            assert fit.multipoles.dipoles[other] == fit.multipoles.dipoles[first]
            assert fit.multipoles.quadrupoles[other] == fit.multipoles.quadrupoles[first]
            assert sorted(by_parent[other]) == sorted(by_parent[first])


def test_quadrupoles_are_traceless(fit: ElectrostaticFit) -> None:
    assert np.trace(np.array(fit.multipoles.quadrupoles), axis1=1, axis2=2) == pytest.approx(0.0, abs=1e-12)


def test_a_conformer_without_weight_does_not_move_the_charges(ec: MonomerData, fit: ElectrostaticFit) -> None:
    density = ec.densities[0]
    other = replace(density, esp_values=2 * density.esp_values, dipole=-density.dipole)
    both = fit_electrostatics(ec.molecule, [density, other], [1.0, 0.0])
    assert both.drude_charges.atoms == pytest.approx(fit.drude_charges.atoms, abs=1e-9)
    assert both.multipoles.charges == pytest.approx(fit.multipoles.charges, abs=1e-9)


def test_a_potential_that_no_charges_make_is_an_error(ec: MonomerData) -> None:
    noise = np.random.default_rng(0).normal(size=ec.densities[0].esp_values.shape)
    with pytest.raises(FitError, match="miss its electrostatic potential by"):
        fit_electrostatics(ec.molecule, [replace(ec.densities[0], esp_values=noise)], [1.0])
