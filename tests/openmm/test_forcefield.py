"""ForceField: a file that is stable, Systems that run without phyff, and inputs it refuses."""

import subprocess
import sys
from pathlib import Path

import library_species
import numpy as np
import openmm
import pytest
import standin_species
from library_species import SHORT_RANGE, random_pose
from openmm import unit
from openmm.app import Topology

from phyff.errors import InputError
from phyff.openmm.forcefield import ForceField

FORCE_FIELD = ForceField((library_species.load("EC"), library_species.load("Li+")), SHORT_RANGE)
CUTOFF = 0.8
PLAIN_OPENMM = """
import sys
import numpy as np, openmm
from openmm import unit
system = openmm.XmlSerializer.deserialize(open(sys.argv[1]).read())
platform = openmm.Platform.getPlatformByName("Reference")
context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
context.setPositions(np.load(sys.argv[2]))
energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
assert not any(name.split(".")[0] in ("phyff", "torch") for name in sys.modules)
print(repr(energy))
"""


@pytest.fixture(scope="module")
def box() -> tuple[Topology, np.ndarray]:
    """26 EC and a lithium ion on a grid, with all their particles."""
    rng, spacing = np.random.default_rng(3), 0.6
    places = spacing * (0.5 + np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3))
    xyz = [random_pose(FORCE_FIELD.named("EC").xyz, rng) + place for place in places[:26]]
    topology = FORCE_FIELD.topology([("EC", 26), ("Li+", 1)], box_nm=3 * spacing)
    return topology, FORCE_FIELD.place(topology, np.vstack([*xyz, places[26:]]))


@pytest.fixture(scope="module")
def system(box) -> openmm.System:
    return FORCE_FIELD.create_system(box[0], CUTOFF)


@pytest.fixture(scope="module")
def reference(box, system) -> openmm.State:
    """Energy and forces of the box on the Reference platform."""
    return _state(system, box[1], "Reference")


def _state(system: openmm.System, positions: np.ndarray, platform: str) -> openmm.State:
    properties = {"Threads": "1"} if platform == "CPU" else {}
    engine = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), engine, properties)
    rng = np.random.default_rng(0)
    moved = positions.copy()
    for k in _drudes(system):
        moved[k] += rng.normal(scale=0.002, size=3)
    context.setPositions(moved)
    context.computeVirtualSites()
    return context.getState(energy=True, forces=True, positions=True)


def _drudes(system: openmm.System) -> list[int]:
    force = next(f for f in system.getForces() if isinstance(f, openmm.DrudeForce))
    return [force.getParticleParameters(k)[0] for k in range(force.getNumParticles())]


def _forces(state: openmm.State) -> np.ndarray:
    return state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)


def test_the_cpu_platform_gives_the_forces_of_the_reference(box, system, reference) -> None:
    expected, found = _forces(reference), _forces(_state(system, box[1], "CPU"))
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_forces_are_the_derivatives_of_the_periodic_energy(box, system, reference) -> None:
    topology, _ = box
    moving = np.array([*FORCE_FIELD.atom_indices(topology), *_drudes(system)])
    positions = reference.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    direction = np.zeros_like(positions)
    direction[moving] = np.random.default_rng(5).normal(size=(len(moving), 3))
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    energies, step = [], 1e-7  # so small that hardly a pair crosses the cut-off
    for sign in (1.0, -1.0):
        context.setPositions(positions + sign * step * direction)
        context.computeVirtualSites()
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    numeric = (energies[0] - energies[1]) / (2 * step)
    assert np.sum(_forces(reference) * direction) == pytest.approx(-numeric, rel=1e-5)


