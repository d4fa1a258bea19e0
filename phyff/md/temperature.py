"""Temperatures from velocities, and the thermostat that holds them.

DrudeLangevinIntegrator keeps velocities half a step behind positions, and `computeSystemTemperature` takes
them as they are: 1.1 % too hot for carbonates at 1 fs, where hydrogens of 3 amu vibrate (measured on DMC).
Brought to the step by half of its forces they have the temperature that the thermostat sets.

Oscillators at 1 K follow the vibrations of their atoms, and their friction takes that motion away as heat.
What the atoms lose their own friction gives back only where they are colder than their thermostat, so this
one is set warmer than the target (`make_up_for_drained_heat`).
"""

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.units import GAS_CONSTANT

Floats = NDArray[np.float64]
Indices = NDArray[np.int_]


def drude_pairs(system: openmm.System) -> Indices:
    """(n_drudes, 2) pairs (Drude particle, parent)."""
    pairs = [
        [int(index) for index in force.getParticleParameters(i)[:2]]
        for force in system.getForces()
        if isinstance(force, openmm.DrudeForce)
        for i in range(force.getNumParticles())
    ]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def atoms_of_particles(system: openmm.System) -> Indices:
    """(n_particles,) numbers from 0 of what moves as one: an atom with its Drude particle.

    Sites without mass, which have no motion of their own, go with the first.
    """
    number = system.getNumParticles()
    owner = np.arange(number)
    drude, parent = drude_pairs(system).T
    owner[drude] = parent
    moving = np.array([system.getParticleMass(k)._value > 0.0 for k in range(number)])
    owner[~moving] = owner[moving][0]
    return np.unique(owner, return_inverse=True)[1]


def on_step(state: openmm.State, masses: Floats, timestep_ps: float) -> Floats:
    """Velocities (n, 3; nm/ps) of a state with forces, half a step later; masses (n,) in amu, 0 of sites."""
    per_mass = np.divide(1.0, masses, out=np.zeros_like(masses), where=masses > 0.0)
    forces = state.getForces(asNumpy=True)._value
    moved: Floats = state.getVelocities(asNumpy=True)._value + 0.5 * timestep_ps * forces * per_mass[:, None]
    return moved


def oscillator_temperature(velocities: Floats, masses: Floats, pairs: Indices) -> float:
    """K, of Drude particles against their parents; 0 without any. Arguments as of group_temperature."""
    if not len(pairs):
        return 0.0
    drude, parent = pairs.T
    reduced = masses[drude] * masses[parent] / (masses[drude] + masses[parent])
    kinetic = float(np.sum(reduced[:, None] * (velocities[drude] - velocities[parent]) ** 2))
    return kinetic / (GAS_CONSTANT * 3 * len(pairs))


def make_up_for_drained_heat(
    integrator: openmm.DrudeLangevinIntegrator, oscillators_per_atom: float, oscillators_K: float | None
) -> None:
    """Set the thermostat of the atoms so much warmer that they have the temperature it is set to now.

    The heat that friction takes from the oscillators, friction_D (T_D - T_D,thermostat) each, is what
    friction gives to the atoms, friction (T_thermostat - T) each. oscillators_K: T_D as measured on the step,
    in dynamics with the frictions of the integrator; None, nothing is known, leaves it alone.
    """
    if oscillators_K is None:
        return
    friction, drude_friction = integrator.getFriction()._value, integrator.getDrudeFriction()._value
    above = oscillators_K - integrator.getDrudeTemperature()._value
    warmer = drude_friction / friction * oscillators_per_atom * above
    integrator.setTemperature(integrator.getTemperature()._value + warmer)


def group_temperature(velocities: Floats, masses: Floats, group: Indices) -> float:
    """K, of the centres of mass of groups of particles against that of all.

    velocities: (n, 3), nm/ps; masses: (n,), amu; group: (n,), whose each particle is, from 0.
    """
    weights = np.bincount(group, masses)
    momenta = np.array([np.bincount(group, masses * velocities[:, k]) for k in range(3)]).T
    moving = momenta / weights[:, None] - momenta.sum(0) / weights.sum()
    kinetic = float(np.sum(weights[:, None] * moving**2))
    return kinetic / (GAS_CONSTANT * (3 * len(weights) - 3))
