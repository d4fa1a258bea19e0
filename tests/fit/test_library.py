"""Every committed species meets the accuracy that the force field promises."""

import json
from functools import cache

import library_species
import numpy as np
import pytest
import torch
from library_species import NAMES, RECORDS

from phyff.fit.response import amoeba, exponential, molecular_tensor
from phyff.fit.species import CHARGE_TEMPERATURE, boltzmann_weights
from phyff.model import multipoles
from phyff.model.cluster import Cluster, permanent_energy, site_positions
from phyff.model.multipoles import laboratory_moments
from phyff.model.parameters import ShortRange, species_tensors
from phyff.model.valence import valence_energy
from phyff.qm.esp import shell_points
from phyff.species.parameters import SpeciesParameters
from phyff.units import BOHR_NM, HARTREE_KJ

SPECIES = {name: library_species.load(name) for name in NAMES}
MOLECULES = [name for name, species in SPECIES.items() if species.n_atoms > 1]
every_species = pytest.mark.parametrize("name", NAMES)
every_molecule = pytest.mark.parametrize("name", MOLECULES)


@cache
def _records(kind: str) -> tuple[dict, ...]:
    return tuple(json.loads(path.read_text()) for path in sorted((RECORDS / kind).glob("*.json")))


def _record_at(kind: str, species: SpeciesParameters, xyz_nm: np.ndarray) -> tuple[np.ndarray, dict]:
    """Positions (bohr) and the record of a species at one of its conformers."""
    for content in _records(kind):
        spec = content["spec"]
        if spec["mapped_smiles"] == species.mapped_smiles:
            xyz = np.array(spec["xyz_bohr"])
            if np.abs(xyz * BOHR_NM - xyz_nm).max() < 1e-6:
                return xyz, content["record"]
    raise AssertionError(f"no committed {kind} record of {species.name} at its conformer")


@every_species
def test_charges_sum_to_the_net_charge(name: str) -> None:
    species = SPECIES[name]
    sites = sum(site.charge for site in species.drude_charges.sites)
    assert sum(species.drude_charges.atoms) + sites == pytest.approx(species.charge, abs=1e-6)


POTENTIAL_BAR = 3.3
"""kJ/mol/e, on 1.4 to 2 van der Waals radii, over the minima."""


@every_species
def test_charges_and_sites_miss_the_potential_by_as_much_as_reported(name: str) -> None:
    species, square = SPECIES[name], 0.0
    sites = species.drude_charges.sites
    charges = np.array([*species.drude_charges.atoms, *(site.charge for site in sites)])
    relative, data = 0.0, library_species.quantum_data(species.smiles)
    weights = boltzmann_weights(data.energies, CHARGE_TEMPERATURE)
    for density, weight in zip(data.densities, weights, strict=True):
        places = site_positions(sites, torch.tensor(density.xyz * BOHR_NM)).numpy() / BOHR_NM
        away = density.esp_points[:, None] - np.vstack([density.xyz, places])
        miss = (charges / np.linalg.norm(away, axis=2)).sum(1) - density.esp_values
        relative += weight * (miss @ miss) / (density.esp_values @ density.esp_values)
        square += weight * np.mean(miss**2)
    assert np.sqrt(relative) == pytest.approx(
        species.quality["electrostatics"]["esp_relative_rms_drude"], rel=1e-3, abs=1e-6
    )
    assert np.sqrt(square) * HARTREE_KJ < POTENTIAL_BAR


@every_molecule
def test_flows_of_charge_predict_shapes_that_were_left_out(name: str) -> None:
    quality = SPECIES[name].quality["charge_flow"]
    shapes = "contacts" if "contacts" in quality else "shapes"
    still, seen, left_out = (
        quality[f"esp_rms_{shapes}{k}_kJ_mol_e"] for k in ("", "_flow", "_flow_left_out")
    )
    assert seen < left_out < still
    without, with_flow = (quality.get(f"electrostatics_spread{k}_kJ_mol", np.inf) for k in ("", "_flow"))
    assert bool(SPECIES[name].charge_flow) == (with_flow < without or np.isinf(without))


CONTACT_MISSES = {"DME": 2.2, "DOL": 2.8, "diglyme": 2.2}
"""kJ/mol; species beyond the bar of 1.2: charges 0.05 nm off their oxygens have higher moments than
quadrupoles."""


@every_molecule
def test_both_engines_see_the_same_potential_at_contact(name: str) -> None:
    # before the multipoles were held to the sites there, Li+ + PF6- differed by 12 kJ/mol
    species, square = SPECIES[name], 0.0
    molecule, ion = (species_tensors(own, ShortRange.charges_only()) for own in (species, SPECIES["Li+"]))
    for conformer in species.conformers:
        xyz = np.array(conformer.xyz_nm)
        points, _ = shell_points(species.elements, xyz / BOHR_NM, (1.0, 1.15, 1.3), 40)
        for point in points * BOHR_NM:
            pair = Cluster.of([molecule, ion], [torch.tensor(xyz), torch.tensor(point[None])])
            miss = permanent_energy(pair) - multipoles.permanent_energy(pair, laboratory_moments(pair))
            square += conformer.weight * miss.item() ** 2 / len(points)
    assert np.sqrt(square) < CONTACT_MISSES.get(name, 1.2)  # kJ/mol for a unit charge


@every_species
def test_no_site_swings_out_when_its_molecule_bends(name: str) -> None:
    # acetonitrile once had a site behind its straight angle, of weight 4.4 and -1.7; its liquid collapsed
    averages = [site for site in SPECIES[name].drude_charges.sites if site.kind == "average"]
    assert all(max(np.abs(site.weights)) < 2.5 for site in averages)


