"""The whole chain of monomer jobs, on water with few samples and on a bare cation."""

import numpy as np
import pytest
import torch
from library_species import quantum_data
from tblite.interface import Calculator

from phyff.model.valence import dihedrals
from phyff.qm import monomer
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore, canonical
from phyff.species.conformers import conformers
from phyff.species.molecule import Molecule
from phyff.species.sampling import skeleton_dihedrals
from phyff.units import BOHR_ANGSTROM, BOHR_NM, HARTREE_KJ


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(monomer, "THERMAL_SAMPLES", 2)
    root = tmp_path_factory.mktemp("records")
    molecule = Molecule.from_smiles("O")
    data = monomer.monomer_records(molecule, PHYFF_2026A, RecordStore(root), workers=1)
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*.json")}
    again = monomer.monomer_records(molecule, PHYFF_2026A, RecordStore(root), workers=1)
    assert files == {path: path.stat().st_mtime_ns for path in root.rglob("*.json")}
    patch.undo()
    return data, again, files


def test_water_has_its_known_geometry_dipole_and_vibrations(water):
    data = water[0]
    oxygen, first, second = data.conformers[0]
    assert np.linalg.norm(first - oxygen) * BOHR_ANGSTROM == pytest.approx(0.96, abs=0.01)
    assert np.linalg.norm(first - oxygen) == pytest.approx(np.linalg.norm(second - oxygen), abs=2e-3)
    assert np.linalg.norm(data.densities[0].dipole) == pytest.approx(0.75, abs=0.05)  # e bohr; 1.9 D
    weight = np.sqrt(np.repeat(data.molecule.masses, 3) * 1822.8885)
    squared = np.linalg.eigvalsh(data.hessian / np.outer(weight, weight))[-3:]
    assert np.sqrt(squared) * 219474.63 == pytest.approx([1635, 3830, 3940], rel=0.04)  # harmonic, measured


def test_the_gradient_at_the_minimum_vanishes_and_elsewhere_does_not(water):
    samples = water[0].samples
    assert [sample.group for sample in samples] == ["minimum-0", "thermal-0-0", "thermal-0-1"]
    assert np.abs(samples[0].gradient).max() < 3e-4
    assert np.abs(samples[1].gradient).max() > 1e-3


def test_the_density_of_a_moving_molecule_is_computed_at_its_samples(water):
    data = water[0]
    shapes, samples = data.shapes, [s for s in data.samples if s.group.startswith("thermal")]
    assert len(shapes) == len(samples) == 2
    for shape, sample in zip(shapes, samples, strict=True):
        assert shape.xyz == pytest.approx(sample.xyz, abs=1e-6)
        assert shape.dipole == pytest.approx(data.densities[0].dipole, abs=0.2)
        assert np.abs(shape.dipole - data.densities[0].dipole).max() > 1e-3


@pytest.mark.parametrize("shift", (1e-9, -1e-9))
def test_the_last_digits_of_a_hessian_decide_nothing_about_which_records_are_asked_for(monkeypatch, shift):
    here, complete = quantum_data("COCCOC"), monomer.complete_hessian
    monkeypatch.setattr(monomer, "complete_hessian", lambda *given: complete(*given) + shift)
    elsewhere = quantum_data("COCCOC")
    assert elsewhere.hessian - here.hessian == pytest.approx(shift, rel=1e-3)
    for one, other in zip(here.samples + here.shapes, elsewhere.samples + elsewhere.shapes, strict=True):
        assert np.array_equal(one.xyz, other.xyz)


def test_multipoles_reproduce_the_potential_they_came_with(water):
    density = water[0].densities[0]
    r = density.esp_points[:, None] - density.xyz
    d = np.linalg.norm(r, axis=2)
    model = (density.charges / d).sum(1) + (np.einsum("gax,ax->ga", r, density.dipoles) / d**3).sum(1)
    model += (np.einsum("gax,axy,gay->ga", r, density.quadrupoles, r) / d**5).sum(1)
    assert np.linalg.norm(model - density.esp_values) < 0.06 * np.linalg.norm(density.esp_values)
    dipole = density.charges @ density.xyz + density.dipoles.sum(axis=0)
    assert dipole == pytest.approx(density.dipole, abs=1e-4)
    assert density.charges.sum() == pytest.approx(0.0, abs=1e-9)


def test_the_response_is_scaled_to_the_static_polarizability(water):
    data = water[0]
    assert np.trace(data.response.tensors[0]) == pytest.approx(np.trace(data.polarizability), rel=1e-6)
    assert data.response.c6 == pytest.approx(45.3, rel=0.1)  # Margoliash and Meath 1978
    assert data.response.dynamic[0] == pytest.approx(data.response.static[:60, :60], rel=1e-3, abs=1e-7)


def test_a_second_call_reads_everything_from_the_store(water):
    data, again, files = water
    assert np.array_equal(data.hessian, again.hessian)
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_a_bare_cation_is_a_point_with_a_core():
    spec = {
        "elements": ["Li"],
        "charge": 1,
        "xyz_bohr": [[0.0, 0.0, 0.0]],
        "level": {**PHYFF_2026A.density_key(), "partition_grid_level": 3},
    }
    density = monomer.density_from_record(spec, canonical(monomer.density_job(spec)))
    assert density.charges.tolist() == [1.0]
    assert density.valence_populations == pytest.approx([2.0], abs=1e-4)
    assert monomer.optimise_job({**spec, "level": PHYFF_2026A.geometry_key()})["xyz_bohr"] == [
        [0.0, 0.0, 0.0]
    ]


def test_twisted_geometries_turn_the_skeleton_and_stay_below_the_window():
    molecule = Molecule.from_smiles("COCCOC")
    lowest = conformers(molecule, max_count=1)[0].xyz / BOHR_ANGSTROM
    turning = skeleton_dihedrals(molecule, lowest * BOHR_NM)
    spec = {
        "mapped_smiles": molecule.mapped_smiles,
        "elements": list(molecule.elements),
        "charge": 0,
        "xyz_bohr": lowest.tolist(),
        "dihedrals": [list(dihedral) for dihedral in turning],
        "count": 4,
        "trials": 200,
        "window_kj": 30.0,
    }
    found = np.array(monomer.twisted_geometries_job(spec)["xyz_bohr"])
    assert len(found) == 4
    turned = dihedrals(torch.tensor(found), turning).numpy()
    assert np.ptp(turned, axis=0).min() > 0.5
    calculator = Calculator("GFN2-xTB", molecule.atomic_numbers, lowest)
    calculator.set("verbosity", 0)

    def energy(xyz):
        calculator.update(xyz)
        return calculator.singlepoint().get("energy") * HARTREE_KJ

    start = energy(lowest)
    assert all(energy(xyz) - start < 30.1 for xyz in found)
    assert monomer.twisted_geometries_job({**spec, "trials": 0})["xyz_bohr"] == []
