"""Interaction energy of a cluster by components with OpenMM (Reference platform, oscillators relaxed)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openmm
from openmm import unit

from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ForceField

RELAXATION_TOLERANCE = 1e-5
"""kJ/mol/nm left on oscillators."""


def interaction_energy(
    forcefield: ForceField, monomers: Sequence[tuple[str, np.ndarray]]
) -> dict[str, float]:
    """Components (named as in phyff.model.cluster) and total, kJ/mol, of monomers (name, xyz (n, 3) nm)."""
    whole = _components(forcefield, monomers)
    alone = [_components(forcefield, [monomer]) for monomer in monomers]
    parts = {name: value - sum(a[name] for a in alone) for name, value in whole.items()}
    return {**parts, "total": sum(parts.values())}


def _components(forcefield: ForceField, monomers: Sequence[tuple[str, np.ndarray]]) -> dict[str, float]:
    topology = forcefield.topology([(name, 1) for name, _ in monomers])
    system = forcefield.create_system(topology, cutoff_nm=None, split_components=True)
    atoms = forcefield.atom_indices(topology)
    named = {force.getName(): force for force in system.getForces()}
    groups = {}
    for number, name in enumerate(("exchange", "penetration", "charge_transfer", "dispersion"), start=8):
        groups[name] = number
        for label in (name, f"{name} within molecules"):
            if label in named:
                named[label].setForceGroup(number)
    charges = _without_c6(system, named["charges and C6"])
    for atom in atoms:
        system.setParticleMass(int(atom), 0.0)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(forcefield.place(topology, np.vstack([xyz for _, xyz in monomers])))
    context.computeVirtualSites()

    def energy(*numbers: int) -> float:
        state = context.getState(getEnergy=True, groups=set(numbers))
        return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))

    electric = (charges, GROUPS["oscillators"], GROUPS["damping"])
    permanent = energy(*electric)
    if "DrudeForce" in {type(force).__name__ for force in system.getForces()}:
        openmm.LocalEnergyMinimizer.minimize(context, RELAXATION_TOLERANCE, 0)
    return {
        "electrostatics": permanent + energy(groups["penetration"]),
        "exchange": energy(groups["exchange"]),
        "induction": energy(*electric) - permanent + energy(groups["charge_transfer"]),
        "dispersion": energy(groups["dispersion"], GROUPS["permanent"]),
    }


def _without_c6(system: openmm.System, force: openmm.NonbondedForce) -> int:
    """Split NonbondedForce: charges go to a copy in a group of their own (returned), the bare C6 stays."""
    copy = openmm.XmlSerializer.clone(force)
    for k in range(force.getNumParticles()):
        charge, sigma, epsilon = force.getParticleParameters(k)
        force.setParticleParameters(k, 0.0, sigma, epsilon)
        copy.setParticleParameters(k, charge, sigma, 0.0)
    for k in range(force.getNumExceptions()):
        i, j, product, sigma, epsilon = force.getExceptionParameters(k)
        force.setExceptionParameters(k, i, j, 0.0, sigma, epsilon)
        copy.setExceptionParameters(k, i, j, product, sigma, 0.0)
    group = 15
    copy.setName("charges")
    copy.setForceGroup(group)
    system.addForce(copy)
    return group
