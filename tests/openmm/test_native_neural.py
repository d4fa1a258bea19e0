"""The native kernel gives the neural term that torch gives, whatever box and atoms do."""

import copy
import importlib.util
import sys

import numpy as np
import openmm
import pytest
import torch
from neural_systems import (
    BOXES,
    CUBE,
    FORCE_FIELD,
    SPECIES,
    TERM,
    TOLERANCE,
    TRICLINIC,
    BesideTorch,
    cluster,
    context_of,
    found_in,
    liquid,
    neural_system,
)
from neural_terms import untrained

from phyff.model.neural import (
    CUTOFF,
    SEE_DIRECTIONS,
    VARIANTS,
    Architecture,
    NeuralTerm,
    initial_weights,
)
from phyff.openmm.drude import GROUPS
from phyff.openmm.native import INSTALL, accelerated, notice, pair_forces, with_native_forces
from phyff.openmm.neural import NAME

needs_kernel = pytest.mark.skipif(
    importlib.util.find_spec("phyff_native") is None,
    reason=f"the native kernel is not installed; {INSTALL}",
)
CPU = openmm.Platform.getPlatformByName("CPU")
GROUP = {GROUPS["neural"]}


def _both(
    names: list[str], box: np.ndarray | None, term: NeuralTerm = TERM, threads: str = "1"
) -> BesideTorch:
    return BesideTorch(context_of(_native(term, names, box), "CPU", threads), names, box, term)


def _native(term: NeuralTerm, names: list[str], box: np.ndarray | None) -> openmm.System:
    replaced = accelerated(neural_system(term, names, box, torch.float32), CPU)
    assert not [f for f in replaced.getForces() if isinstance(f, openmm.PythonForce)]
    return replaced


def _scaled(molecules: list[np.ndarray], factor: float) -> np.ndarray:
    """Whole molecules moved as a barostat does."""
    return np.vstack([x + (factor - 1.0) * x.mean(0) for x in molecules])


@needs_kernel
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_periodic_box_has_the_energy_and_forces_of_torch(variant: str, box: str, threads: str) -> None:
    vectors, cells = BOXES[box]
    names, molecules = liquid(vectors, cells)
    _both(names, vectors, untrained(variant), threads).assert_same(np.vstack(molecules))


@needs_kernel
@pytest.mark.parametrize("variant", VARIANTS)
def test_so_does_a_cluster_wherever_its_molecules_go(variant: str) -> None:
    names, xyz = cluster()
    both, rng = _both(names, None, untrained(variant)), np.random.default_rng(1)
    both.assert_same(xyz)
    for reach in (0.001, 0.01, 5.0, 500.0):
        leaving = np.where(np.arange(len(xyz)) < len(xyz) - len(SPECIES[0].elements), 0.0, reach)
        both.assert_same(xyz + rng.normal(scale=0.002, size=xyz.shape) + leaving[:, None])


@needs_kernel
@pytest.mark.parametrize(("members", "channels", "hidden"), [(1, 1, 1), (2, 3, 5), (5, 9, 17)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_committee_of_any_size_is_that_of_torch(
    variant: str, members: int, channels: int, hidden: int
) -> None:
    shape = Architecture(variant=variant, members=members, channels=channels, hidden=hidden, saturation=11.0)
    weights = initial_weights(shape, 1)
    large = {k: (30.0 if k in ("pair.in", "network.out") else 1.0) * w for k, w in weights.items()}
    vectors, cells = BOXES["barely twice the cut-off"]
    names, molecules = liquid(vectors, cells)
    _both(names, vectors, NeuralTerm(shape, large, {})).assert_same(np.vstack(molecules))


@needs_kernel
@pytest.mark.parametrize("variant", VARIANTS)
def test_forces_are_the_slope_of_the_energy(variant: str) -> None:
    names, xyz = cluster()
    context = context_of(_native(untrained(variant), names, None), "CPU")
    _, forces = found_in(context, xyz, None)
    rng, step = np.random.default_rng(2), 1e-4
    for _ in range(5):
        along = rng.normal(size=xyz.shape)
        ends = [found_in(context, xyz + sign * step * along, None)[0] for sign in (1.0, -1.0)]
        scale = np.linalg.norm(forces) * np.linalg.norm(along)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-(forces * along).sum(), abs=1e-3 * scale)
    np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-5 * np.abs(forces).max())


