"""The `drude` engine: the energy of phyff/model as stock OpenMM forces, serialisable without phyff.

NonbondedForce carries all charges (atoms, off-atom sites, oscillators) and the bare C6 tail; one short-ranged
CustomNonbondedForce the Slater terms and what dispersion adds to bare C6, another the Slater terms of pairs
with a bare cation, a third the Thole damping between molecules; a CustomHbondForce what bare cations feel of
charge that flows; DrudeForce the springs and the screened pairs inside molecules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openmm
import torch
from openmm import unit
from scipy.fft import next_fast_len

from phyff.errors import SimulationError
from phyff.model.pairs import (
    COMPONENTS,
    DISPERSION_BEYOND_C6,
    MAX_ARGUMENT,
    SLATER_ARGUMENT,
    THOLE_REST,
    exchange_overlap_expression,
    slater_overlap_expression,
)
from phyff.model.parameters import SpeciesTensors
from phyff.openmm.charge_flow import charge_flow_forces
from phyff.openmm.near_field import NAME as NEAR_FIELD
from phyff.openmm.near_field import near_field_force
from phyff.units import COULOMB

DRUDE_MASS = 0.8
"""amu, taken from the atom: with DRUDE_FORCE_CONSTANT the oscillator's period is 5 to 6 fs, as in CHARMM."""
HYDROGEN_MASS = 3.0
"""amu; hydrogens take what they lack from their neighbour, or their oscillators would be too fast. Averages
of positions do not depend on masses, and a molecule's mass is unchanged."""
C6_SIGMA = 0.05
"""nm; Lennard-Jones diameter so small that only -C6/r^6 of NonbondedForce is left (r^-12 is below 1e-4)."""
SHORT_RANGE_CUTOFF = 0.65
SWITCH_WIDTH = 0.08
DAMPING_CUTOFF = 0.42
"""nm; Thole's correction of a pair of charges on heavy atoms is below 1e-3 of its Coulomb energy there."""
SCREENING = 3.3
"""Ewald's screening exponent times the cut-off: the direct space leaves out less than 4e-6 of a product of
charges over its distance. Oscillators of 2-3 e ask for that; with OpenMM's default, 2.6, LP30's pressure is
off by 120 bar."""
MESH_SPACING = 0.3
"""Of the reciprocal space, times the exponent: both spaces then err alike (benchmarks/notes/speed.md)."""
GROUPS = {
    "valence": 0,
    "permanent": 1,
    "oscillators": 2,
    "damping": 3,
    "short range": 4,
    "multipoles": 5,
    "neural": 6,
    "charge flow": 7,
}
"""Force groups, for timing and analysis."""

_PAIR_PARAMETERS = ("b", "ba", "bd", "ax", "ap", "at", "s6", "s8", "s10")
_REPULSION = exchange_overlap_expression("x", "br")
_ATTRACTION = slater_overlap_expression("v", "bar")
_ATTRACTION_AMPLITUDES = {"penetration": "ap", "charge_transfer": "at"}
_ARGUMENTS = (
    f"y = {SLATER_ARGUMENT}; z = min({MAX_ARGUMENT}, bdr); v = min({MAX_ARGUMENT}, bar); "
    f"x = min({MAX_ARGUMENT}, br)"
)
_PAIR_PRODUCTS = (
    "ax = ax1*ax2; ap = ap1*ap2; at = at1*at2; c6 = s61*s62; c8 = s81*s82; c10 = s101*s102; "
    "br = b1*b2*r; bar = ba1*ba2*r; bdr = bd1*bd2*r"
)
_CATION_PARAMETERS = ("bx", "bp", "bt", "ax", "ap", "at")
_CATION_TERMS = {
    "exchange": f"ax1*ax2*{slater_overlap_expression('x', 'bxr')}",
    "penetration": f"-ap1*ap2*{slater_overlap_expression('v', 'bpr')}",
    "charge_transfer": f"-at1*at2*{slater_overlap_expression('w', 'btr')}",
}
_CATION_ARGUMENTS = (
    f"x = min({MAX_ARGUMENT}, bxr); v = min({MAX_ARGUMENT}, bpr); w = min({MAX_ARGUMENT}, btr); "
    "bxr = bx1*bx2*r; bpr = bp1*bp2*r; btr = bt1*bt2*r"
)
WITH_CATIONS = "with bare cations"
"""What the names of forces end in that act between bare cations and other atoms alone."""
DAMPING = f"-{COULOMB}*(q1*q2 - p1*p2)*{THOLE_REST}/r; u = min({MAX_ARGUMENT}, r/(w1*w2))"


