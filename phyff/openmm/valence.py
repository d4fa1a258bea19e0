"""The valence terms of phyff/model/valence.py as stock OpenMM forces, one of each kind for the whole
system."""

import math
from collections.abc import Iterable, Sequence

import openmm

from phyff.errors import SimulationError
from phyff.model.valence import ValenceTerms, improper_dihedrals

BOND = "0.5*k*d^2*(1 - anharmonicity*d + 7/12*anharmonicity^2*d^2); d=r-r0"
ONE_FOUR = "g*d + 0.5*k*d^2; d=r-centre"
TORSION_PAIR = (
    "c*cos(phi)*cos(psi) + s*sin(phi)*sin(psi); "
    "phi=m*dihedral(p1, p2, p3, p4); psi=n*dihedral(p2, p3, p4, p5)"
)
LINEAR_ANGLE = "k*(1 + cos(theta))"


def add_valence_forces(
    system: openmm.System, molecules: Iterable[tuple[ValenceTerms, Sequence[int]]]
) -> list[openmm.Force]:
    """Add the valence forces of all molecules to the system and return those added.

    molecules: for each molecule its terms and the particle index of each of its atoms, in map order (Drude
    particles and virtual sites play no part). A force that no molecule needs is not added. The forces do not
    wrap molecules over the periodic box: positions keep molecules whole, as OpenMM does. SimulationError when
    a molecule has fewer or more particles than its terms have atoms.
    """
    bonds = openmm.CustomBondForce(BOND)
    for name in ("k", "r0", "anharmonicity"):
        bonds.addPerBondParameter(name)
    angles = openmm.HarmonicAngleForce()
    linear_angles = openmm.CustomAngleForce(LINEAR_ANGLE)
    linear_angles.addPerAngleParameter("k")
    urey_bradleys = openmm.HarmonicBondForce()
    one_fours = openmm.CustomBondForce(ONE_FOUR)
    for name in ("g", "k", "centre"):
        one_fours.addPerBondParameter(name)
    torsions = openmm.PeriodicTorsionForce()
    torsion_pairs = openmm.CustomCompoundBondForce(5, TORSION_PAIR)
    for name in ("m", "n", "c", "s"):
        torsion_pairs.addPerBondParameter(name)

    for terms, particles in molecules:
        if len(particles) != terms.n_atoms:
            raise SimulationError(
                f"valence: a molecule of {terms.n_atoms} atoms was given {len(particles)} particles; "
                "give one index per atom"
            )
        at = [int(p) for p in particles]
        for bond in terms.bonds:
            bonds.addBond(*(at[a] for a in bond.atoms), [bond.k, bond.r0, bond.anharmonicity])
        for angle in terms.angles:
            angles.addAngle(*(at[a] for a in angle.atoms), angle.theta0, angle.k)
        for linear in terms.linear_angles:
            linear_angles.addAngle(*(at[a] for a in linear.atoms), [linear.k])
        for urey in terms.urey_bradleys:
            urey_bradleys.addBond(*(at[a] for a in urey.atoms), urey.r0, urey.k)
        for pair in terms.one_fours:
            one_fours.addBond(*(at[a] for a in pair.atoms), [pair.g, pair.k, pair.centre])
        for torsion in terms.torsions:
            for n, k in enumerate(torsion.k, start=1):
                if k != 0.0:
                    torsions.addTorsion(*(at[a] for a in torsion.atoms), n, 0.0, k)
        for chain in terms.torsion_pairs:
            torsion_pairs.addBond([at[a] for a in chain.atoms], [*chain.multiples, chain.c, chain.s])
        for improper in terms.impropers:
            for dihedral in improper_dihedrals(improper.atoms):
                torsions.addTorsion(*(at[a] for a in dihedral), 2, math.pi, improper.k / 3)

    added = []
    for name, force, count in (
        ("bonds", bonds, bonds.getNumBonds()),
        ("angles", angles, angles.getNumAngles()),
        ("linear angles", linear_angles, linear_angles.getNumAngles()),
        ("Urey-Bradley", urey_bradleys, urey_bradleys.getNumBonds()),
        ("one-four", one_fours, one_fours.getNumBonds()),
        ("torsions", torsions, torsions.getNumTorsions()),
        ("torsion pairs", torsion_pairs, torsion_pairs.getNumBonds()),
    ):
        if count:
            force.setName(f"valence: {name}")
            system.addForce(force)
            added.append(force)
    return added
