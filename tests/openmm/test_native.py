"""The native kernel gives what stock forces give on the Reference platform, whatever box and atoms do."""

import copy
import importlib.util
import sys

import library_species
import numpy as np
import openmm
import pytest
from library_species import SHORT_RANGE, random_pose, with_random_flows
from openmm.app import Topology

from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import INSTALL, accelerated, notice, pair_forces, with_native_forces
from phyff.openmm.near_field import NAME as NEAR_FIELD

needs_kernel = pytest.mark.skipif(
    importlib.util.find_spec("phyff_native") is None,
    reason=f"the native kernel is not installed; {INSTALL}",
)
COUNTS = [("Li+", 4), ("PF6-", 4), ("EC", 28), ("DMC", 28)]
RNG = np.random.default_rng(11)
FORCE_FIELD = ForceField(
    tuple(with_random_flows(library_species.load(name), RNG) for name, _ in COUNTS), SHORT_RANGE
)
SPACING = 0.65
EDGE = 4 * SPACING
PAIR_GROUPS = {GROUPS[name] for name in ("permanent", "damping", "oscillators", "short range", "charge flow")}
RECIPROCAL_GROUP = 20
"""Of its own here: OpenMM computes it in single precision on the CPU platform, accelerated or not."""
TOLERANCE = 1e-9
"""Relative; the kernel is in double precision."""


@pytest.fixture(scope="module")
def box() -> tuple[Topology, np.ndarray]:
    """A molecule on each point of a 4 x 4 x 4 grid, oscillators a little off their atoms."""
    rng = np.random.default_rng(7)
    places = SPACING * (0.5 + np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3))
    names = [name for name, count in COUNTS for _ in range(count)]
    xyz = [
        random_pose(FORCE_FIELD.named(name).xyz, rng) + place
        for name, place in zip(names, rng.permutation(places), strict=True)
    ]
    topology = FORCE_FIELD.topology(COUNTS, box_nm=EDGE)
    positions = FORCE_FIELD.place(topology, np.vstack(xyz))
    atoms = FORCE_FIELD.atom_indices(topology)
    others = np.setdiff1d(np.arange(len(positions)), atoms)
    positions[others] += rng.normal(scale=0.002, size=(len(others), 3))
    return topology, positions


@pytest.fixture(scope="module")
def system(box) -> openmm.System:
    return _system(FORCE_FIELD, box[0])


