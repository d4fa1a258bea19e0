"""Temperatures from velocities.

DrudeLangevinIntegrator keeps velocities half a step behind positions, and `computeSystemTemperature` takes
them as they are: 1.1 % too hot for carbonates at 1 fs, where hydrogens of 3 amu vibrate (measured on DMC).
Brought to the step by half of its forces they have the temperature that the thermostat sets.
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


def group_temperature(velocities: Floats, masses: Floats, group: Indices) -> float:
    """K, of the centres of mass of groups of particles against that of all.

    velocities: (n, 3), nm/ps; masses: (n,), amu; group: (n,), whose each particle is, from 0.
    """
    weights = np.bincount(group, masses)
    momenta = np.array([np.bincount(group, masses * velocities[:, k]) for k in range(3)]).T
    moving = momenta / weights[:, None] - momenta.sum(0) / weights.sum()
    kinetic = float(np.sum(weights[:, None] * moving**2))
    return kinetic / (GAS_CONSTANT * (3 * len(weights) - 3))
