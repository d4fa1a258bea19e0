"""Temperatures from velocities: of groups, and on the step instead of half a step before."""

import numpy as np
import openmm
import pytest
from standin import COUNTS, StandIn

from phyff.md.temperature import (
    atoms_of_particles,
    drude_pairs,
    group_temperature,
    make_up_for_drained_heat,
    on_step,
    oscillator_temperature,
)
from phyff.units import GAS_CONSTANT

TEMPERATURE = 300.0


def test_groups_have_the_temperature_of_their_centres_against_that_of_all() -> None:
    rng, molecule = np.random.default_rng(3), np.repeat(np.arange(4000), 2)
    masses = np.tile([12.0, 4.0], 4000)
    thermal = rng.normal(size=(8000, 3)) * np.sqrt(GAS_CONSTANT * TEMPERATURE / masses)[:, None]
    found = group_temperature(thermal + [5.0, 0.0, 1.0], masses, molecule)
    assert found == pytest.approx(TEMPERATURE, rel=0.03)
    within = np.tile([[1.0, 2.0, 3.0], [-3.0, -6.0, -9.0]], (4000, 1))  # momenta that cancel in each molecule
    assert group_temperature(within, masses, molecule) == pytest.approx(0.0, abs=1e-9)


def test_an_atom_moves_with_its_oscillator_and_sites_move_nothing() -> None:
    forcefield = StandIn()
    topology = forcefield.topology(COUNTS, None)
    system = forcefield.create_system(topology, None)
    owner = atoms_of_particles(system)
    drude, parent = drude_pairs(system).T
    assert (owner[drude] == owner[parent]).all()
    assert sorted(set(owner)) == list(range(len(forcefield.atom_indices(topology))))


def test_stiff_springs_have_the_temperature_of_the_thermostat_on_the_step_alone() -> None:
    """Half a step before, leapfrog velocities of a spring are too hot by (omega dt)^2 / 4, here 9 %."""
    number, timestep_ps, omega = 1500, 1e-3, 600.0
    system, springs = openmm.System(), openmm.CustomExternalForce(f"0.5*{omega**2}*(x*x+y*y+z*z)")
    for k in range(number):
        system.addParticle(1.0)
        springs.addParticle(k)
    system.addForce(springs)
    system.addForce(openmm.DrudeForce())
    integrator = openmm.DrudeLangevinIntegrator(TEMPERATURE, 50.0, 1.0, 50.0, timestep_ps)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.zeros((number, 3)))
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    integrator.step(300)
    masses, group, rows = np.ones(number), atoms_of_particles(system), []
    for _ in range(60):
        integrator.step(10)
        state = context.getState(velocities=True, forces=True)
        before = state.getVelocities(asNumpy=True)._value
        now = on_step(state, masses, timestep_ps)
        rows.append([group_temperature(v, masses, group) for v in (before, now)])
    before, now = np.mean(rows, axis=0)
    assert now == pytest.approx(TEMPERATURE, rel=0.01)
    assert before == pytest.approx(1.09 * TEMPERATURE, rel=0.015)


def test_oscillators_have_the_temperature_of_their_motion_against_their_parents() -> None:
    number, rng, masses = 5000, np.random.default_rng(4), np.tile([12.0, 0.4], 5000)
    pairs = np.arange(2 * number).reshape(-1, 2)[:, ::-1]  # Drude particle, parent
    reduced, total = 12.0 * 0.4 / 12.4, 12.4
    apart = rng.normal(size=(number, 3)) * np.sqrt(GAS_CONSTANT * 2.0 / reduced)
    velocities = np.repeat(rng.normal(size=(number, 3)) * np.sqrt(GAS_CONSTANT * 300.0 / total), 2, axis=0)
    velocities[pairs[:, 0]] += apart * 12.0 / total
    velocities[pairs[:, 1]] -= apart * 0.4 / total
    assert oscillator_temperature(velocities, masses, pairs) == pytest.approx(2.0, rel=0.03)
    assert oscillator_temperature(velocities, masses, pairs[:0]) == 0.0


def test_a_thermostat_makes_up_for_the_heat_that_oscillators_drain() -> None:
    """Atoms on springs, each with an oscillator that a spring of its own holds back: it follows the vibration
    against its friction, and the atoms are colder than their thermostat by what that takes."""
    number, timestep_ps = 1200, 5e-4
    system, drudes = openmm.System(), openmm.DrudeForce()
    springs = openmm.CustomExternalForce("0.5*k*(x*x+y*y+z*z)")
    springs.addPerParticleParameter("k")
    for k in range(number):
        system.addParticle(1.0)
        system.addParticle(0.4)
        springs.addParticle(2 * k, [4.0e4])
        springs.addParticle(2 * k + 1, [1.0e5])
        drudes.addParticle(2 * k + 1, 2 * k, -1, -1, -1, -1.0, 1e-3, 1.0, 1.0)
    system.addForce(springs)
    system.addForce(drudes)
    integrator = openmm.DrudeLangevinIntegrator(TEMPERATURE, 5.0, 1.0, 20.0, timestep_ps)
    integrator.setRandomNumberSeed(2)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.zeros((2 * number, 3)))
    masses, pairs, group = np.tile([1.0, 0.4], number), drude_pairs(system), atoms_of_particles(system)

    def temperatures() -> tuple[float, float]:
        """Of atoms and of oscillators."""
        integrator.step(1600)
        rows = []
        for _ in range(120):
            integrator.step(20)
            velocities = on_step(context.getState(velocities=True, forces=True), masses, timestep_ps)
            atoms = group_temperature(velocities, masses, group)
            rows.append([atoms, oscillator_temperature(velocities, masses, pairs)])
        atoms, oscillators = np.mean(rows, axis=0)
        return float(atoms), float(oscillators)

    cold, oscillators = temperatures()
    assert cold == pytest.approx(TEMPERATURE - 4.0 * (oscillators - 1.0), rel=0.02)
    assert cold < 0.9 * TEMPERATURE
    make_up_for_drained_heat(integrator, 1.0, None)
    assert integrator.getTemperature()._value == TEMPERATURE
    make_up_for_drained_heat(integrator, 1.0, oscillators)
    assert temperatures()[0] == pytest.approx(TEMPERATURE, rel=0.03)  # warmer oscillators drain a little more
