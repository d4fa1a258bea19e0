"""The `multipole` engine: the energy of phyff/model/multipoles.py as stock OpenMM forces, atoms only.

AmoebaMultipoleForce carries the permanent multipoles and the induced dipoles between molecules; dispersion,
short range and everything inside a molecule (charges beyond three bonds too) are the `drude` engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import openmm
from openmm import unit
from scipy.fft import next_fast_len
from scipy.spatial.distance import pdist

from phyff.errors import InputError
from phyff.model.pairs import COMPONENTS, MAX_ARGUMENT, slater_overlap_expression
from phyff.openmm.charge_flow import charge_flow_forces
from phyff.openmm.drude import (
    SHORT_RANGE_CUTOFF,
    Columns,
    Placed,
    add_forces,
    charges_and_c6,
    set_range,
    short_range_forces,
)
from phyff.species.frames import LocalFrame
from phyff.species.parameters import ChargeSite, SpeciesParameters
from phyff.units import COULOMB

Amoeba = openmm.AmoebaMultipoleForce
POLARIZATIONS = {"mutual": Amoeba.Mutual, "extrapolated": Amoeba.Extrapolated, "direct": Amoeba.Direct}
"""Self-consistent; extrapolated from a few iterations (Simmonett et al. 2015, doi 10.1063/1.4928530); without
the field of other induced dipoles."""
EWALD_TOLERANCE = 1e-4
"""Forces are within 0.08 kJ/mol/nm (rms, of 140) of those at 1e-7 for carbonates with LiPF6."""
ROOM = 1.05
"""Cut-off over the longest molecule at least; they stretch a little as they move."""
INDUCED_TOLERANCE = 1e-5
"""Root-mean-square change (debye) of the induced dipoles in the last iteration."""
MAX_ITERATIONS = 200
CONTACT_NAME = "induction at contact with "
"""Begins the names of the forces that act between bare cations of an element and molecules."""
_CONTACT = (
    f"a1*a2*(s1*s2*{slater_overlap_expression('x', 'br')} + f1*f2*{slater_overlap_expression('v', 'bar')}); "
    f"x = min({MAX_ARGUMENT}, br); v = min({MAX_ARGUMENT}, bar); br = b1*b2*r; bar = ba1*ba2*r"
)
"""a: exchange amplitude of the cation, 1 for others; s, f: amplitudes of the others, 1 for the cation."""


def add_nonbonded_forces(
    system: openmm.System,
    molecules: Sequence[Placed],
    cutoff: float | None,
    polarization: str,
    split_components: bool = False,
) -> None:
    """Add every non-bonded force of the engine; arguments as in phyff.openmm.drude, polarization one of
    POLARIZATIONS.

    Raises:
        InputError: the polarization is unknown.
    """
    if polarization not in POLARIZATIONS:
        raise InputError(
            f"polarization: '{polarization}' is unknown; choose one of {', '.join(POLARIZATIONS)}."
        )
    multipoles = _multipole_force(molecules, cutoff)
    multipoles.setPolarizationType(POLARIZATIONS[polarization])
    if cutoff is not None:
        set_ewald(multipoles, system.getDefaultPeriodicBoxVectors(), EWALD_TOLERANCE)
    inside = charges_and_c6(
        molecules, [_charges_inside(m) for m in molecules], cutoff, openmm.NonbondedForce.CutoffPeriodic
    )
    forces: list[tuple[openmm.Force, str]] = [(multipoles, "multipoles"), (inside, "permanent")]
    forces += charge_flow_forces(molecules, cutoff)
    forces += [(force, "permanent") for force in _site_forces(molecules)]
    forces += [(force, "short range") for force in _contact_forces(molecules, cutoff)]
    add_forces(system, [*forces, *short_range_forces(molecules, cutoff, split_components)], inside)


def _contact_forces(molecules: Sequence[Placed], cutoff: float | None) -> list[openmm.CustomNonbondedForce]:
    """phyff.model.multipoles.contact_energy, a force for each element of the bare cations that are there."""
    forces = []
    cations = [m for m in molecules if m.species.is_bare_cation]
    for element in sorted({m.species.elements[0] for m in cations}):
        partners = [
            m for m in molecules if element in m.species.multipoles.contacts and not m.species.is_bare_cation
        ]
        own = [m for m in cations if m.species.elements[0] == element]
        if not partners:
            continue
        force = openmm.CustomNonbondedForce(_CONTACT)
        force.setName(f"{CONTACT_NAME}{element}")
        for name in ("a", "s", "f", "b", "ba"):
            force.addPerParticleParameter(name)
        set_range(force, cutoff, SHORT_RANGE_CUTOFF, tail=False)
        rows: dict[int, list[float]] = {}
        for molecule in own:
            s = molecule.species
            exchange = float(s.contact_amplitudes[COMPONENTS.index("exchange")])
            exponents = (float(s.contact_exponents), float(s.contact_transfer_exponents))
            rows[molecule.atoms[0]] = [exchange, 1.0, 1.0, *exponents]
        for molecule in partners:
            s = molecule.species
            columns = (*s.multipoles.contacts[element], s.contact_exponents, s.contact_transfer_exponents)
            for particle, row in zip(
                molecule.atoms, zip(*(c.tolist() for c in columns), strict=True), strict=True
            ):
                rows[particle] = [1.0, *row]
        for particle in range(sum(len(m.atoms) for m in molecules)):
            force.addParticle(rows.get(particle, [0.0, 0.0, 0.0, 1.0, 1.0]))
        force.addInteractionGroup([m.atoms[0] for m in own], [atom for m in partners for atom in m.atoms])
        forces.append(force)
    return forces


def _multipole_force(molecules: Sequence[Placed], cutoff: float | None) -> openmm.AmoebaMultipoleForce:
    force = Amoeba()
    force.setName("multipoles")
    force.setMutualInducedTargetEpsilon(INDUCED_TOLERANCE)
    force.setMutualInducedMaxIterations(MAX_ITERATIONS)
    if cutoff is None:
        force.setNonbondedMethod(Amoeba.NoCutoff)
    else:
        force.setNonbondedMethod(Amoeba.PME)
        force.setCutoffDistance(cutoff)
    rows = {particle: row for molecule in molecules for particle, row in _multipole_rows(molecule).items()}
    for particle in range(len(rows)):
        force.addMultipole(*rows[particle])
    for molecule in molecules:
        for atom in molecule.atoms:
            # no permanent interaction inside the molecule, no polarization by its own permanent moments, and
            # full interaction of its induced dipoles, which AMOEBA never scales
            others = [other for other in molecule.atoms if other != atom]
            force.setCovalentMap(atom, Amoeba.Covalent12, others)
            force.setCovalentMap(atom, Amoeba.PolarizationCovalent11, others)
    return force


def shortest_cutoff(species: Iterable[SpeciesParameters]) -> float:
    """nm that the engine needs in a periodic box. Where an excluded pair is beyond the cut-off OpenMM leaves
    its part of the reciprocal space in, so no molecule may be longer: diglyme by itself has 5 kJ/mol at a
    cut-off of 0.6 nm, and 0.01 from 1.0 nm on."""
    shapes = [np.array(shape.xyz_nm) for s in species for shape in s.conformers]
    return ROOM * max((float(pdist(xyz).max(initial=0.0)) for xyz in shapes), default=0.0)


def set_ewald(force: openmm.AmoebaMultipoleForce, vectors: Sequence[openmm.Vec3], tolerance: float) -> None:
    """Exponent and mesh that OpenMM would choose for this tolerance, but of sizes that every platform has:
    left to itself OpenCL takes 35 points where Reference takes 34."""
    alpha = np.sqrt(-np.log(2.0 * tolerance)) / force.getCutoffDistance().value_in_unit(unit.nanometer)
    lengths = [vectors[k][k].value_in_unit(unit.nanometer) for k in range(3)]
    least = [int(np.ceil(2.0 * alpha * length / (3.0 * tolerance**0.2))) for length in lengths]
    force.setAEwald(alpha)
    force.setPmeGridDimensions([next_fast_len(points, real=True) for points in least])


def _multipole_rows(molecule: Placed) -> dict[int, tuple]:
    """Arguments of addMultipole by particle."""
    own, rows = molecule.species.multipoles, {}
    for slot, frame in enumerate(own.frames):
        kind, corners, local = _axes(frame)
        dipole, quadrupole = local @ own.dipoles[slot].numpy(), own.quadrupoles[slot].numpy() / 3
        rows[molecule.atoms[slot]] = (
            float(own.charges[slot]),
            dipole.tolist(),
            (local @ quadrupole @ local.T).ravel().tolist(),
            kind,
            *(molecule.atoms[k] if k >= 0 else -1 for k in corners),
            own.thole,
            float(own.sizes[slot]),
            float(own.alpha[slot]),
        )
    return rows


def _axes(frame: LocalFrame) -> tuple[int, tuple[int, int, int], np.ndarray]:
    """AMOEBA's axis type, its Z, X and Y atoms, and the matrix that turns our local tensors into its own."""
    plain = np.eye(3)
    if frame.isotropic:
        return Amoeba.NoAxisType, (-1, -1, -1), plain
    if frame.kind == "trigonal-planar":  # the normal is AMOEBA's y, as long as the four atoms are in a plane
        return Amoeba.ZThenX, (frame.z[0], frame.z[1], -1), plain[[0, 2, 1]]
    if frame.kind == "bisector":
        return Amoeba.Bisector, (frame.z[1], frame.z[0], -1), plain
    if len(frame.z) == 3:
        return Amoeba.ThreeFold, (frame.z[0], frame.z[1], frame.z[2]), plain
    if not frame.x:
        return Amoeba.ZOnly, (frame.z[0], -1, -1), plain
    if len(frame.x) == 2:
        return Amoeba.ZBisect, (frame.z[0], frame.x[0], frame.x[1]), plain
    if frame.y:  # AMOEBA flips y when its Y atom is on the positive side, we when it is on the negative one
        return Amoeba.ZThenX, (frame.z[0], frame.x[0], frame.y[0]), np.diag([1.0, -1.0, 1.0])
    return Amoeba.ZThenX, (frame.z[0], frame.x[0], -1), plain


