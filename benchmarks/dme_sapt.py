"""The model against published DFT-SAPT energies of pairs of 1,2-dimethoxyethane; no fit has seen them.

    python benchmarks/dme_sapt.py DATA.npz

DATA: arrays posA, posB (n, 16, 3) in angstrom, scan (n,), and es, pol, ex, disp, dhf, total (n,) in kJ/mol:
the 600 dimers of the PhyNEO authors, DFT-SAPT/aug-cc-pVTZ. The library has dimers of DME of its
own, computed for it: scans with itself and with Li+, neighbours cut from its liquid. Prints errors by
component, attractive dimers (total below zero) and all, and the error by the distance of the closest atoms.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from scipy.spatial.distance import cdist

from phyff.model.cluster import Cluster, interaction_energy
from phyff.model.parameters import ShortRange, species_tensors
from phyff.report.dimer_errors import mean_and_rms
from phyff.species.library import SHORT_RANGE_FILE
from phyff.species.parameters import SpeciesParameters

LIBRARY = Path(__file__).parents[1] / "molecules"
REFERENCE = {
    "electrostatics": ("es",),
    "exchange": ("ex",),
    "induction": ("pol", "dhf"),
    "dispersion": ("disp",),
    "total": ("total",),
}
"""Our components, and which of the published ones they are; delta-HF counts as induction."""
BOND_ANGSTROM = 1.6
ELEMENT_OF_DEGREE = {1: "H", 2: "O", 4: "C"}
"""In a saturated ether the number of neighbours tells the element."""
SHELLS_NM = (0.0, 0.22, 0.26, 0.32, 0.45, 10.0)


def main() -> None:
    data = np.load(sys.argv[1])
    species = SpeciesParameters.load(LIBRARY / "DME.json")
    tensors = species_tensors(species, ShortRange.load(LIBRARY / SHORT_RANGE_FILE))
    order = library_order(data["posA"][0], species)
    found, gaps = [], []
    for a, b in zip(data["posA"], data["posB"], strict=True):
        xyz = [0.1 * side[order] for side in (a, b)]
        parts = interaction_energy(Cluster.of([tensors] * 2, [torch.tensor(x) for x in xyz]))
        found.append([float(parts[name]) for name in REFERENCE])
        gaps.append(cdist(*xyz).min())
    published = np.array([sum(data[name] for name in names) for names in REFERENCE.values()]).T
    errors, attractive = np.array(found) - published, published[:, -1] < 0
    print("model - DFT-SAPT, kJ/mol: mean / root mean square")
    header = ["dimers", "number", "mean total", *REFERENCE]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    show("attractive", errors[attractive], published[attractive])
    show("all", errors, published)
    for near, far in zip(SHELLS_NM, SHELLS_NM[1:], strict=False):
        inside = attractive & (np.array(gaps) >= near) & (np.array(gaps) < far)
        if inside.any():
            show(f"attractive, closest atoms {near:g} to {far:g} nm", errors[inside], published[inside])


def library_order(xyz_angstrom: NDArray[np.float64], species: SpeciesParameters) -> list[int]:
    """Which of the published atoms each atom of the library's DME is."""
    bonded = np.triu(cdist(xyz_angstrom, xyz_angstrom) < BOND_ANGSTROM, k=1)
    light = bonded.sum(0) + bonded.sum(1)
    mol = Chem.RWMol()
    for degree in light:
        mol.AddAtom(Chem.Atom(ELEMENT_OF_DEGREE[int(degree)]))
    for i, j in np.argwhere(bonded):
        mol.AddBond(int(i), int(j), Chem.BondType.SINGLE)
    order = mol.GetSubstructMatch(species.molecule.rdkit())
    if len(order) != species.n_atoms:
        raise SystemExit("the data are of another molecule than 1,2-dimethoxyethane")
    return list(order)


def show(name: str, errors: NDArray[np.float64], published: NDArray[np.float64]) -> None:
    """One row of the table."""
    cells = [name, str(len(errors)), f"{published[:, -1].mean():.1f}", *mean_and_rms(errors)]
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
