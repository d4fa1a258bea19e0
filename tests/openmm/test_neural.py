"""E_nn in OpenMM is that of torch in any periodic box, for several Contexts, and as boxes and atoms move."""

import copy
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from neural_systems import (
    BOXES,
    CUBE,
    FORCE_FIELD,
    SPECIES,
    TERM,
    TRICLINIC,
    context_of,
    found_in,
    liquid,
    neural_system,
)
from neural_terms import untrained
from openmm import unit

from phyff.clusters import interaction_energy
from phyff.errors import InputError
from phyff.model.cluster import Cluster
from phyff.model.neural import (
    CUTOFF,
    SEE_DIRECTIONS,
    VARIANTS,
    AtomKinds,
    NeuralTerm,
    Pairs,
    atomic_energies,
    bonds_seen,
    neighbour_sums,
    neural_energies,
)
from phyff.model.parameters import species_tensors
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.neural import NeuralForce, close_pairs, minimum_image


def _expected(
    term: NeuralTerm, names: list[str], xyz: np.ndarray, box: np.ndarray
) -> tuple[float, np.ndarray]:
    """Energy and forces in float64 from all pairs with all images."""
    variant, species = term.architecture.variant, [FORCE_FIELD.tensors[n] for n in names]
    kinds, numbers = AtomKinds.of([FORCE_FIELD.tensors[n] for n in ("EC", "Li+")])
    kind = torch.cat([numbers[("EC", "Li+").index(n)] for n in names])
    molecule = np.repeat(np.arange(len(names)), [len(s.elements) for s in species])
    first, second = np.nonzero(molecule[:, None] < molecule[None])
    places = torch.tensor(xyz, requires_grad=True)
    pairs, vectors = [], []
    for image in np.array(list(product(range(-3, 4), repeat=3))) @ box:
        near = np.linalg.norm(xyz[second] + image - xyz[first], axis=1) < CUTOFF
        i, j = torch.tensor(first[near]), torch.tensor(second[near])
        pairs.append(torch.stack([i, j]))
        vectors.append(places[j] + torch.tensor(image) - places[i])
    bonds = bonds_seen(variant, species)
    vectors.append(places[bonds[1]] - places[bonds[0]])
    sums = neighbour_sums(variant, kinds, kind, Pairs(torch.cat(pairs, 1), bonds), torch.cat(vectors))
    energy = atomic_energies(term, kinds, kind, sums).mean(0).sum()
    (gradient,) = torch.autograd.grad(energy, places)
    return energy.item(), -gradient.numpy()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_periodic_box_has_the_energy_and_forces_of_torch(
    variant: str, box: str, precision: torch.dtype
) -> None:
    term, (vectors, cells) = untrained(variant), BOXES[box]
    names, molecules = liquid(vectors, cells)
    xyz = np.vstack(molecules)
    energy, forces = _expected(term, names, xyz, vectors)
    found, found_forces = found_in(context_of(neural_system(term, names, vectors, precision)), xyz, vectors)
    tolerance = 1e-5 if precision == torch.float32 else 1e-11
    assert found == pytest.approx(energy, rel=tolerance)
    np.testing.assert_allclose(found_forces, forces, atol=tolerance * np.abs(forces).max())


@pytest.mark.parametrize("variant", SEE_DIRECTIONS)
def test_the_virial_is_the_derivative_by_the_volume(variant: str) -> None:
    term, (names, molecules) = untrained(variant), liquid(TRICLINIC, 3)
    centres = [x.mean(0) for x in molecules]
    context, step = context_of(neural_system(term, names, TRICLINIC, torch.float64)), 1e-5

    def scaled(factor: float) -> tuple[np.ndarray, np.ndarray]:
        moved = [x + (factor - 1.0) * c for x, c in zip(molecules, centres, strict=True)]
        return np.vstack(moved), factor * TRICLINIC

    for compressed in (1.0, 0.97, 1.02):
        ends = [
            found_in(context, *scaled(compressed + sign * step)) for sign in (1.0, -1.0)
        ]  # as a barostat does, without making the Context anew
        exact = [_expected(term, names, *scaled(compressed + sign * step))[0] for sign in (1.0, -1.0)]
        slope, expected = ((e[0] - e[1]) / (2 * step) for e in ([end[0] for end in ends], exact))
        assert slope == pytest.approx(expected, rel=1e-5)


def test_contexts_that_take_turns_do_not_disturb_each_other() -> None:
    boxes = [CUBE, TRICLINIC]
    liquids = [liquid(box, 3) for box in boxes]
    alone = [
        found_in(context_of(neural_system(TERM, names, box, torch.float64)), np.vstack(xyz), box)
        for (names, xyz), box in zip(liquids, boxes, strict=True)
    ]
    shared = neural_system(TERM, liquids[0][0], CUBE, torch.float64)
    contexts = [context_of(shared) for _ in boxes]
    for _ in range(3):
        for context, (_, xyz), box, expected in zip(contexts, liquids, boxes, alone, strict=True):
            found = found_in(context, np.vstack(xyz), box)
            assert found[0] == pytest.approx(expected[0], rel=1e-12)
            np.testing.assert_allclose(found[1], expected[1], atol=1e-9)