EIGENVALUE_MISSES = {"AN": 0.055}
"""Species beyond the bar of 0.03 in the `multipole` engine: its steep damping couples
a rod's atoms too little."""


@every_species
def test_the_polarizability_has_the_quantum_trace_and_eigenvalues(name: str) -> None:
    species = SPECIES[name]
    _, record = _record_at("polarizability", species, species.xyz)
    expected = np.array(record["polarizability_bohr3"]) * BOHR_NM**3
    for own, screening, tolerance in (
        (species.polarizability, exponential, 0.03),
        (species.multipole_polarizability, amoeba, EIGENVALUE_MISSES.get(name, 0.03)),
    ):
        tensor = molecular_tensor(species.xyz, np.array(own.alpha), own.thole, screening)
        assert np.trace(tensor) == pytest.approx(np.trace(expected), rel=0.01)
        assert np.linalg.eigvalsh(tensor) == pytest.approx(np.linalg.eigvalsh(expected), rel=tolerance)


@every_molecule
def test_valence_terms_hold_on_geometries_they_were_not_fitted_to(name: str) -> None:
    assert SPECIES[name].quality["valence"]["force_rms_heldout_kcal_mol_A"] < 8.0


BOND_MISSES = {"TFSI-": 0.0151}
ANGLE_MISSES = {"TFSI-": 3.9, "DEC": 2.0, "DMC": 1.7, "DOL": 1.65}
"""Angstrom and degrees; species beyond the bars of 0.01 and 1.5: one of the five conformers of TFSI- and of
the six of DEC (the lowest is met), DMC and DOL."""
TORSION_MISSES = {"FSI-": 1.9, "TFSI-": 2.2}
"""kJ/mol; species beyond the bar of 1."""


@every_molecule
def test_torsion_scans_are_met(name: str) -> None:
    missed = SPECIES[name].quality["valence"].get("energy_rms_torsion_kJ_mol", 0.0)
    assert missed < TORSION_MISSES.get(name, 1.0)


SHARE_MISSES = {"TFSI-": 0.08, "MA": 0.05}
"""Species beyond the bar of 0.02."""


@every_molecule
def test_conformers_have_the_shares_of_their_quantum_energies(name: str) -> None:
    quality = SPECIES[name].quality["valence"]
    assert ("conformer_share_error" in quality) == (len(SPECIES[name].conformers) > 1)
    assert quality.get("conformer_share_error", 0.0) < SHARE_MISSES.get(name, 0.02)


@every_molecule
def test_the_minimum_keeps_its_bonds_and_angles(name: str) -> None:
    quality = SPECIES[name].quality["valence"]
    assert quality["max_bond_error_A"] < BOND_MISSES.get(name, 0.01)
    assert quality["max_angle_error_deg"] < ANGLE_MISSES.get(name, 1.5)


@every_species
def test_conformer_weights_sum_to_one_lowest_first(name: str) -> None:
    conformers = SPECIES[name].conformers
    assert sum(c.weight for c in conformers) == pytest.approx(1.0, abs=1e-6)
    assert conformers[0].energy == 0.0
    assert [c.energy for c in conformers] == sorted(c.energy for c in conformers)


@pytest.mark.parametrize("name", [name for name in NAMES if name == "PF6-"])
def test_hexafluorophosphate_is_octahedral_in_every_parameter(name: str) -> None:
    species = SPECIES[name]
    fluorines = [i for i, e in enumerate(species.elements) if e == "F"]
    (phosphorus,) = (i for i, e in enumerate(species.elements) if e == "P")
    for column in (
        species.drude_charges.atoms,
        species.multipoles.charges,
        species.multipoles.dipoles,
        species.multipoles.quadrupoles,
        species.polarizability.alpha,
        species.dispersion.c6,
        species.slater.exponents,
        species.slater.populations,
    ):
        assert len({column[i] for i in fluorines}) == 1
    np.testing.assert_array_equal(species.multipoles.dipoles[phosphorus], 0.0)
    np.testing.assert_array_equal(species.multipoles.quadrupoles[phosphorus], 0.0)
    vectors = species.xyz[fluorines] - species.xyz[phosphorus]
    length = np.linalg.norm(vectors, axis=1).mean()
    cosines = np.sort((vectors @ vectors.T / length**2).ravel())
    np.testing.assert_allclose(cosines, [-1.0] * 6 + [0.0] * 24 + [1.0] * 6, atol=1e-4)
    bonds, angles = species.valence.bonds, species.valence.angles
    assert len({(b.k, b.r0, b.anharmonicity) for b in bonds}) == 1
    assert len(bonds) == 6
    assert len({(a.k, a.theta0) for a in angles}) == 1
    assert len(angles) == 12
    diagonal = {frozenset(pair) for pair in ((0, 2), (3, 4), (5, 6))}
    kinds = {(frozenset(u.atoms) in diagonal, u.k, u.r0) for u in species.valence.urey_bradleys}
    assert len(kinds) == len({across for across, _, _ in kinds})


@pytest.mark.parametrize("name", [name for name in MOLECULES if name != "PF6-"])
def test_energies_do_not_change_when_equal_atoms_trade_places(name: str) -> None:
    """PF6- is left out: a graph does not know which of its ligands are trans."""
    species, rng = SPECIES[name], np.random.default_rng(1)
    graph, xyz = species.molecule.rdkit(), species.xyz + 0.01 * rng.normal(size=species.xyz.shape)
    traded = graph.GetSubstructMatches(graph, uniquify=False, maxMatches=2000)
    energies = valence_energy(
        species.valence, torch.tensor(xyz[np.array(traded)[:: max(1, len(traded) // 20)]])
    )
    torch.testing.assert_close(energies, energies[:1].expand_as(energies), atol=1e-6, rtol=1e-9)