@dataclass(frozen=True)
class Placed:
    """A molecule of the system: its parameters and the indices of its atoms, oscillators and sites."""

    species: SpeciesTensors
    atoms: Sequence[int]
    oscillators: Sequence[int]
    sites: Sequence[int]


def add_nonbonded_forces(
    system: openmm.System, molecules: Sequence[Placed], cutoff: float | None, split_components: bool = False
) -> None:
    """Add virtual sites and every non-bonded force of the engine to particles that have their atomic masses.

    cutoff: of NonbondedForce in nm (PME), None in vacuum. split_components: one short-range force a component
    (names "exchange", "penetration", "charge_transfer", "dispersion") instead of one for all.
    """
    for molecule in molecules:
        _set_virtual_sites(system, molecule)
        _move_mass_to_oscillators(system, molecule)
    columns = [Columns.of(molecule) for molecule in molecules]
    permanent = charges_and_c6(molecules, columns, cutoff, openmm.NonbondedForce.PME)
    if cutoff is not None:
        _set_mesh(permanent, system.getDefaultPeriodicBoxVectors(), cutoff)
    forces: list[tuple[openmm.Force, str]] = [(permanent, "permanent")]
    if any(len(m.oscillators) for m in molecules):
        forces.append((_oscillator_force(molecules), "oscillators"))
        forces.append((_damping_force(molecules, columns, cutoff), "damping"))
    forces += charge_flow_forces(molecules, cutoff)
    add_forces(system, [*forces, *short_range_forces(molecules, cutoff, split_components)], permanent)


def short_range_forces(
    molecules: Sequence[Placed], cutoff: float | None, split_components: bool
) -> list[tuple[openmm.Force, str]]:
    """Slater terms and what dispersion adds to bare C6, each force with its group."""
    forces: list[tuple[openmm.Force, str]] = []
    kept = (
        [(name,) for name in (*COMPONENTS, "dispersion")]
        if split_components
        else [(*COMPONENTS, "dispersion")]
    )
    for names in kept:
        label = names[0] if split_components else "short range"
        force = _short_range_force(molecules, cutoff, names)
        force.setName(label)
        forces.append((force, "short range"))
        inside = _intramolecular_force(molecules, names)
        if inside.getNumBonds():
            inside.setName(f"{label} within molecules")
            forces.append((inside, "short range"))
        slater = [name for name in names if name in COMPONENTS]
        if slater and any(molecule.species.is_bare_cation for molecule in molecules):
            contacts = _cation_force(molecules, cutoff, slater)
            contacts.setName(f"{label} {WITH_CATIONS}")
            forces.append((contacts, "short range"))
            near = near_field_force(molecules, cutoff, slater)
            if near is not None:
                near.setName(f"{label} {WITH_CATIONS}, {NEAR_FIELD}")
                forces.append((near, "short range"))
    return forces


def add_forces(
    system: openmm.System, forces: Sequence[tuple[openmm.Force, str]], permanent: openmm.NonbondedForce
) -> None:
    """Add forces, each to its group; custom pair forces leave out the pairs that `permanent` treats apart."""
    exclusions = [permanent.getExceptionParameters(k)[:2] for k in range(permanent.getNumExceptions())]
    for force, group in forces:
        if isinstance(force, openmm.CustomNonbondedForce):
            for i, j in exclusions:
                force.addExclusion(i, j)
        force.setForceGroup(GROUPS[group])
        system.addForce(force)