@pytest.mark.parametrize("variant", SEE_DIRECTIONS)
def test_a_list_is_made_anew_before_a_pair_is_missed(variant: str) -> None:
    term, (names, molecules) = untrained(variant), liquid(TRICLINIC, 3)
    force = _force(names, term)
    rng, xyz, box = np.random.default_rng(0), np.vstack(molecules), TRICLINIC
    lists = set()
    for step in range(60):
        xyz = xyz + rng.normal(scale=0.004, size=xyz.shape)
        box = box * (1.0 + 0.001 * rng.normal())
        crossed = xyz + np.repeat(rng.integers(-1, 2, (len(names), 3)), [len(m) for m in molecules], 0) @ box
        energy, forces = force.evaluate(crossed, box)
        lists.add(id(force.lists[0]))
        if step % 6 == 0:
            expected, expected_forces = _expected(term, names, xyz, box)
            assert energy == pytest.approx(expected, rel=1e-11)
            np.testing.assert_allclose(forces, expected_forces, atol=1e-9 * np.abs(forces).max())
    assert 1 < len(lists) < 30


def _force(names: list[str], term: NeuralTerm = TERM) -> NeuralForce:
    species = [species_tensors(s, SHORT_RANGE) for s in SPECIES]
    kinds, numbers = AtomKinds.of(species)
    places = [[s.name for s in species].index(n) for n in names]
    molecule = np.repeat(np.arange(len(names)), [len(numbers[place]) for place in places])
    bonds = bonds_seen(term.architecture.variant, [species[place] for place in places])
    kind = torch.cat([numbers[place] for place in places])
    return NeuralForce(term, kinds, kind, np.arange(len(kind)), molecule, bonds, periodic=True)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("variant", SEE_DIRECTIONS)
def test_the_spread_in_a_periodic_box_is_that_of_its_members_one_by_one(variant: str, box: str) -> None:
    term, (vectors, cells) = untrained(variant), BOXES[box]
    names, molecules = liquid(vectors, cells)
    xyz = np.vstack(molecules)
    members = [_expected(_member(term, k), names, xyz, vectors) for k in range(term.architecture.members)]
    energies, forces = np.array([e for e, _ in members]), np.array([f for _, f in members])
    energy, spreads = _force(names, term).spread(xyz, vectors)
    assert energy == pytest.approx(energies.std(), rel=1e-9)
    expected = np.sqrt(((forces - forces.mean(0)) ** 2).sum(-1).mean(0))
    np.testing.assert_allclose(spreads, expected, atol=1e-9 * expected.max())
    assert expected.max() > 1.0


def _member(term: NeuralTerm, number: int) -> NeuralTerm:
    """A committee of one of the members."""
    weights = {name: w[number : number + 1] for name, w in term.weights.items()}
    return replace(term, architecture=replace(term.architecture, members=1), weights=weights)


def test_the_committee_of_a_force_field_is_that_of_its_atoms_in_order(box) -> None:
    topology, _, names, xyz = box
    energy, forces = FORCE_FIELD.committee(topology)(xyz, CUBE)
    expected_energy, expected = _force(names).spread(xyz, CUBE)
    assert energy == pytest.approx(expected_energy, rel=1e-4)
    np.testing.assert_allclose(forces, expected, atol=1e-4 * expected.max())
    with pytest.raises(InputError, match="no neural term"):
        FORCE_FIELD.physics_only().committee(topology)


@pytest.mark.parametrize("box", [vectors for vectors, _ in BOXES.values()])
def test_close_pairs_are_those_of_all_images(box: np.ndarray) -> None:
    xyz = np.random.default_rng(2).uniform(-2.0, 3.0, size=(60, 3))
    i, j = np.triu_indices(60, 1)
    images = np.array(list(product(range(-6, 7), repeat=3))) @ box
    gaps = np.min(np.linalg.norm(xyz[j][:, None] + images[None] - xyz[i][:, None], axis=2), axis=1)
    expected = {(int(a), int(b)) for a, b, gap in zip(i, j, gaps, strict=True) if gap < 0.65}
    found = [tuple(sorted(map(int, pair))) for pair in close_pairs(xyz, box, 0.65)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    within = gaps < CUTOFF
    shortest = np.linalg.norm(minimum_image(xyz[j] - xyz[i], box), axis=1)
    np.testing.assert_allclose(shortest[within], gaps[within], atol=1e-12)


@pytest.fixture(scope="module")
def box() -> tuple:
    names, molecules = liquid(CUBE, 3)
    topology = FORCE_FIELD.topology([("EC", 26), ("Li+", 1)], box_nm=1.8)
    return topology, FORCE_FIELD.place(topology, np.vstack(molecules)), names, np.vstack(molecules)


def test_the_multipole_engine_carries_the_term_in_a_periodic_box_too(box) -> None:
    _, _, names, xyz = box
    topology = FORCE_FIELD.topology([("EC", 26), ("Li+", 1)], box_nm=1.8, engine="multipole")
    context = context_of(FORCE_FIELD.create_system(topology, engine="multipole"))
    context.setPositions(xyz)
    state = context.getState(energy=True, forces=True, groups={GROUPS["neural"]})
    energy, forces = _expected(TERM, names, xyz, CUBE)
    assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=1e-5)
    found = state.getForces(asNumpy=True)._value
    np.testing.assert_allclose(found, forces, atol=1e-5 * np.abs(forces).max())


