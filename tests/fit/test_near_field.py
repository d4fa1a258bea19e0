"""Near fields come from the molecule alone: what the fit knows, and that it carries over to dimers."""

from dataclasses import replace

import library_species
import numpy as np
import pytest
import torch
from library_species import RECORDS, load

from phyff.fit.contact_shapes import contact_potentials
from phyff.fit.near_field import fit_near_field
from phyff.fit.short_range import beside_penetration
from phyff.fit.species import CHARGE_TEMPERATURE, boltzmann_weights
from phyff.fit.training import load_points
from phyff.model.cluster import Cluster, permanent_energy
from phyff.model.near_field import NearFieldTensors
from phyff.model.pairs import slater_overlap
from phyff.model.parameters import ShortRange, species_tensors
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import (
    CONTACT_DENSITY_POINTS_PER_SHELL,
    CONTACT_DENSITY_SCALES,
    ContactDensity,
    contact_density_from_record,
    contact_density_job,
)
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule
from phyff.species.parameters import DrudeCharges, Slater, SpeciesParameters
from phyff.units import BOHR_NM


def _fitted(species: SpeciesParameters, densities: list[ContactDensity] | None = None):
    data = library_species.quantum_data(species.smiles)
    store = RecordStore(RECORDS)
    beside = contact_potentials({species.name: data.molecule}, PHYFF_2026A, store, 1, compute=False)
    return fit_near_field(
        data.molecule,
        densities or data.contact_densities,
        boltzmann_weights(data.energies, CHARGE_TEMPERATURE),
        species.slater,
        species.drude_charges,
        species.charge_flow,
        beside.get(species.name, ()),
    )


@pytest.mark.parametrize("name", ["PF6-", "AN"])
def test_the_library_has_what_its_records_say(name: str) -> None:
    species = load(name)
    found = _fitted(species)
    for own, kept in zip(found.atoms, species.near_field, strict=True):
        assert own.density == pytest.approx(kept.density, rel=1e-4)
        assert own.shape == pytest.approx(kept.shape, rel=1e-3, abs=1e-3)
        assert own.exponent == pytest.approx(kept.exponent, rel=1e-3)
    assert found.quality == pytest.approx(species.quality["near_field"], rel=1e-3)


@pytest.mark.parametrize("name", [n for n in library_species.NAMES if not load(n).is_bare_cation])
def test_directions_halve_what_spheres_miss_and_the_potential_what_charges_miss(name: str) -> None:
    quality = load(name).quality["near_field"]
    assert quality["density_rms_percent"] < 0.75 * quality["density_rms_percent_spheres"]
    assert quality["density_rms_percent"] < 7.0
    assert quality["potential_rms_kJ_mol_e"] < 0.6 * quality["potential_rms_kJ_mol_e_charges"]


def _density(tensors: NearFieldTensors, xyz: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(P,) e/nm^3 of the model, at places (P, 3) beside atoms at xyz (n, 3), nm."""
    r, terms = tensors.terms(torch.tensor(xyz), torch.tensor(places))
    spheres = tensors.densities * slater_overlap(r, tensors.density_exponents)
    return (spheres * torch.exp((terms * tensors.shapes).sum(-1))).sum(-1).numpy()


def test_a_density_of_the_model_itself_is_found_again() -> None:
    species = load("EC")
    tensors = species_tensors(species, ShortRange.charges_only()).near_field
    made = [
        replace(d, density=BOHR_NM**3 * _density(tensors, d.xyz * BOHR_NM, d.points * BOHR_NM))
        for d in library_species.quantum_data(species.smiles).contact_densities
    ]
    assert _fitted(species, made).quality["density_rms_percent"] < 0.8  # what ties exponents to MBIS costs


@pytest.mark.parametrize("name", ["EC", "AN", "PF6-", "FSI-", "GBL"])
def test_electrostatics_with_lithium_is_that_of_the_molecule_alone(name: str) -> None:
    # no dimer is in the fit; what is left is the finite size of the ion, one constant times the density
    known = {own: load(own) for own in (name, "Li+")}
    tensors = {own: species_tensors(s, ShortRange.charges_only()) for own, s in known.items()}
    missed, density = [], []
    for point in load_points(RECORDS / "dimer", known):
        if set(point.names) != set(known) or point.components["total"] > 0:
            continue
        cluster = Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])
        energies = [float(own(cluster)) for own in (permanent_energy, beside_penetration)]
        missed.append(np.array(energies) - point.components["electrostatics"])
        molecule = point.names.index(name)
        near_field = tensors[name].near_field
        density.append(_density(near_field, point.xyz[molecule], point.xyz[1 - molecule])[0])
    constants = np.array(density) @ np.array(missed) / np.sum(np.square(density))
    left = np.array(missed) - np.outer(density, constants)
    charges, near = np.sqrt(np.mean(left**2, axis=0))
    assert near < 0.7 * charges and near < 3.0


def test_an_atom_alone_has_a_density_and_no_potential() -> None:
    fluoride = Molecule.from_smiles("[F-]")
    spec = {
        "elements": ["F"],
        "charge": -1,
        "xyz_bohr": [[0.0] * 3],
        "level": PHYFF_2026A.density_key(),
    }
    density = contact_density_from_record(spec, contact_density_job(spec))
    assert len(density.points) == len(CONTACT_DENSITY_SCALES) * CONTACT_DENSITY_POINTS_PER_SHELL
    away = np.linalg.norm(density.points, axis=1)
    assert density.potential[-1] == pytest.approx(-1.0 / away[-1], rel=0.02)  # what is beyond hardly counts
    slater = Slater(populations=(8.0,), exponents=(40.0,))
    found = fit_near_field(fluoride, [density], [1.0], slater, DrudeCharges(atoms=(-1.0,)), ())
    (atom,) = found.atoms
    assert atom.exponent == 0.0 and set(atom.potential) == set(atom.shape) == {0.0}
    tensors = NearFieldTensors.of(fluoride, found.atoms)
    model = BOHR_NM**3 * _density(tensors, np.zeros((1, 3)), density.points * BOHR_NM)
    chosen = (density.density < 0.015) & (density.density > 1e-3)
    assert np.abs(model / density.density - 1)[chosen].max() < 0.15