def _charges_inside(molecule: Placed) -> Columns:
    """The atoms' permanent charges of the `drude` engine, for the pairs inside a molecule only."""
    n = len(molecule.atoms)
    return Columns(
        list(molecule.atoms), np.zeros(n), molecule.species.charges[:n].numpy(), np.arange(n, dtype=int)
    )


def _site_forces(molecules: Sequence[Placed]) -> list[openmm.CustomCompoundBondForce]:
    """Coulomb energy inside molecules of pairs with an off-atom charge, whose place is written as a function
    of the atoms that carry it."""
    forces = {pair: _site_force(*pair) for pair in product(_CORNERS, repeat=2)}
    for molecule in molecules:
        s, n = molecule.species, len(molecule.atoms)
        parents, charges = s.parents.tolist(), s.charges.tolist()
        for b in range(n, len(parents)):
            for a in range(b):
                if not s.close[parents[a], parents[b]]:
                    places = [_corners(s.sites[k - n]) if k >= n else ("atom", (k,), ()) for k in (a, b)]
                    forces[places[0][0], places[1][0]].addBond(
                        [molecule.atoms[atom] for _, atoms, _ in places for atom in atoms],
                        [COULOMB * charges[a] * charges[b], *(w for _, _, ws in places for w in ws)],
                    )
    return [force for force in forces.values() if force.getNumBonds()]