def test_a_system_carries_the_term_in_its_own_group_on_atoms_only(box) -> None:
    topology, positions, names, xyz = box
    system = FORCE_FIELD.create_system(topology)
    context = context_of(system)
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True, groups={GROUPS["neural"]})
    energy, forces = _expected(TERM, names, xyz, CUBE)
    found = state.getForces(asNumpy=True)._value
    atoms = FORCE_FIELD.atom_indices(topology)
    assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=1e-5)
    np.testing.assert_allclose(found[atoms], forces, atol=1e-5 * np.abs(forces).max())
    assert not np.delete(found, atoms, axis=0).any()
    plain = FORCE_FIELD.physics_only().create_system(topology)
    assert not any(isinstance(f, openmm.PythonForce) for f in plain.getForces())


def test_a_copied_system_has_the_same_energy(box) -> None:
    topology, positions, _, _ = box
    system = FORCE_FIELD.create_system(topology)
    energies = []
    for own in (system, copy.deepcopy(system)):
        context = context_of(own)
        context.setPositions(positions)
        state = context.getState(energy=True, groups={GROUPS["neural"]})
        energies.append(state.getPotentialEnergy()._value)
    assert energies[0] == energies[1] != 0.0


def test_dynamics_under_a_barostat_keeps_to_the_energy_of_torch(box) -> None:
    topology, positions, names, _ = box
    system = FORCE_FIELD.create_system(topology)
    barostat = openmm.MonteCarloBarostat(1.0, 300.0, 2)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = FORCE_FIELD.integrator(300.0, 0.5)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 30)
    context.setVelocitiesToTemperature(300.0, 1)
    edges = set()
    for _ in range(4):
        integrator.step(10)
        state = context.getState(energy=True, positions=True, groups={GROUPS["neural"]})
        vectors = np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)
        edges.add(vectors[0, 0])
        xyz = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)[
            FORCE_FIELD.atom_indices(topology)
        ]
        expected, _ = _expected(TERM, names, xyz, vectors)
        assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert len(edges) > 1


def test_a_checkpoint_brings_back_the_same_forces(box) -> None:
    topology, positions, _, _ = box
    system = FORCE_FIELD.create_system(topology)
    context = openmm.Context(
        system, FORCE_FIELD.integrator(300.0, 0.5), openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"}
    )
    context.setPositions(positions)
    checkpoint = context.createCheckpoint()

    def forces() -> np.ndarray:
        return context.getState(forces=True, groups={GROUPS["neural"]}).getForces(asNumpy=True)._value

    before = forces()
    context.setPositions(positions + np.random.default_rng(0).normal(scale=0.05, size=positions.shape))
    assert np.abs(forces() - before).max() > 1.0
    context.loadCheckpoint(checkpoint)
    np.testing.assert_allclose(forces(), before, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("engine", ["torch", "drude", "multipole"])
def test_the_energy_of_a_cluster_has_the_term_as_a_part(engine: str) -> None:
    rng = np.random.default_rng(4)
    first = random_pose(SPECIES[0].xyz, rng)
    monomers = [("EC", first), ("Li+", at_contact(first, np.zeros((1, 3)), 0.2, rng))]
    found = interaction_energy(FORCE_FIELD, monomers, engine)
    cluster = Cluster.of(
        [FORCE_FIELD.tensors[n] for n, _ in monomers], [torch.tensor(x) for _, x in monomers]
    )
    assert found["neural"] == pytest.approx(neural_energies(TERM, cluster).mean().item(), rel=1e-5)
    assert found["total"] == pytest.approx(sum(v for k, v in found.items() if k != "total"))
    assert interaction_energy(FORCE_FIELD.physics_only(), monomers, engine)["neural"] == 0.0


def test_a_saved_force_field_keeps_its_neural_term(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    FORCE_FIELD.save(first)
    loaded = ForceField.load(first)
    loaded.save(second)
    assert loaded == FORCE_FIELD != FORCE_FIELD.physics_only()
    assert first.read_bytes() == second.read_bytes()
    first.write_text(first.read_text().replace('"neural": "', '"neural": "AAAA'))
    with pytest.raises(InputError, match="not a neural term"):
        ForceField.load(first)