@needs_kernel
@pytest.mark.parametrize("variant", SEE_DIRECTIONS)
def test_the_virial_by_finite_differences_is_that_of_torch_at_any_volume(variant: str) -> None:
    names, molecules = liquid(TRICLINIC, 3)
    both, step = _both(names, TRICLINIC, untrained(variant)), 1e-3
    for compressed in (1.0, 0.97, 1.02, 1.3):
        slopes = []
        for context in (both.native, both.torch):
            ends = [
                found_in(context, _scaled(molecules, factor), factor * TRICLINIC)[0]
                for factor in (compressed + step, compressed - step)
            ]
            slopes.append((ends[0] - ends[1]) / (2 * step))
        assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)
        both.assert_same(_scaled(molecules, compressed), compressed * TRICLINIC)


@needs_kernel
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("variant", SEE_DIRECTIONS)
def test_it_stays_so_while_atoms_wander_and_molecules_cross_the_boundary(variant: str, threads: str) -> None:
    names, molecules = liquid(TRICLINIC, 3)
    both = _both(names, TRICLINIC, untrained(variant), threads)
    rng, moved = np.random.default_rng(0), np.vstack(molecules)
    owner = np.repeat(np.arange(len(names)), [len(m) for m in molecules])
    before = found_in(both.native, moved, TRICLINIC)[0]
    jumped = moved + (rng.integers(-1, 2, size=(len(names), 3)) @ TRICLINIC)[owner]
    assert found_in(both.native, jumped, TRICLINIC)[0] == pytest.approx(before, rel=1e-6)
    for step in range(24):
        moved = moved + rng.normal(scale=0.004, size=moved.shape)
        jumped = moved + (rng.integers(-1, 2, size=(len(names), 3)) @ TRICLINIC)[owner]
        if step % 4:
            found_in(both.native, moved, TRICLINIC)
        else:
            both.assert_same(jumped if step % 8 else moved)


@needs_kernel
def test_contexts_of_one_system_do_not_disturb_each_other() -> None:
    boxes = [CUBE, TRICLINIC]
    liquids = [liquid(box, 3) for box in boxes]
    shared = _native(TERM, liquids[0][0], CUBE)
    contexts = [context_of(shared, "CPU", threads) for threads in ("1", "2")]
    expected = [
        found_in(context_of(_native(TERM, names, box), "CPU"), np.vstack(xyz), box)
        for (names, xyz), box in zip(liquids, boxes, strict=True)
    ]
    for _ in range(3):
        for context, (_, xyz), box, (energy, forces) in zip(contexts, liquids, boxes, expected, strict=True):
            found = found_in(context, np.vstack(xyz), box)
            assert found[0] == pytest.approx(energy, rel=1e-6)
            np.testing.assert_allclose(found[1], forces, atol=1e-6 * np.abs(forces).max())


@needs_kernel
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("box", [None, 10.0 * CUBE])
def test_molecules_beyond_the_cutoff_give_exactly_nothing(box: np.ndarray | None, variant: str) -> None:
    names, xyz = ["EC", "Li+"], SPECIES[0].xyz - SPECIES[0].xyz.max(0)
    context = context_of(_native(untrained(variant), names, box), "CPU")
    beyond = np.vstack([xyz, [[CUTOFF + 1e-6, 0.0, 0.0]]])
    energy, forces = found_in(context, beyond, box)
    assert energy == 0.0
    assert not forces.any()
    inside = np.vstack([xyz, xyz[:1] + 0.1])
    assert found_in(context, inside, box)[0] != 0.0
    assert found_in(context, beyond, box)[0] == 0.0


@needs_kernel
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pair_at_contact_stays_bounded(variant: str) -> None:
    both = _both(["Li+", "EC"], None, untrained(variant))
    xyz, nearest = SPECIES[0].xyz, SPECIES[0].xyz[0]
    limit = untrained(variant).architecture.saturation * 11 * 5
    for gap in (0.2, 0.1, 0.03, 1e-3, 1e-6, 0.0):
        placed = np.vstack([nearest + [gap, 0.0, 0.0], xyz])
        energy, forces = both.assert_same(placed) if gap >= 0.03 else found_in(both.native, placed, None)
        assert abs(energy) < limit
        assert np.isfinite(forces).all()


