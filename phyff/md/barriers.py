"""Barriers of bonds that turn slowly, lowered while a box equilibrates, so that conformers find their shares.

A box is packed with conformers as they are in a gas. A liquid has others: of dimethyl carbonate 1 % are
cis-trans alone and one in six among ethylene carbonate and ions, where their dipole pays
(benchmarks/notes/liquids.md); and its ester bonds turn once in microseconds. So stages
before those that count add a bias along each such torsion, zero in the wells, that takes away what a relaxed
scan of the molecule alone has above the higher of the two wells beside, less LEFT. Shares of the wells are
those of the unbiased force field; the stages that count have no bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import openmm
from MDAnalysis.lib.distances import calc_dihedrals
from numpy.typing import NDArray

from phyff.md.interfaces import ForceFieldLike, SpeciesLike
from phyff.species.rotors import Torsion, is_achiral, rotors

Floats = NDArray[np.float64]
LEFT = 7.0
"""kJ/mol above the higher well that are left of a barrier: a molecule leaves that well after some ten ps.
With less more molecules would stand on top of the barrier, to fall to either side when the bias goes."""
LEAST = 6.0
"""kJ/mol; barriers that would lose less are let alone."""
SHALLOWEST = 2.0
"""kJ/mol; minima less deep are ripples of a barrier."""
POINTS = 24
"""Of a scan, 15 degrees apart, from -180 on."""
HELD_GROUP = 31
"""Of the restraint of a scan; no term of a force field has it."""
RESTRAINT = 3000.0
"""kJ/mol of 1 - cos of the angle's distance from its point in the scan."""
TOLERANCE = 10.0
"""kJ/mol/nm, root mean square force that ends a minimisation of the scan."""


def lowered_barriers(forcefield: ForceFieldLike, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """By species the bonds whose barriers are worth lowering: "bond" (elements of a torsion about it),
    "torsions" (atoms), and "bias_kJ_mol" at POINTS angles from -180 degrees on. Species without any are left
    out. A second to ten a bond."""
    found = {}
    for species in forcefield.species:
        if species.name not in names:
            continue
        rows = [
            {"bond": rotor.label, "torsions": [list(t) for t in rotor.torsions], "bias_kJ_mol": bias.tolist()}
            for rotor in rotors(species.mapped_smiles)
            for bias in [np.round(bias_of(relaxed_scan(forcefield, species, rotor.torsions[0])), 2)]
            if bias.min() <= -LEAST
        ]
        if rows:
            found[species.name] = rows
    return found


def relaxed_scan(forcefield: ForceFieldLike, species: SpeciesLike, torsion: Torsion) -> Floats:
    """(POINTS,) kJ/mol above the lowest of a molecule alone whose torsion is turned from the lowest conformer
    on, both ways, everything else relaxed; of a molecule and its mirror image the lower one, where they are
    the same molecule."""
    topology = forcefield.topology([(species.name, 1)], None)
    system = forcefield.create_system(topology, cutoff_nm=None)
    held = openmm.CustomTorsionForce(f"{RESTRAINT}*(1-cos(theta-angle))")
    held.addGlobalParameter("angle", 0.0)
    atoms = forcefield.atom_indices(topology)
    held.addTorsion(*(int(atoms[i]) for i in torsion))
    held.setForceGroup(HELD_GROUP)
    system.addForce(held)
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(1e-4), reference)
    xyz = np.asarray(species.conformers[0].xyz_nm, dtype=float)
    start = round(float(calc_dihedrals(*xyz[list(torsion)])) / (2.0 * math.pi) * POINTS)
    others = {force.getForceGroup() for force in system.getForces()} - {HELD_GROUP}
    energies = np.full(POINTS, np.inf)
    for way in (1, -1):
        context.setPositions(forcefield.place(topology, xyz))
        for step in range(POINTS // 2 + 1):
            point = start + way * step
            context.setParameter("angle", 2.0 * math.pi * point / POINTS)
            openmm.LocalEnergyMinimizer.minimize(context, TOLERANCE, 300)
            energy = context.getState(energy=True, groups=others).getPotentialEnergy()._value
            place = (point + POINTS // 2) % POINTS
            energies[place] = min(energies[place], energy)
    if is_achiral(species.mapped_smiles):
        mirrored = energies[-np.arange(POINTS) % POINTS]
        energies = np.minimum(energies, mirrored)
    return energies - energies.min()


def bias_of(energies: Floats) -> Floats:
    """(n,) kJ/mol, nowhere positive, that lowers the barriers of a periodic scan (n,). A well high up stays
    as hard to reach as it is, so that no molecule is caught there when the bias goes."""
    from scipy.signal import find_peaks  # type: ignore[import-untyped]  # takes a second to import

    n = len(energies)
    found, _ = find_peaks(-np.tile(energies, 3), prominence=SHALLOWEST)
    wells = [int(k) - n for k in found if n <= k < 2 * n]
    bias = np.zeros(n)
    if len(wells) < 2:
        return bias
    for first, second in pairwise([*wells, wells[0] + n]):
        between = np.arange(first, second + 1) % n
        top = max(energies[between[0]], energies[between[-1]]) + LEFT
        bias[between] = np.minimum(0.0, top - energies[between])
    return bias


def barrier_forces(
    lowered: Mapping[str, Sequence[Mapping[str, Any]]],
    counts: Sequence[tuple[SpeciesLike, int]],
    atoms: Sequence[int] | NDArray[np.int_],
) -> list[openmm.Force]:
    """One force for each kind of bond. counts: in the order of the topology; atoms: particles of the real
    atoms."""
    forces: list[openmm.Force] = []
    first = 0
    for species, number in counts:
        size = len(species.elements)
        for row in lowered.get(species.name, ()):
            values = np.array([*row["bias_kJ_mol"], row["bias_kJ_mol"][0]])
            force = openmm.CustomCompoundBondForce(4, "bias(dihedral(p1,p2,p3,p4))")
            force.setName("LoweredBarrier")
            profile = openmm.Continuous1DFunction(values, -math.pi, math.pi, True)
            force.addTabulatedFunction("bias", profile)
            for molecule in range(number):
                for torsion in row["torsions"]:
                    force.addBond([int(atoms[first + molecule * size + i]) for i in torsion], [])
            forces.append(force)
        first += number * size
    return forces