def _set_virtual_sites(system: openmm.System, molecule: Placed) -> None:
    for site, index in zip(molecule.species.sites, molecule.sites, strict=True):
        corners = [molecule.atoms[a] for a in site.atoms]
        if site.kind == "out-of-plane":
            rule = openmm.OutOfPlaneSite(*corners, *site.weights)
        elif len(corners) == 2:
            rule = openmm.TwoParticleAverageSite(*corners, *site.weights)
        else:
            rule = openmm.ThreeParticleAverageSite(*corners, *site.weights)
        system.setVirtualSite(index, rule)


def repartition_hydrogen_mass(
    system: openmm.System, atoms: Sequence[int], elements: Sequence[str], bonds: Sequence[tuple[int, int]]
) -> None:
    """Give the hydrogens of a molecule (particles `atoms`) HYDROGEN_MASS at the cost of their neighbours."""
    for pair in bonds:
        for hydrogen, heavy in (pair, pair[::-1]):
            if elements[hydrogen] == "H" and elements[heavy] != "H":
                own, other = (system.getParticleMass(atoms[i])._value for i in (hydrogen, heavy))
                system.setParticleMass(atoms[hydrogen], HYDROGEN_MASS)
                system.setParticleMass(atoms[heavy], other - (HYDROGEN_MASS - own))


def _move_mass_to_oscillators(system: openmm.System, molecule: Placed) -> None:
    for atom, index in zip(molecule.species.oscillators.tolist(), molecule.oscillators, strict=True):
        parent = molecule.atoms[atom]
        mass = system.getParticleMass(parent).value_in_unit(unit.dalton)
        system.setParticleMass(parent, mass - DRUDE_MASS)
        system.setParticleMass(index, DRUDE_MASS)


@dataclass(frozen=True)
class Columns:
    """Charges and parent atoms of a molecule's particles: atoms, then oscillators, then sites."""

    particles: list[int]
    total: np.ndarray
    permanent: np.ndarray
    parents: np.ndarray

    @classmethod
    def of(cls, molecule: Placed) -> Columns:
        s, n = molecule.species, len(molecule.atoms)
        charges, mobile = s.charges.numpy(), s.oscillator_charges.numpy()
        permanent = np.concatenate([charges[:n], np.zeros(len(mobile)), charges[n:]])
        total = permanent.copy()
        total[s.oscillators.numpy()] -= mobile
        total[n : n + len(mobile)] = mobile
        parents = np.concatenate([np.arange(n), s.oscillators.numpy(), s.parents.numpy()[n:]])
        return cls(
            [*molecule.atoms, *molecule.oscillators, *molecule.sites], total, permanent, parents.astype(int)
        )


def charges_and_c6(
    molecules: Sequence[Placed], columns: Sequence[Columns], cutoff: float | None, method: int
) -> openmm.NonbondedForce:
    """Charges and bare C6 by `method` within the cut-off (nm, None in vacuum); within molecules permanent
    charges only, in full beyond three bonds."""
    force = openmm.NonbondedForce()
    force.setName("charges and C6")
    if cutoff is None:
        force.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    else:
        force.setNonbondedMethod(method)
        force.setCutoffDistance(cutoff)
        force.setUseDispersionCorrection(True)
    rows: dict[int, tuple[float, float]] = {}
    for molecule, own in zip(molecules, columns, strict=True):
        c6 = molecule.species.c6.numpy() ** 2
        for slot, particle in enumerate(own.particles):
            on_atom = slot < len(molecule.atoms)
            rows[particle] = (own.total[slot], c6[slot] / (4 * C6_SIGMA**6) if on_atom else 0.0)
    for particle in range(len(rows)):
        force.addParticle(rows[particle][0], C6_SIGMA, rows[particle][1])
    for molecule, own in zip(molecules, columns, strict=True):
        s = molecule.species
        close, c6, n = s.close.numpy(), s.c6.numpy(), len(molecule.atoms)
        for a in range(len(own.particles)):
            for b in range(a):
                i, j = own.parents[a], own.parents[b]
                far = not close[i, j]
                product = own.permanent[a] * own.permanent[b] if far else 0.0
                depth = c6[i] * c6[j] / (4 * C6_SIGMA**6) if far and a < n else 0.0
                force.addException(own.particles[b], own.particles[a], product, C6_SIGMA, depth)
    return force