_CORNERS = {"atom": 1, "average": 3, "out-of-plane": 3}
"""Kinds of places of a charge, and how many atoms define one."""


def _corners(site: ChargeSite) -> tuple[str, tuple[int, ...], tuple[float, ...]]:
    """Kind, three atoms and weights with r = r_1 + u (r_2 - r_1) + v (r_3 - r_1) (+ w times their cross
    product)."""
    if site.kind == "out-of-plane":
        return site.kind, site.atoms, site.weights
    if len(site.atoms) == 2:
        return site.kind, (*site.atoms, site.atoms[0]), (site.weights[1], 0.0)
    return site.kind, site.atoms, site.weights[1:]


def _site_force(first: str, second: str) -> openmm.CustomCompoundBondForce:
    names = {"atom": (), "average": ("u", "v"), "out-of-plane": ("u", "v", "w")}
    starts = (1, 1 + _CORNERS[first])
    lines = [
        f"d{axis} = {_coordinate(second, axis, starts[1], 2)} - ({_coordinate(first, axis, starts[0], 1)})"
        for axis in "xyz"
    ]
    force = openmm.CustomCompoundBondForce(
        _CORNERS[first] + _CORNERS[second], f"strength/sqrt(dx^2 + dy^2 + dz^2); {'; '.join(lines)}"
    )
    force.setName(f"charges within molecules: {first}, {second}")
    force.addPerBondParameter("strength")
    for number, kind in enumerate((first, second), start=1):
        for name in names[kind]:
            force.addPerBondParameter(f"{name}{number}")
    return force


def _coordinate(kind: str, axis: str, p: int, number: int) -> str:
    """One coordinate of a place whose atoms are particles p, p + 1 and p + 2 of the bond."""

    def edge(axis: str, k: int) -> str:
        return f"({axis}{p + k} - {axis}{p})"

    if kind == "atom":
        return f"{axis}{p}"
    flat = f"{axis}{p} + u{number}*{edge(axis, 1)} + v{number}*{edge(axis, 2)}"
    if kind == "average":
        return flat
    a, b = {"x": ("y", "z"), "y": ("z", "x"), "z": ("x", "y")}[axis]
    return f"{flat} + w{number}*({edge(a, 1)}*{edge(b, 2)} - {edge(b, 1)}*{edge(a, 2)})"
