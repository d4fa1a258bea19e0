"""Interaction energy of a cluster by components with OpenMM (Reference platform, induced dipoles relaxed)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openmm
from openmm import unit

from phyff.errors import SimulationError
from phyff.openmm.drude import GROUPS, WITH_CATIONS
from phyff.openmm.forcefield import ForceField
from phyff.openmm.multipole import CONTACT_NAME
from phyff.openmm.near_field import NAME as NEAR_FIELD

RELAXATION_TOLERANCE = 1e-5
"""kJ/mol/nm left on oscillators."""
INDUCED_TOLERANCE = 1e-8
"""Debye, of the `multipole` engine's dipoles."""
CHARGES, PERMANENT_MULTIPOLES, CONTACTS = 15, 16, 17
"""Force groups that separate an energy from another one."""


def interaction_energy(
    forcefield: ForceField, monomers: Sequence[tuple[str, np.ndarray]], engine: str = "drude"
) -> dict[str, float]:
    """Components (named as in phyff.model.cluster) and total, kJ/mol, of monomers (name, xyz (n, 3) nm); with
    a neural term also "neural".

    Raises:
        SimulationError: the induced dipoles do not converge.
    """
    whole = _components(forcefield, monomers, engine)
    alone = [_components(forcefield, [monomer], engine) for monomer in monomers]
    parts = {name: value - sum(a[name] for a in alone) for name, value in whole.items()}
    return {**parts, "total": sum(parts.values())}


def _components(
    forcefield: ForceField, monomers: Sequence[tuple[str, np.ndarray]], engine: str
) -> dict[str, float]:
    topology = forcefield.topology([(name, 1) for name, _ in monomers], engine=engine)
    system = forcefield.create_system(topology, None, engine, split_components=True)
    atoms = forcefield.atom_indices(topology)
    named = {force.getName(): force for force in system.getForces()}
    groups = {}
    for number, name in enumerate(("exchange", "penetration", "charge_transfer", "dispersion"), start=8):
        groups[name] = number
        with_cations = f"{name} {WITH_CATIONS}"
        for label in (name, f"{name} within molecules", with_cations, f"{with_cations}, {NEAR_FIELD}"):
            if label in named:
                named[label].setForceGroup(number)
    for name, force in named.items():
        if name.startswith(CONTACT_NAME):
            force.setForceGroup(CONTACTS)
    _without_c6(system, named["charges and C6"])
    if engine == "multipole":
        _without_induction(system, named["multipoles"])
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

    if engine == "multipole":
        permanent = energy(PERMANENT_MULTIPOLES)
        try:
            polarized = energy(GROUPS["multipoles"])
        except openmm.OpenMMException as error:
            raise SimulationError(
                "The induced dipoles do not converge: two molecules of the cluster are too close together."
            ) from error
    else:
        electric = (CHARGES, GROUPS["oscillators"], GROUPS["damping"])
        permanent = energy(*electric)
        if "DrudeForce" in {type(force).__name__ for force in system.getForces()}:
            openmm.LocalEnergyMinimizer.minimize(context, RELAXATION_TOLERANCE, 0)
        polarized = energy(*electric)
    parts = {
        "electrostatics": permanent + energy(groups["penetration"], GROUPS["charge flow"]),
        "exchange": energy(groups["exchange"]),
        "induction": polarized - permanent + energy(groups["charge_transfer"], CONTACTS),
        "dispersion": energy(groups["dispersion"], GROUPS["permanent"]),
    }
    if forcefield.neural is not None:
        parts["neural"] = energy(GROUPS["neural"])
    return parts


def _without_c6(system: openmm.System, force: openmm.NonbondedForce) -> None:
    """Split NonbondedForce: charges go to a copy in the group CHARGES, the bare C6 stays."""
    copy = openmm.XmlSerializer.clone(force)
    for k in range(force.getNumParticles()):
        charge, sigma, epsilon = force.getParticleParameters(k)
        force.setParticleParameters(k, 0.0, sigma, epsilon)
        copy.setParticleParameters(k, charge, sigma, 0.0)
    for k in range(force.getNumExceptions()):
        i, j, product, sigma, epsilon = force.getExceptionParameters(k)
        force.setExceptionParameters(k, i, j, 0.0, sigma, epsilon)
        copy.setExceptionParameters(k, i, j, product, sigma, 0.0)
    copy.setName("charges")
    copy.setForceGroup(CHARGES)
    system.addForce(copy)


def _without_induction(system: openmm.System, force: openmm.AmoebaMultipoleForce) -> None:
    """Add a copy whose atoms are not polarizable to the group PERMANENT_MULTIPOLES."""
    force.setMutualInducedTargetEpsilon(INDUCED_TOLERANCE)
    copy = openmm.XmlSerializer.clone(force)
    for k in range(force.getNumMultipoles()):
        copy.setMultipoleParameters(k, *force.getMultipoleParameters(k)[:-1], 0.0)
    copy.setName("permanent multipoles")
    copy.setForceGroup(PERMANENT_MULTIPOLES)
    system.addForce(copy)
