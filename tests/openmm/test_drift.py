"""Temperatures and energy drift of a droplet: what a thermostat holds, what is conserved without one."""

import numpy as np
import openmm
import pytest
from library_species import load

from benchmarks.drift import drift, no_thermostat, number_of_atoms, run, thermostat
from benchmarks.platforms import droplets, system_of
from phyff import builder
from phyff.md.driven import Settled
from phyff.openmm.forcefield import ForceField
from phyff.openmm.platforms import platform_named

FORCE_FIELD = ForceField((load("EC"),), builder.short_range())
TEMPERATURE = 298.15
CPU = platform_named("CPU")


@pytest.fixture(scope="module")
def liquid() -> Settled:
    """A droplet in a box, warmed for a quarter of a picosecond."""
    (droplet,) = droplets(FORCE_FIELD)
    system, positions = system_of(FORCE_FIELD, droplet, "drude")
    topology = FORCE_FIELD.topology(droplet.counts)
    integrator = FORCE_FIELD.integrator(TEMPERATURE, timestep_fs=0.5, friction=20.0)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, CPU)
    context.setPositions(positions)
    integrator.step(500)
    molecule = np.array([atom.residue.index for atom in topology.atoms()])

    def production() -> openmm.DrudeLangevinIntegrator:
        made = FORCE_FIELD.integrator(TEMPERATURE)
        made.setRandomNumberSeed(2)
        return made

    return Settled(system, context.getState(positions=True, velocities=True), molecule, production)


def test_without_friction_the_total_energy_stays_and_with_friction_it_does_not(liquid: Settled) -> None:
    alone = run(liquid, no_thermostat(liquid, 0.5), 0.4, CPU)
    assert np.ptp(alone.energy) < 0.01 * np.ptp(run(liquid, thermostat(liquid, 0.5, 20, 20), 0.4, CPU).energy)
    assert np.ptp(alone.atoms) > 1.0, "kinetic energy is exchanged all the same"


def test_the_thermostat_holds_atoms_and_oscillators_at_temperatures_of_their_own(liquid: Settled) -> None:
    course = run(liquid, thermostat(liquid, 1.0, 20.0, 20.0), 1.0, CPU)
    late = slice(len(course.time_ps) // 2, None)
    assert course.time_ps[-1] == pytest.approx(1.0)
    assert course.atoms[late].mean() == pytest.approx(TEMPERATURE, rel=0.25)
    assert 0.5 < course.oscillators[late].mean() < 10.0


def test_atoms_are_counted_without_oscillators_and_sites(liquid: Settled) -> None:
    assert number_of_atoms(liquid.system) == 6 * FORCE_FIELD.named("EC").n_atoms


def test_the_drift_of_a_noisy_line_is_found_with_its_error() -> None:
    rng, time = np.random.default_rng(4), 0.02 * np.arange(1, 1001)
    found = [drift(time, 7.0 + 2e-3 * time + rng.normal(scale=0.01, size=1000)) for _ in range(200)]
    off = np.array([(d.value - 2.0) / d.error for d in found])
    assert abs(np.mean(off)) < 0.3 and 0.55 < np.mean(np.abs(off) < 1.0) < 0.8
    assert np.mean([d.scatter for d in found]) == pytest.approx(0.01, rel=0.02)
