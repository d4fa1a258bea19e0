"""The valence terms of phyff/model/valence.py as stock OpenMM forces, one of each kind for the whole
system."""

import math
from collections.abc import Iterable, Mapping, Sequence

import openmm

from phyff.errors import SimulationError
from phyff.model.valence import ValenceTerms, improper_dihedrals

BOND = "0.5*k*d^2*(1 - anharmonicity*d + 7/12*anharmonicity^2*d^2); d=r-r0"
ONE_FOUR = "g*d + 0.5*k*d^2; d=r-centre"
TORSION_PAIR = "{c}*cos({m}*phi)*cos({n}*psi) + {s}*sin({m}*phi)*sin({n}*psi)"
TORSIONS_OF_PAIR = "phi=dihedral(p1, p2, p3, p4); psi=dihedral(p2, p3, p4, p5)"
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
    chains: dict[tuple[int, ...], dict[tuple[int, int], tuple[float, float]]] = {}

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
        for product in terms.torsion_pairs:
            chain, (m, n) = tuple(at[a] for a in product.atoms), product.multiples
            if chain[0] > chain[-1]:
                chain, (m, n) = chain[::-1], (n, m)
            series = chains.setdefault(chain, {})
            c, s = series.get((m, n), (0.0, 0.0))
            series[m, n] = (c + product.c, s + product.s)
        for improper in terms.impropers:
            for dihedral in improper_dihedrals(improper.atoms):
                torsions.addTorsion(*(at[a] for a in dihedral), 2, math.pi, improper.k / 3)

    torsion_pairs = _torsion_pair_force(chains)
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


def _torsion_pair_force(
    chains: Mapping[tuple[int, ...], Mapping[tuple[int, int], tuple[float, float]]],
) -> openmm.CustomCompoundBondForce:
    """All products of a chain of five particles in one bond, so that its dihedrals are computed once. chains:
    their constants (c, s) by multiples."""
    multiples = sorted({pair for series in chains.values() for pair in series})
    names = [(f"c{m}_{n}", f"s{m}_{n}") for m, n in multiples]
    products = [
        TORSION_PAIR.format(c=c, s=s, m=m, n=n) for (c, s), (m, n) in zip(names, multiples, strict=True)
    ]
    force = openmm.CustomCompoundBondForce(5, f"{' + '.join(products) or 0}; {TORSIONS_OF_PAIR}")
    for pair in names:
        for name in pair:
            force.addPerBondParameter(name)
    for chain, series in chains.items():
        force.addBond(chain, [value for pair in multiples for value in series.get(pair, (0.0, 0.0))])
    return force