def _system(force_field: ForceField, topology: Topology) -> openmm.System:
    built = force_field.create_system(topology, 0.8)
    (charges,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    charges.setReciprocalSpaceForceGroup(RECIPROCAL_GROUP)
    return built


@pytest.fixture(scope="module")
def reference(system) -> openmm.Context:
    """The stock forces on the Reference platform."""
    return _context(system, "Reference")


@pytest.fixture(params=["1", "2"], ids=["one thread", "two threads"])
def native(system, request) -> openmm.Context:
    """The native forces on the CPU platform."""
    return _context(with_native_forces(system), "CPU", request.param)


def _context(system: openmm.System, platform: str, threads: str = "1") -> openmm.Context:
    engine = openmm.Platform.getPlatformByName(platform)
    properties = {"Threads": threads} if platform == "CPU" else {}
    return openmm.Context(system, openmm.VerletIntegrator(0.001), engine, properties)


def _pair_state(
    context: openmm.Context, positions: np.ndarray, vectors: np.ndarray, groups: set[int] = PAIR_GROUPS
) -> openmm.State:
    context.setPeriodicBoxVectors(*vectors)
    context.setPositions(positions)
    return context.getState(energy=True, forces=True, groups=groups)


def _energy(context: openmm.Context, positions: np.ndarray, vectors: np.ndarray) -> float:
    return _pair_state(context, positions, vectors).getPotentialEnergy()._value


def _assert_same(
    native: openmm.Context,
    reference: openmm.Context,
    positions: np.ndarray,
    vectors: np.ndarray,
    groups: set[int] = PAIR_GROUPS,
) -> None:
    found, expected = (_pair_state(context, positions, vectors, groups) for context in (native, reference))
    assert found.getPotentialEnergy()._value == pytest.approx(
        expected.getPotentialEnergy()._value, rel=TOLERANCE
    )
    forces = [state.getForces(asNumpy=True)._value for state in (found, expected)]
    assert np.abs(forces[0] - forces[1]).max() <= TOLERANCE * np.abs(forces[1]).max()


def _scaled(topology: Topology, positions: np.ndarray, factor: float) -> np.ndarray:
    """Whole molecules moved as a barostat does."""
    owner = np.array([atom.residue.index for atom in topology.atoms()])
    centres = (
        np.array([np.bincount(owner, positions[:, k]) for k in range(3)]).T / np.bincount(owner)[:, None]
    )
    moved: np.ndarray = positions + (factor - 1.0) * centres[owner]
    return moved


@needs_kernel
def test_pair_forces_are_taken_over_with_their_names_and_groups(system) -> None:
    before = {f.getName(): f.getForceGroup() for f in system.getForces()}
    copied = with_native_forces(system)
    after = {f.getName(): f.getForceGroup() for f in copied.getForces()}
    assert after == {
        **before,
        "charges and C6, reciprocal space": RECIPROCAL_GROUP,
        "DrudeForce, screened pairs": GROUPS["oscillators"],
    }
    (springs,) = (f for f in copied.getForces() if isinstance(f, openmm.DrudeForce))
    assert springs.getNumParticles() and not springs.getNumScreenedPairs()
    replaced = (openmm.CustomNonbondedForce, openmm.CustomHbondForce)
    assert not [f for f in copied.getForces() if isinstance(f, replaced)]
    (remaining,) = (f for f in copied.getForces() if isinstance(f, openmm.NonbondedForce))
    assert not remaining.getIncludeDirectSpace()
    assert sum(isinstance(f, openmm.CustomNonbondedForce) for f in system.getForces()) == 3


@needs_kernel
def test_the_reciprocal_space_is_that_of_stock_openmm(box, system, reference) -> None:
    """Single precision here, double in the reference."""
    native = _context(with_native_forces(system), "CPU")
    stock = _context(system, "CPU")
    found = []
    for context in (native, stock, reference):
        context.setPositions(box[1])
        found.append(context.getState(energy=True, forces=True, groups={RECIPROCAL_GROUP}))
    energies = [state.getPotentialEnergy()._value for state in found]
    forces = [state.getForces(asNumpy=True)._value for state in found]
    largest = np.abs(forces[2]).max()
    for energy, force in zip(energies[:2], forces[:2], strict=True):
        assert energy == pytest.approx(energies[2], rel=1e-4)
        assert np.abs(force - forces[2]).max() < 1e-4 * largest


@needs_kernel
def test_energy_and_forces_are_those_of_stock_openmm(box, native, reference) -> None:
    _assert_same(native, reference, box[1], EDGE * np.eye(3))


@needs_kernel
@pytest.mark.parametrize("factor", [1.001, 0.998, 1.1])
def test_they_stay_so_when_the_box_is_scaled(box, native, reference, factor) -> None:
    topology, positions = box
    for scale in (1.0, factor, 1.0):
        _assert_same(native, reference, _scaled(topology, positions, scale), scale * EDGE * np.eye(3))


@needs_kernel
def test_they_stay_so_in_a_triclinic_box(box, native, reference) -> None:
    vectors = EDGE * np.array([[1.0, 0.0, 0.0], [0.25, 1.0, 0.0], [-0.25, 0.5, 1.0]])
    _assert_same(native, reference, box[1], vectors)
    _assert_same(native, reference, box[1] @ np.diag([1.05, 1.0, 1.0]), vectors @ np.diag([1.05, 1.0, 1.0]))


@needs_kernel
def test_they_stay_so_while_atoms_wander_and_molecules_jump_by_box_vectors(box, native, reference) -> None:
    topology, positions = box
    rng, moved = np.random.default_rng(2), positions.copy()
    owner = np.array([atom.residue.index for atom in topology.atoms()])
    for _ in range(6):
        moved += rng.normal(scale=0.01, size=(owner.max() + 1, 3))[owner]
        moved += EDGE * rng.integers(-1, 2, size=(owner.max() + 1, 3))[owner]
        _assert_same(native, reference, moved, EDGE * np.eye(3))


@needs_kernel
def test_lists_followed_for_many_small_steps_give_what_new_ones_give(box, system, native) -> None:
    """Through the narrow list's margin many times, and the wide one's a few."""
    rng, moved = np.random.default_rng(3), box[1].copy()
    drift = rng.normal(scale=0.004, size=moved.shape)
    for step in range(1, 31):
        moved += drift
        if step % 10:
            _energy(native, moved, EDGE * np.eye(3))
        else:
            fresh = _context(with_native_forces(system), "CPU")
            _assert_same(native, fresh, moved, EDGE * np.eye(3))


@needs_kernel
def test_they_stay_so_when_molecules_are_longer_than_the_cutoff(box, native, reference) -> None:
    _assert_same(native, reference, 4.0 * box[1], 4.0 * EDGE * np.eye(3))


@needs_kernel
def test_excluded_pairs_longer_than_half_the_box_are_no_nearest_images() -> None:
    forcefield = ForceField((library_species.load("DEC"),), SHORT_RANGE)
    edge = 1.5
    topology = forcefield.topology([("DEC", 1)], box_nm=edge)
    positions = forcefield.place(topology, np.array(forcefield.named("DEC").xyz))
    assert np.ptp(positions, axis=0).max() > edge / 2
    system = forcefield.create_system(topology, 0.7)
    (charges,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charges.setReciprocalSpaceForceGroup(RECIPROCAL_GROUP)
    contexts = (_context(with_native_forces(system), "CPU"), _context(system, "Reference"))
    for shift in (0.0, 0.4, 1.1):  # the molecule crosses the boundary
        _assert_same(*contexts, positions + shift, edge * np.eye(3))


@needs_kernel
@pytest.mark.parametrize("edge", [EDGE, None], ids=["box", "vacuum"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_charge_flow_alone_is_that_of_stock_openmm(box, edge, threads) -> None:
    topology, positions = box
    system = FORCE_FIELD.create_system(topology, edge and 0.8)
    group, vectors = {GROUPS["charge flow"]}, EDGE * np.eye(3)
    contexts = _context(with_native_forces(system), "CPU", threads), _context(system, "Reference")
    for shift in (0.0, 0.4, 1.1):
        _assert_same(*contexts, positions + shift, vectors, group)
    assert abs(contexts[1].getState(energy=True, groups=group).getPotentialEnergy()._value) > 1.0


@needs_kernel
@pytest.mark.parametrize("edge", [EDGE, None], ids=["box", "vacuum"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_near_fields_alone_are_those_of_stock_openmm(box, edge, threads) -> None:
    topology, positions = box
    systems = []
    for make in (with_native_forces, copy.deepcopy):
        system = make(FORCE_FIELD.create_system(topology, edge and 0.8))
        for force in system.getForces():
            force.setForceGroup(1 if NEAR_FIELD in force.getName() else 0)
        systems.append(system)
    contexts = _context(systems[0], "CPU", threads), _context(systems[1], "Reference")
    firsts = np.array([next(residue.atoms()).index for residue in topology.residues()])
    ions, carbonates = firsts[: COUNTS[0][1]], firsts[-COUNTS[0][1] :]
    positions = positions.copy()
    positions[ions] = positions[carbonates] + np.array([0.12, 0.1, 0.11])
    for shift in (0.0, 0.4, 1.1):
        _assert_same(*contexts, positions + shift, EDGE * np.eye(3), {1})
    assert abs(contexts[1].getState(energy=True, groups={1}).getPotentialEnergy()._value) > 1.0


@needs_kernel
def test_near_fields_of_another_version_are_refused() -> None:
    system, force = openmm.System(), openmm.CustomHbondForce("distance(a1, d1)*n0")
    force.addPerDonorParameter("n0")
    system.addForce(force)
    kernel = importlib.import_module("phyff_native")
    with pytest.raises(ValueError, match="different versions"):
        kernel.replace_near_field(int(system.this), 0, switch_start=0.4, cutoff=0.5)


@needs_kernel
def test_charge_flow_of_another_version_is_refused() -> None:
    system, force = openmm.System(), openmm.CustomHbondForce("distance(a1, d1)*bond")
    for name in ("bond", "nextbond", "bend", "atrest"):
        force.addPerDonorParameter(name)
    for _ in range(4):
        system.addParticle(1.0)
    force.addDonor(0, 1, 2, [1.0, 0.0, 0.0, 0.0])
    force.addAcceptor(3, -1, -1, [])
    system.addForce(force)
    kernel = importlib.import_module("phyff_native")
    with pytest.raises(ValueError, match="different versions"):
        kernel.replace_charge_flow(int(system.this), 0, coulomb=1.0, switch_start=0.4, cutoff=0.5, reach=0.6)


@needs_kernel
def test_forces_without_the_energy_are_those_with_it(box, native) -> None:
    state = _pair_state(native, box[1], EDGE * np.eye(3))
    alone = native.getState(forces=True, groups=PAIR_GROUPS).getForces(asNumpy=True)._value
    np.testing.assert_allclose(alone, state.getForces(asNumpy=True)._value, rtol=0, atol=1e-8)


CUTOFF = 0.8
SKEWED = np.array([[1.0, 0.0, 0.0], [0.45, 1.0, 0.0], [0.4, 0.3, 1.0]])
"""Skewed to other sides and this narrow, OpenMM's Reference platform misses pairs or counts them twice."""


def _charges(n: int, edge: float) -> openmm.System:
    """Charges and C6, every fifth particle without either, and exceptions of every kind."""
    rng = np.random.default_rng(n)
    absent = np.arange(n) % 5 == 4
    charges = np.where(absent, 0.0, rng.normal(size=n))
    charges -= np.where(absent, 0.0, charges.sum() / (~absent).sum())
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(CUTOFF)
    force.setEwaldErrorTolerance(3e-5)
    force.setForceGroup(GROUPS["permanent"])
    force.setReciprocalSpaceForceGroup(RECIPROCAL_GROUP)
    built = openmm.System()
    built.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
    for k in range(n):
        built.addParticle(1.0)
        force.addParticle(charges[k], 0.05, 0.0 if absent[k] else rng.uniform(0.1, 1.0))
    for k in range(n - 1):
        force.addException(k, k + 1, *((0.0, 0.05, 0.0) if k % 3 else (rng.normal(), 0.1, 0.5)))
    built.addForce(force)
    return built


@needs_kernel
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 150])
@pytest.mark.parametrize(
    "vectors",
    [2 * CUTOFF * np.eye(3), 2 * CUTOFF * SKEWED, 2.05 * CUTOFF * SKEWED, np.diag([1.6, 2.4, 4.0])],
    ids=["narrow", "narrow and skewed", "skewed", "oblong"],
)
def test_few_particles_and_narrow_boxes_are_treated_like_others(n, vectors) -> None:
    built = _charges(n, 2 * CUTOFF)
    contexts = _context(with_native_forces(built), "CPU", "2"), _context(built, "Reference")
    rng = np.random.default_rng(1)
    positions = rng.uniform(-1.0, 2.0, size=(n, 3)) @ vectors
    for _ in range(4):
        _assert_same(*contexts, positions, vectors)
        positions = positions + rng.normal(scale=0.02, size=(n, 3))


@needs_kernel
def test_an_ewald_tolerance_too_tight_for_the_kernel_leaves_the_charges_stock() -> None:
    built = _charges(10, 2 * CUTOFF)
    (charges,) = built.getForces()
    charges.setEwaldErrorTolerance(1e-7)
    (left,) = with_native_forces(built).getForces()
    assert left.getIncludeDirectSpace()


@needs_kernel
def test_exceptions_between_nearest_images_leave_the_charges_stock() -> None:
    built = _charges(8, 2.0)
    (force,) = built.getForces()
    force.setExceptionsUsePeriodicBoundaryConditions(True)
    (kept,) = with_native_forces(built).getForces()
    assert kept.getIncludeDirectSpace()


@needs_kernel
def test_pressure_by_finite_differences_is_that_of_stock_openmm(box, native, reference) -> None:
    topology, positions = box
    slopes = []
    for context in (native, reference):
        energies = [
            _energy(context, _scaled(topology, positions, scale), scale * EDGE * np.eye(3))
            for scale in (1.0 + 1e-4, 1.0 - 1e-4)
        ]
        slopes.append(energies[0] - energies[1])
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-6)


@needs_kernel
def test_two_contexts_do_not_meddle_with_each_other(box, system, reference) -> None:
    topology, positions = box
    contexts = [_context(with_native_forces(system), "CPU", threads) for threads in ("1", "2")]
    for shift in (0.0, 0.2):
        for context, scale in zip(contexts, (1.0, 1.05), strict=True):
            _assert_same(
                context, reference, _scaled(topology, positions, scale) + shift, scale * EDGE * np.eye(3)
            )


@needs_kernel
def test_minimiser_barostat_and_drude_dynamics_run_on_it(box) -> None:
    """With the flows that were fitted: random ones pull molecules together until the oscillators break."""
    topology, positions = box
    force_field = ForceField(tuple(library_species.load(name) for name, _ in COUNTS), SHORT_RANGE)
    system = _system(force_field, topology)
    reference = _context(system, "Reference")
    native = with_native_forces(system)
    barostat = openmm.MonteCarloBarostat(1.0, 300.0, 5)
    barostat.setRandomNumberSeed(1)
    native.addForce(barostat)
    integrator = force_field.integrator(300.0)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(native, integrator, platform, {"Threads": "1"})
    context.setPositions(force_field.place(topology, positions[force_field.atom_indices(topology)]))
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 20)
    context.setVelocitiesToTemperature(300.0, 1)
    for _ in range(3):
        integrator.step(25)
        state = context.getState(positions=True, energy=True, groups=PAIR_GROUPS)
        vectors = state.getPeriodicBoxVectors(asNumpy=True)._value
        expected = _energy(reference, state.getPositions(asNumpy=True)._value, vectors)
        assert state.getPotentialEnergy()._value == pytest.approx(expected, rel=TOLERANCE)
    assert vectors[0, 0] != EDGE, "the barostat moved the box"
    assert context.getMolecules() == reference.getMolecules()


@needs_kernel
def test_lost_particles_and_too_small_boxes_are_reported(box, native) -> None:
    lost = box[1].copy()
    lost[0] = np.nan
    with pytest.raises(openmm.OpenMMException, match="NaN"):
        _pair_state(native, lost, EDGE * np.eye(3))
    with pytest.raises(openmm.OpenMMException, match="periodic box size has decreased"):
        _pair_state(native, box[1], 1.2 * np.eye(3))


@needs_kernel
def test_only_contexts_on_the_cpu_platform_are_accelerated(system) -> None:
    cpu, other = (openmm.Platform.getPlatformByName(name) for name in ("CPU", "Reference"))
    assert accelerated(system, other) is system
    assert notice(system, other) is None
    assert accelerated(system, cpu) is not system
    assert pair_forces(system, cpu) == "native"
    assert notice(system, cpu) == "Pair forces: native kernel"


@needs_kernel
def test_a_system_with_forces_the_kernel_does_not_know_stays_stock(box) -> None:
    cpu = openmm.Platform.getPlatformByName("CPU")
    split = FORCE_FIELD.create_system(box[0], 0.8, split_components=True)
    vacuum = FORCE_FIELD.create_system(box[0], None)
    for other in (split, vacuum):
        assert accelerated(other, cpu) is other
        assert pair_forces(other, cpu) == "stock"
    assert "does not know exchange, exchange with bare cations, penetration" in (notice(split, cpu) or "")


def test_without_the_kernel_the_stock_system_is_used_and_the_run_says_so(system, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "phyff_native", None)
    cpu = openmm.Platform.getPlatformByName("CPU")
    assert accelerated(system, cpu) is system
    assert pair_forces(system, cpu) == "stock"
    line = notice(system, cpu)
    assert line is not None and "not installed" in line and INSTALL in line