def _set_mesh(force: openmm.NonbondedForce, vectors: Sequence[openmm.Vec3], cutoff: float) -> None:
    """Screening and mesh of the reciprocal space for these box vectors; a box that swells or shrinks by some
    percent keeps them."""
    exponent = SCREENING / cutoff
    lengths = np.linalg.norm([v.value_in_unit(unit.nanometer) for v in vectors], axis=1)
    points = [next_fast_len(int(np.ceil(length * exponent / MESH_SPACING)), real=True) for length in lengths]
    force.setPMEParameters(exponent, *points)


def _oscillator_force(molecules: Sequence[Placed]) -> openmm.DrudeForce:
    force = openmm.DrudeForce()
    for molecule in molecules:
        s = molecule.species
        numbers = [
            force.addParticle(index, molecule.atoms[atom], -1, -1, -1, charge, alpha, 1.0, 1.0)
            for index, atom, charge, alpha in zip(
                molecule.oscillators,
                s.oscillators.tolist(),
                s.oscillator_charges.tolist(),
                s.alpha.tolist(),
                strict=True,
            )
        ]
        for a, first in enumerate(numbers):
            for second in numbers[:a]:
                force.addScreenedPair(second, first, s.thole)
    return force


def _damping_force(
    molecules: Sequence[Placed], columns: Sequence[Columns], cutoff: float | None
) -> openmm.CustomNonbondedForce:
    force = openmm.CustomNonbondedForce(DAMPING)
    force.setName("damping between molecules")
    for name in ("q", "p", "w"):
        force.addPerParticleParameter(name)
    set_range(force, cutoff, DAMPING_CUTOFF, tail=False)
    rows: dict[int, list[float]] = {}
    for molecule, own in zip(molecules, columns, strict=True):
        widths = molecule.species.widths.numpy()
        for slot, particle in enumerate(own.particles):
            rows[particle] = [own.total[slot], own.permanent[slot], widths[own.parents[slot]]]
    for particle in range(len(rows)):
        force.addParticle(rows[particle])
    return force


def _short_range(components: Sequence[str]) -> str:
    """Expression of the named terms, in a pair's ax, ap, at, c6, c8, c10, br, bar and bdr."""
    attractive = [_ATTRACTION_AMPLITUDES[name] for name in COMPONENTS[1:] if name in components]
    terms = [f"ax*{_REPULSION}"] if "exchange" in components else []
    terms += [f"-({' + '.join(attractive)})*{_ATTRACTION}"] if attractive else []
    terms += [DISPERSION_BEYOND_C6] if "dispersion" in components else []
    return f"{' + '.join(terms)}; {_ARGUMENTS}"


