"""Masses and charges of particles, and weights that make dipoles and currents of molecules of positions."""

import numpy as np
import openmm
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def particle_masses(system: openmm.System) -> Floats:
    """(n_particles,) amu; 0 of sites."""
    return np.array([system.getParticleMass(k)._value for k in range(system.getNumParticles())])


def particle_charges(system: openmm.System) -> Floats:
    """(n_particles,) e, of the system's NonbondedForce: atoms, oscillators and off-atom sites."""
    (force,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    return np.array([force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())])


def charge_weights(masses: Floats, charges: Floats, molecule: NDArray[np.int_]) -> Floats:
    """Weights w (n_particles,) that make sum(w r) the molecules' sum of net charge times centre of mass.

    masses (amu), charges (e) and molecule (whose it is, from 0), each (n_particles,).
    """
    net, mass = np.bincount(molecule, charges), np.bincount(molecule, masses)
    return (np.round(net) / mass)[molecule] * masses


def dipole_weights(masses: Floats, charges: Floats, molecule: NDArray[np.int_]) -> Floats:
    """Weights w (n_particles,) that make sum(w r) the sum of molecular dipoles about centres of mass."""
    return charges - charge_weights(masses, charges, molecule)
