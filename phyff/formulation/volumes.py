"""Molar volumes before any simulation: van der Waals volumes and one packing fraction, no measured density.

The van der Waals volume is the atomic-contribution formula of Zhao, Abraham and Zissimos (J. Org. Chem. 68,
7368 (2003)): spheres of Bondi radii less 5.92 A^3 a bond, 14.7 an aromatic and 3.8 a non-aromatic ring.
"""

import math

from rdkit import Chem

from phyff.formulation.components import Component, molecule
from phyff.units import AVOGADRO

PACKING_FRACTION = 0.62
"""Share of a liquid inside van der Waals spheres, between loose (0.60) and dense (0.64) random packing."""
CATION_VOLUME = -20.0
"""cm3/mol and unit charge of a monoatomic cation: it has no volume of its own and draws its neighbours in."""

_CM3_PER_ANGSTROM3 = AVOGADRO * 1e-24
_BONDI_RADII = {
    "H": 1.20,
    "C": 1.70,
    "N": 1.55,
    "O": 1.52,
    "F": 1.47,
    "P": 1.80,
    "S": 1.80,
    "Cl": 1.75,
    "Br": 1.85,
}
"""Angstrom; elements that are not here take RDKit's radius."""

ASSUMPTION = (
    f"estimated from van der Waals volumes at a packing fraction of {PACKING_FRACTION} (monoatomic cations: "
    f"{CATION_VOLUME:g} cm3/mol per unit charge), good to about 10 %, the same at every temperature"
)


def estimated_molar_volume(smiles: str) -> float:
    """Partial molar volume (cm3/mol) of one molecule or ion in a liquid; negative for a monoatomic cation."""
    species = molecule(smiles)
    if species.n_atoms == 1 and species.charge > 0:
        return CATION_VOLUME * species.charge
    table = Chem.GetPeriodicTable()
    radii = [_BONDI_RADII.get(element) or table.GetRvdw(element) for element in species.elements]
    volume = sum(4.0 / 3.0 * math.pi * radius**3 for radius in radii) - 5.92 * len(species.bonds)
    mol = species.rdkit()
    for ring in Chem.GetSymmSSSR(mol):
        volume -= 14.7 if all(mol.GetAtomWithIdx(atom).GetIsAromatic() for atom in ring) else 3.8
    return volume * _CM3_PER_ANGSTROM3 / PACKING_FRACTION


def component_volume(component: Component, given: dict[str, float]) -> float:
    """Molar volume (cm3/mol) of a formula unit: as given, else summed over species, given or estimated."""
    for key in (component.name, component.smiles):
        if key in given:
            return given[key]
    return sum(
        count * given.get(name, given.get(smiles, estimated_molar_volume(smiles)))
        for name, smiles, count in component.species
    )


def is_given(component: Component, given: dict[str, float]) -> bool:
    """Whether every part of the component's volume was given by the caller."""
    whole = component.name in given or component.smiles in given
    return whole or all(name in given or smiles in given for name, smiles, _ in component.species)