def _short_range_force(
    molecules: Sequence[Placed], cutoff: float | None, components: Sequence[str]
) -> openmm.CustomNonbondedForce:
    """All pairs of atoms, but for the Slater terms of those with a bare cation."""
    force = openmm.CustomNonbondedForce(f"{_short_range(components)}; {_PAIR_PRODUCTS}")
    for name in _PAIR_PARAMETERS:
        force.addPerParticleParameter(name)
    set_range(force, cutoff, SHORT_RANGE_CUTOFF, tail="dispersion" in components)
    rows: dict[int, list[float]] = {}
    atoms: list[int] = []
    for molecule in molecules:
        here = [name for name in components if name not in COMPONENTS or not molecule.species.is_bare_cation]
        own = _pair_parameters(molecule.species, here)
        rows.update(zip(molecule.atoms, own, strict=True))
        atoms.extend(molecule.atoms)
        for particle in (*molecule.oscillators, *molecule.sites):
            rows[particle] = [1.0, 1.0, 1.0] + [0.0] * (len(_PAIR_PARAMETERS) - 3)
    for particle in range(len(rows)):
        force.addParticle(rows[particle])
    force.addInteractionGroup(atoms, atoms)
    return force


def _pair_parameters(species: SpeciesTensors, components: Sequence[str]) -> list[list[float]]:
    columns = [
        species.exponents.numpy(),
        species.attraction_exponents.numpy(),
        species.damping_exponents.numpy(),
    ]
    for name, amplitude in zip(COMPONENTS, species.amplitudes.numpy(), strict=True):
        columns.append(amplitude if name in components else 0.0 * amplitude)
    for c in (species.c6, species.c8, species.c10):
        columns.append(c.numpy() if "dispersion" in components else 0.0 * c.numpy())
    return np.array(columns).T.tolist()


def _cation_force(
    molecules: Sequence[Placed], cutoff: float | None, components: Sequence[str]
) -> openmm.CustomNonbondedForce:
    """Slater terms of pairs with a bare cation."""
    terms = " + ".join(_CATION_TERMS[name] for name in components)
    force = openmm.CustomNonbondedForce(f"{terms}; {_CATION_ARGUMENTS}")
    for name in _CATION_PARAMETERS:
        force.addPerParticleParameter(name)
    set_range(force, cutoff, SHORT_RANGE_CUTOFF, tail=False)
    rows: dict[int, list[float]] = {}
    for molecule in molecules:
        s = molecule.species
        columns = [s.contact_exponents, s.contact_attraction_exponents, s.contact_transfer_exponents]
        columns += list(s.contact_amplitudes)
        rows.update(zip(molecule.atoms, torch.stack(columns).T.tolist(), strict=True))
        for particle in (*molecule.oscillators, *molecule.sites):
            rows[particle] = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    for particle in range(len(rows)):
        force.addParticle(rows[particle])
    cations = [atom for m in molecules if m.species.is_bare_cation for atom in m.atoms]
    force.addInteractionGroup(cations, [atom for m in molecules for atom in m.atoms])
    return force


def set_range(force: openmm.CustomNonbondedForce, cutoff: float | None, own: float, tail: bool) -> None:
    """Cut a pair force off at `own` nm, switched; tail: with a long-range correction. In vacuum, neither."""
    if cutoff is None:
        force.setNonbondedMethod(openmm.CustomNonbondedForce.NoCutoff)
        return
    if own > cutoff:
        raise SimulationError(
            f"A cut-off of {cutoff} nm is below the {own} nm of the short range; use a larger one."
        )
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(own)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(own - SWITCH_WIDTH)
    force.setUseLongRangeCorrection(tail)


def _intramolecular_force(molecules: Sequence[Placed], components: Sequence[str]) -> openmm.CustomBondForce:
    """Short range and dispersion in a molecule more than three bonds apart (C6 itself is an exception)."""
    force = openmm.CustomBondForce(f"{_short_range(components)}; br = b*r; bar = ba*r; bdr = bd*r")
    for name in (*_PAIR_PARAMETERS[:6], "c6", "c8", "c10"):
        force.addPerBondParameter(name)
    for molecule in molecules:
        rows, close = np.array(_pair_parameters(molecule.species, components)), molecule.species.close.numpy()
        for i, j in zip(*np.nonzero(np.triu(~close)), strict=True):
            force.addBond(molecule.atoms[i], molecule.atoms[j], (rows[i] * rows[j]).tolist())
    return force