@pytest.mark.parametrize("skew", [0.0, 0.3], ids=["cube", "triclinic"])
def test_the_mesh_has_the_forces_of_a_converged_ewald_sum(box, skew: float) -> None:
    positions, edge = box[1], 1.8
    topology = FORCE_FIELD.topology([("EC", 26), ("Li+", 1)], box_nm=edge)
    topology.setPeriodicBoxVectors([[edge, 0, 0], [skew * edge, edge, 0], [0, skew * edge, edge]])
    built = FORCE_FIELD.create_system(topology, CUTOFF)
    charges = next(f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    ours = _charges_alone(built, charges, positions)
    charges.setPMEParameters(0.0, 0, 0, 0)
    charges.setEwaldErrorTolerance(1e-8)
    converged = _charges_alone(built, charges, positions)
    assert np.sqrt(np.mean(converged**2)) > 100.0
    assert np.sqrt(np.mean((ours - converged) ** 2)) < 0.25, "kJ/mol/nm; 1.2 with OpenMM's default tolerance"


def _charges_alone(system: openmm.System, charges: openmm.Force, positions: np.ndarray) -> np.ndarray:
    """(n, 3) kJ/mol/nm of that force alone."""
    alone = openmm.System()
    alone.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    for _ in positions:
        alone.addParticle(1.0)
    alone.addForce(openmm.XmlSerializer.clone(charges))
    engine = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(alone, openmm.VerletIntegrator(0.001), engine)
    context.setPositions(positions)
    return _forces(context.getState(forces=True))


def test_the_xml_of_a_system_gives_the_same_energy_with_openmm_alone(
    box, system, reference, tmp_path: Path
) -> None:
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    np.save(tmp_path / "xyz.npy", reference.getPositions(asNumpy=True).value_in_unit(unit.nanometer), False)
    run = subprocess.run(
        [sys.executable, "-c", PLAIN_OPENMM, "system.xml", "xyz.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == pytest.approx(reference.getPotentialEnergy()._value, rel=1e-9)


def test_the_components_of_the_short_range_sum_to_the_force_that_runs(box, reference) -> None:
    topology, positions = box
    split = FORCE_FIELD.create_system(topology, CUTOFF, split_components=True)
    found, expected = _forces(_state(split, positions, "Reference")), _forces(reference)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_every_molecule_carries_its_integer_charge(box, system) -> None:
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    for residue in box[0].residues():
        charges = [force.getParticleParameters(a.index)[0]._value for a in residue.atoms()]
        assert sum(charges) == pytest.approx(1.0 if residue.chain.id == "Li+" else 0.0, abs=1e-6)


def test_every_molecule_keeps_its_mass(box, system) -> None:
    for residue in box[0].residues():
        masses = [system.getParticleMass(a.index)._value for a in residue.atoms()]
        molecule = FORCE_FIELD.named(residue.chain.id).molecule
        assert sum(masses) == pytest.approx(sum(molecule.masses), abs=0.01)
        sites = [m for a, m in zip(residue.atoms(), masses, strict=True) if a.name.startswith("M")]
        others = [m for a, m in zip(residue.atoms(), masses, strict=True) if not a.name.startswith("M")]
        assert not any(sites)
        assert min(others) > 0.5


def test_oscillators_start_on_their_atoms_and_sites_where_openmm_puts_them(box, system) -> None:
    topology, positions = box
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    context.computeVirtualSites()
    placed = context.getState(positions=True).getPositions(asNumpy=True)._value
    np.testing.assert_allclose(placed, positions, atol=1e-9)
    drude = next(f for f in system.getForces() if isinstance(f, openmm.DrudeForce))
    for k in range(drude.getNumParticles()):
        particle, parent = drude.getParticleParameters(k)[:2]
        np.testing.assert_array_equal(positions[particle], positions[parent])


def test_a_saved_force_field_loads_and_saves_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    FORCE_FIELD.save(first)
    loaded = ForceField.load(first)
    loaded.save(second)
    assert loaded == FORCE_FIELD
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), ("{", "cannot be read"), ("{}", "not a PhyFF force field")],
)
def test_what_is_no_force_field_file_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "forcefield.json").write_text(content)
    with pytest.raises(InputError, match=says):
        ForceField.load(tmp_path / "forcefield.json")


def test_a_field_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    path = tmp_path / "forcefield.json"
    FORCE_FIELD.save(path)
    path.write_text(path.read_text().replace('"damping":', '"damp":'))
    with pytest.raises(InputError, match="damping"):
        ForceField.load(path)


def test_a_box_below_twice_the_cutoff_is_refused() -> None:
    with pytest.raises(InputError, match="1.50 nm is below twice the cut-off of 0.8 nm"):
        FORCE_FIELD.create_system(FORCE_FIELD.topology([("EC", 2)], box_nm=1.5), 0.8)


def test_a_periodic_system_without_a_box_is_refused() -> None:
    with pytest.raises(InputError, match="no periodic box"):
        FORCE_FIELD.create_system(FORCE_FIELD.topology([("EC", 1)]), 0.8)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="'amoeba' is not available"):
        FORCE_FIELD.create_system(FORCE_FIELD.topology([("EC", 1)]), None, engine="amoeba")


def test_a_species_the_force_field_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="no species 'PC'; it holds EC, Li+"):
        FORCE_FIELD.topology([("PC", 1)])


def test_a_residue_of_another_force_field_is_refused() -> None:
    other = ForceField((standin_species.WATER,), SHORT_RANGE).topology([("water", 1)])
    with pytest.raises(InputError, match="WATE.* is no species of the force field"):
        FORCE_FIELD.create_system(other, None)


def test_a_residue_without_its_extra_particles_is_refused() -> None:
    whole, bare = FORCE_FIELD.topology([("EC", 1)]), Topology()
    residue = bare.addResidue("EC", bare.addChain("EC"))
    for atom in whole.atoms():
        if atom.element is not None:
            bare.addAtom(atom.name, atom.element, residue)
    with pytest.raises(InputError, match="has 10 particles where EC has 10 atoms, 10 Drude particles"):
        FORCE_FIELD.create_system(bare, None)


def test_positions_may_have_a_unit_and_must_be_as_many_as_atoms() -> None:
    topology = FORCE_FIELD.topology([(FORCE_FIELD.species[0].name, 1)], None)
    xyz = FORCE_FIELD.species[0].xyz
    placed = FORCE_FIELD.place(topology, xyz)
    np.testing.assert_allclose(FORCE_FIELD.place(topology, 10.0 * xyz * unit.angstrom), placed, atol=1e-12)
    with pytest.raises(InputError, match=f"has {len(xyz)} real atoms, so give"):
        FORCE_FIELD.place(topology, np.zeros((len(xyz) + 1, 3)))
