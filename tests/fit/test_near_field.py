"""Near fields come from the molecule alone: what the fit knows, and that it carries over to dimers."""

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


def test_a_density_of_the_model_itself_is_found_again() -> None:
    species = load("EC")
    data = library_species.quantum_data(species.smiles)
    tensors = species_tensors(species, ShortRange.charges_only()).near_field
    made = []
    for density in data.contact_densities:
        r, terms = tensors.terms(torch.tensor(density.xyz * BOHR_NM), torch.tensor(density.points * BOHR_NM))
        x = tensors.density_exponents * r
        spheres = tensors.densities * (1 + x + x**2 / 3) * torch.exp(-x)
        own = (spheres * torch.exp((terms * tensors.shapes).sum(-1))).sum(1).numpy() * BOHR_NM**3
        made.append(ContactDensity(density.xyz, density.points, own, density.potential))
    assert _fitted(species, made).quality["density_rms_percent"] < 0.3


def test_what_charges_miss_of_dimers_with_lithium_is_a_function_of_the_density() -> None:
    # held to monomers alone, it takes most of the error out of decomposed dimers: no dimer is in the fit
    names = ("EC", "AN", "PF6-", "FSI-", "GBL")
    known = {name: load(name) for name in (*names, "Li+")}
    tensors = {name: species_tensors(s, ShortRange.charges_only()) for name, s in known.items()}
    missed: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for point in load_points(RECORDS / "dimer", known):
        partner = next((name for name in point.names if name != "Li+"), "Li+")
        if "Li+" not in point.names or partner not in names or point.components["total"] > 0:
            continue
        cluster = Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])
        exact = point.components["electrostatics"]
        missed[partner].append(
            (float(permanent_energy(cluster)) - exact, float(beside_penetration(cluster)) - exact)
        )
    for name, own in missed.items():
        charges, near = np.std(own, axis=0)
        assert near < 0.7 * charges, (name, charges, near)


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
    x = atom.density_exponent * away * BOHR_NM
    model = atom.density * BOHR_NM**3 * (1 + x + x**2 / 3) * np.exp(-x)
    chosen = (density.density < 0.015) & (density.density > 1e-3)
    assert np.abs(model / density.density - 1)[chosen].max() < 0.15
