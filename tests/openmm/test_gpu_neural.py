"""The kernels that OpenMM compiles for GPUs give the neural term that torch gives. Without a GPU, by PoCL's
OpenCL, which runs them on CPUs (Debian: pocl-opencl-icd)."""

import copy
import importlib.util
import locale
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from library_species import random_pose
from neural_systems import (
    CUBE,
    FORCE_FIELD,
    SPECIES,
    TERM,
    TRICLINIC,
    BesideTorch,
    cluster,
    context_of,
    found_in,
    liquid,
    neural_system,
)
from neural_terms import untrained

import phyff
from phyff.model.neural import CUTOFF, VARIANTS, Architecture, NeuralTerm, initial_weights
from phyff.openmm.drude import GROUPS
from phyff.openmm.native import GPU_PLATFORMS, INSTALL, accelerated, neural_term, notice, pair_forces

GROUP = {GROUPS["neural"]}
KERNELS = Path(phyff.__file__).parent / "native" / "src"
MOST_LISTED = 384
"""Neighbours of an atom that the kernel lists, kCapacity of neural_gpu.cpp."""


@cache
def _gpu() -> openmm.Platform | None:
    """The first platform that finds a device."""
    for name in GPU_PLATFORMS:
        system = openmm.System()
        system.addParticle(1.0)
        try:
            platform = openmm.Platform.getPlatformByName(name)
            openmm.Context(system, openmm.VerletIntegrator(1e-3), platform)
        except openmm.OpenMMException:
            continue
        return platform
    return None


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """A System in motion on PoCL leaves the process with the locale "C": Python takes text for ASCII then."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


needs_gpu = pytest.mark.skipif(
    importlib.util.find_spec("phyff_native") is None or _gpu() is None,
    reason=f"no native kernel ({INSTALL}), or no CUDA or OpenCL device (Debian: pocl-opencl-icd)",
)


def _context(system: openmm.System, precision: str = "double") -> openmm.Context:
    """On the device, with the kernel."""
    replaced = accelerated(system, _gpu())
    assert not [f for f in replaced.getForces() if isinstance(f, openmm.PythonForce)]
    return openmm.Context(replaced, openmm.VerletIntegrator(1e-3), _gpu(), {"Precision": precision})


def _both(
    names: list[str], box: np.ndarray | None, term: NeuralTerm, precision: str = "double"
) -> BesideTorch:
    system = neural_system(term, names, box, torch.float32)
    return BesideTorch(_context(system, precision), names, box, term)


@needs_gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_box_has_the_energy_and_forces_of_torch_while_atoms_wander_and_it_is_scaled(variant: str) -> None:
    names, molecules = liquid(TRICLINIC, 3)
    both = _both(names, TRICLINIC, untrained(variant))
    rng, moved = np.random.default_rng(0), np.vstack(molecules)
    owner = np.repeat(np.arange(len(names)), [len(m) for m in molecules])
    both.assert_same(moved)
    for step in range(12):
        moved = moved + rng.normal(scale=0.004, size=moved.shape)
        if step % 4:
            found_in(both.native, moved, TRICLINIC)
        else:
            both.assert_same(moved + (rng.integers(-1, 2, size=(len(names), 3)) @ TRICLINIC)[owner])
    for factor in (1.0005, 0.97, 1.3):
        scaled = [x + (factor - 1.0) * x.mean(0) for x in molecules]
        both.assert_same(np.vstack(scaled), factor * TRICLINIC)


@needs_gpu
def test_so_it_has_in_mixed_precision_but_for_the_rounding_of_positions() -> None:
    names, molecules = liquid(CUBE, 3)
    _both(names, CUBE, untrained("oriented"), "mixed").assert_same(np.vstack(molecules), tolerance=1e-4)


@needs_gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_so_does_a_cluster_wherever_its_molecules_go(variant: str) -> None:
    names, xyz = cluster()
    both, rng = _both(names, None, untrained(variant)), np.random.default_rng(1)
    both.assert_same(xyz)
    for reach in (0.001, 0.05, 5.0):
        leaving = np.where(np.arange(len(xyz)) < len(xyz) - len(SPECIES[0].elements), 0.0, reach)
        both.assert_same(xyz + rng.normal(scale=0.002, size=xyz.shape) + leaving[:, None])
    xyz[3] = np.nan
    assert np.isnan(found_in(both.native, xyz, None)[0])


@needs_gpu
def test_atoms_with_more_neighbours_than_a_list_holds_are_not_short_of_any() -> None:
    rng, number = np.random.default_rng(4), 5
    places = 0.24 * np.stack(np.meshgrid(*[np.arange(number)] * 3), axis=-1).reshape(-1, 3)
    xyz = np.vstack([random_pose(SPECIES[0].xyz, rng) + place for place in places])
    middle = np.linalg.norm(xyz - xyz.mean(0), axis=1)
    assert (middle < CUTOFF).sum() > MOST_LISTED
    _both(["EC"] * number**3, None, untrained("oriented")).assert_same(xyz)


@needs_gpu
@pytest.mark.parametrize(("members", "channels", "hidden"), [(1, 8, 24), (2, 3, 5), (5, 9, 17)])
def test_a_committee_of_any_size_is_that_of_torch(members: int, channels: int, hidden: int) -> None:
    shape = Architecture("oriented", members, channels, hidden, saturation=11.0)
    weights = initial_weights(shape, 1)
    large = {k: (30.0 if k in ("pair.in", "network.out") else 1.0) * w for k, w in weights.items()}
    names, molecules = liquid(CUBE, 3)
    _both(names, CUBE, NeuralTerm(shape, large, {})).assert_same(np.vstack(molecules))


@needs_gpu
def test_molecules_beyond_the_cutoff_give_exactly_nothing() -> None:
    names, xyz = ["EC", "Li+"], SPECIES[0].xyz - SPECIES[0].xyz.max(0)
    context = _context(neural_system(untrained("oriented"), names, None, torch.float32))
    inside = np.vstack([xyz, xyz[:1] + 0.1])
    assert found_in(context, inside, None)[0] != 0.0
    energy, forces = found_in(context, np.vstack([xyz, [[CUTOFF + 1e-6, 0.0, 0.0]]]), None)
    assert energy == 0.0
    assert not forces.any()


@needs_gpu
def test_contexts_of_one_system_do_not_disturb_each_other() -> None:
    names, molecules = liquid(CUBE, 3)
    both, other = _both(names, CUBE, untrained("oriented")), _both(names, CUBE, untrained("oriented"))
    xyz = np.vstack(molecules)
    for k in range(3):
        both.assert_same(xyz + 0.01 * k * np.sin(xyz))
        other.assert_same(xyz - 0.01 * k * np.cos(xyz))


@needs_gpu
def test_dynamics_under_a_barostat_goes_on_from_a_checkpoint_as_molecules_change_places() -> None:
    """OpenMM sorts molecules by where they are, and the kernel has to follow."""
    edge, cells = 2.4, 4
    topology = FORCE_FIELD.topology([("EC", cells**3 - 1), ("Li+", 1)], box_nm=edge)
    start = np.vstack(liquid(edge * np.eye(3), cells)[1])
    stock = FORCE_FIELD.create_system(topology)
    system = copy.deepcopy(stock)
    barostat = openmm.MonteCarloBarostat(1.0, 300.0, 2)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    cpu = openmm.Platform.getPlatformByName("CPU")  # OpenMM's minimiser dies on PoCL
    packed = openmm.Context(accelerated(stock, cpu), openmm.VerletIntegrator(1e-3), cpu)
    packed.setPositions(FORCE_FIELD.place(topology, start))
    openmm.LocalEnergyMinimizer.minimize(packed, 100.0, 20)
    integrator, platform = FORCE_FIELD.integrator(300.0, 0.5), _gpu()
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(accelerated(system, platform), integrator, platform, {"Precision": "mixed"})
    (neural,) = (f for f in context.getSystem().getForces() if f.getName() == "neural")
    assert not isinstance(neural, openmm.PythonForce)
    by_torch = context_of(stock)
    context.setPositions(packed.getState(positions=True).getPositions())
    context.setVelocitiesToTemperature(300.0, 1)

    def assert_as_by_torch() -> float:
        state = context.getState(energy=True, positions=True, forces=True, groups=GROUP)
        by_torch.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
        by_torch.setPositions(state.getPositions())
        expected = by_torch.getState(energy=True, forces=True, groups=GROUP)
        energy, forces = state.getPotentialEnergy()._value, expected.getForces(asNumpy=True)._value
        assert energy == pytest.approx(expected.getPotentialEnergy()._value, rel=1e-4, abs=1e-3)
        difference = np.abs(state.getForces(asNumpy=True)._value - forces).max()
        assert difference < 1e-4 * np.abs(forces).max()
        return energy

    integrator.step(5)
    checkpoint, energy = context.createCheckpoint(), assert_as_by_torch()
    integrator.step(10)
    assert_as_by_torch()
    context.loadCheckpoint(checkpoint)
    assert assert_as_by_torch() == pytest.approx(energy, rel=1e-5)


@needs_gpu
def test_gpus_get_the_neural_term_alone_and_runs_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    names, _ = cluster()
    system, platform = neural_system(TERM, names, None, torch.float32), _gpu()
    assert pair_forces(system, platform) == "stock"
    assert neural_term(system, platform) == "native"
    assert notice(system, platform) == "Neural term: native kernel"
    monkeypatch.delattr("phyff_native.compiles_for_gpus")
    assert neural_term(system, platform) == "torch"
    assert accelerated(system, platform) is system
    line = notice(system, platform)
    assert line is not None and line.startswith("Neural term: torch, slower here") and INSTALL in line


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize(
    ("sanitizer", "members", "channels", "hidden", "capacity"),
    [("thread", 2, 3, 5, 64), ("address,undefined", 1, 1, 1, 8)],
)
def test_work_items_do_not_race_or_stray_from_their_arrays(
    sanitizer: str, members: int, channels: int, hidden: int, capacity: int, tmp_path: Path
) -> None:
    """Which GPUs do not report. OpenCL's work items run as threads, with the sanitizers of g++."""
    sizes = {"MEMBERS": members, "CHANNELS": channels, "HIDDEN": hidden, "CAPACITY": capacity}
    program, source = tmp_path / "kernels", Path(__file__).with_name("neural_kernels_by_threads.cpp")
    options = ["-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    defines = [f"-D{name}={size}" for name, size in sizes.items()]
    command = ["g++", *options, *defines, f"-I{KERNELS}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    ran = subprocess.run([str(program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    most, energy, by_differences, by_kernel = (float(number) for number in ran.stdout.split())
    assert (most > capacity) == (capacity == 8)
    assert abs(energy) > 1.0
    assert by_kernel == pytest.approx(by_differences, rel=1e-2, abs=1e-2)
