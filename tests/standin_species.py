"""Small species that need no quantum chemistry: flexible polarizable water, Li+ and Cl-, and a short range.

Plausible numbers, chosen by hand; tests of the plumbing use them where library species would be slow.
"""

from collections.abc import Sequence

import numpy as np

from phyff.model.parameters import ShortRange, ShortRangeClass
from phyff.model.valence import AngleTerm, BondTerm, ValenceTerms
from phyff.species.molecule import Molecule
from phyff.species.parameters import (
    ConformerParameters,
    Dispersion,
    DrudeCharges,
    Multipoles,
    NearField,
    Polarizability,
    Slater,
    SpeciesParameters,
)

BOND, ANGLE = 0.0958, 1.82
WATER_XYZ = ((0.0, 0.0, 0.0), (BOND, 0.0, 0.0), (BOND * np.cos(ANGLE), BOND * np.sin(ANGLE), 0.0))
SHORT_RANGE = ShortRange(
    classes={
        "*": ShortRangeClass(exchange=0.55, penetration=0.15, charge_transfer=0.1, points=1),
        "H1": ShortRangeClass(exchange=0.12, penetration=0.03, charge_transfer=0.02, points=1),
    },
    damping=2.6,
    damping_alpha={"H": 4e-4},
)


def species(
    name: str,
    smiles: str,
    charges: Sequence[float],
    alpha: Sequence[float],
    c6: Sequence[float],
    xyz: Sequence[Sequence[float]] = ((0.0, 0.0, 0.0),),
    valence: ValenceTerms | None = None,
) -> SpeciesParameters:
    """A species file's content with point charges, and Slater widths equal for all atoms."""
    molecule = Molecule.from_smiles(smiles)
    n = molecule.n_atoms
    directed = 1.0 if n > 1 else 0.0
    near_field = NearField(
        density=4000.0,
        density_exponent=40.0,
        shape=tuple(directed * k for k in (0.1, 0.1, -0.1, 0.05, -0.1)),
        potential=tuple(directed * k for k in (200.0, 50.0, 50.0, 30.0, -20.0, 30.0)),
        exponent=40.0 * directed,
    )
    return SpeciesParameters(
        name=name,
        smiles=molecule.smiles,
        mapped_smiles=molecule.mapped_smiles,
        charge=molecule.charge,
        elements=molecule.elements,
        symmetry_classes=molecule.symmetry_classes,
        atom_classes=molecule.atom_classes,
        conformers=(ConformerParameters(xyz_nm=tuple(map(tuple, xyz)), energy=0.0, weight=1.0),),
        multipoles=Multipoles(
            charges=tuple(charges), dipoles=((0.0,) * 3,) * n, quadrupoles=(((0.0,) * 3,) * 3,) * n
        ),
        drude_charges=DrudeCharges(atoms=tuple(charges)),
        polarizability=Polarizability(alpha=tuple(alpha), thole=2.6),
        multipole_polarizability=Polarizability(alpha=tuple(alpha), thole=0.45),
        dispersion=Dispersion(c6=tuple(c6), c8=tuple(0.05 * c for c in c6), c10=tuple(0.003 * c for c in c6)),
        slater=Slater(populations=(1.0,) * n, exponents=(38.0,) * n),
        near_field=(near_field,) * (n if n > 1 or molecule.charge <= 0 else 0),
        valence=valence or ValenceTerms(n_atoms=n),
        quality={"electrostatics": {"esp_relative_rms": 0.05}},
        provenance={"level_of_theory": {"name": "by hand"}},
    )


WATER = species(
    "water",
    "O",
    charges=(-0.7, 0.35, 0.35),
    alpha=(1.0e-3, 0.0, 0.0),
    c6=(2.6e-3, 0.0, 0.0),
    xyz=WATER_XYZ,
    valence=ValenceTerms(
        n_atoms=3,
        bonds=tuple(BondTerm(atoms=(0, h), k=4.6e5, r0=BOND) for h in (1, 2)),
        angles=(AngleTerm(atoms=(1, 0, 2), k=380.0, theta0=ANGLE),),
    ),
)
LITHIUM = species("Li+", "[Li+]", charges=(1.0,), alpha=(2.8e-5,), c6=(1e-5,))
CHLORIDE = species("Cl-", "[Cl-]", charges=(-1.0,), alpha=(4.0e-3,), c6=(1e-2,))
ALL = {s.name: s for s in (WATER, LITHIUM, CHLORIDE)}