@needs_kernel
def test_lost_atoms_are_reported() -> None:
    names, xyz = cluster()
    for lost in (0, 5):
        context, broken = context_of(_native(TERM, names, None), "CPU"), xyz.copy()
        found_in(context, xyz, None)
        broken[lost] = np.nan
        with pytest.raises(openmm.OpenMMException, match="NaN"):
            found_in(context, broken, None)
        found_in(context, xyz, None)


@pytest.fixture(scope="module")
def whole() -> tuple[openmm.System, np.ndarray]:
    """A System of all forces and its positions."""
    _, molecules = liquid(CUBE, 3)
    topology = FORCE_FIELD.topology([("EC", 26), ("Li+", 1)], box_nm=1.8)
    return FORCE_FIELD.create_system(topology), FORCE_FIELD.place(topology, np.vstack(molecules))


@needs_kernel
def test_the_term_keeps_its_name_group_and_period_beside_native_pair_forces(whole) -> None:
    system, positions = whole
    replaced = accelerated(system, CPU)
    (before,) = (f for f in system.getForces() if f.getName() == NAME)
    (after,) = (f for f in replaced.getForces() if f.getName() == NAME)
    assert isinstance(before, openmm.PythonForce) and not isinstance(after, openmm.PythonForce)
    assert after.getForceGroup() == before.getForceGroup() == GROUPS["neural"]
    assert after.usesPeriodicBoundaryConditions()
    states = []
    for built in (system, copy.deepcopy(system), replaced):
        context = context_of(built, "CPU")
        context.setPositions(positions)
        states.append(context.getState(energy=True, forces=True, groups=GROUP))
    expected, _, found = (state.getForces(asNumpy=True)._value for state in states)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert states[2].getPotentialEnergy()._value == pytest.approx(
        states[0].getPotentialEnergy()._value, rel=TOLERANCE
    )
    assert pair_forces(system, CPU) == "native"
    assert notice(system, CPU) == "Pair forces and neural term: native kernel"


@needs_kernel
def test_dynamics_under_a_barostat_goes_on_from_a_checkpoint(whole) -> None:
    system, positions = copy.deepcopy(whole[0]), whole[1]
    barostat = openmm.MonteCarloBarostat(1.0, 300.0, 2)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = FORCE_FIELD.integrator(300.0, 0.5)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(accelerated(system, CPU), integrator, CPU, {"Threads": "1"})
    stock = context_of(whole[0])
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 30)
    context.setVelocitiesToTemperature(300.0, 1)

    def assert_as_by_torch() -> float:
        state = context.getState(energy=True, positions=True, groups=GROUP)
        stock.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
        stock.setPositions(state.getPositions())
        energy = state.getPotentialEnergy()._value
        expected = stock.getState(energy=True, groups=GROUP).getPotentialEnergy()._value
        assert energy == pytest.approx(expected, rel=TOLERANCE, abs=1e-3)
        return energy

    integrator.step(10)
    checkpoint, energy = context.createCheckpoint(), assert_as_by_torch()
    for _ in range(2):
        integrator.step(10)
        assert_as_by_torch()
    context.loadCheckpoint(checkpoint)
    assert assert_as_by_torch() == pytest.approx(energy, rel=1e-6)


def test_without_the_kernel_torch_computes_the_term_and_the_run_says_so(whole, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "phyff_native", None)
    system, _ = whole
    assert accelerated(system, CPU) is system
    line = notice(system, CPU)
    assert line is not None and line.startswith("Pair forces and neural term: stock OpenMM and torch")
    assert INSTALL in line


@needs_kernel
def test_a_kernel_from_before_the_term_saw_exchange_is_not_given_it(monkeypatch) -> None:
    names, _ = cluster()
    system = neural_system(TERM, names, None, torch.float32)
    assert pair_forces(system, CPU) == "native"
    monkeypatch.delattr("phyff_native.sees_exchange")
    assert pair_forces(system, CPU) == "stock"
    line = notice(system, CPU)
    assert line is not None and "does not know neural" in line


@needs_kernel
def test_other_platforms_keep_torch_but_can_have_the_kernel_too(whole) -> None:
    names, xyz = cluster()
    system = neural_system(TERM, names, None, torch.float32)
    reference = openmm.Platform.getPlatformByName("Reference")
    assert accelerated(system, reference) is system
    found = found_in(context_of(with_native_forces(system)), xyz, None)
    assert found[0] == pytest.approx(found_in(context_of(system), xyz, None)[0], rel=TOLERANCE)
