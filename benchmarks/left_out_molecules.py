"""How well the short range transfers: fits that have not seen one species, judged on its dimers.

    python benchmarks/left_out_molecules.py [NAME...]
    python benchmarks/left_out_molecules.py "Li+ in liquids"

For every molecule or anion with dimers (or those named) the class model is fitted to the dimers of all
others, with the damping of the library; the molecule then leans on coarser classes or on those it shares.
"... in liquids" leaves out only the neighbours of a species that were cut from liquids, not its scans.
Errors are of dimers with a total below zero, kJ/mol, the last column that of the total as a share of it, root
mean square each; goal: total within 2 for neutral pairs.
"""

import sys
from pathlib import Path

import numpy as np

from phyff.fit.short_range import (
    COARSE,
    IN_LIQUIDS,
    DimerPoint,
    attracting_cations,
    fit_short_range,
    pair_title,
)
from phyff.model.parameters import species_tensors
from phyff.report.dimer_errors import COLUMNS, mean_and_rms, model_energies, pair_of
from phyff.report.physics import Library

LIBRARY = Path(__file__).parents[1] / "molecules"


def main() -> None:
    library = Library.load(LIBRARY)
    held = {name for point in library.points for name in point.names}
    names = sys.argv[1:] or [n for n, s in library.species.items() if n in held and s.n_atoms > 1]
    header = ["left out", "pair", "dimers", "mean total", *COLUMNS, "of it (%)"]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for name in names:
        for pair, (quantum, errors) in left_out(library, name).items():
            cells = [name, pair, str(len(errors)), f"{quantum[:, -1].mean():.1f}", *mean_and_rms(errors)]
            cells.append(f"{100 * np.linalg.norm(errors[:, -1]) / np.linalg.norm(quantum[:, -1]):.1f}")
            print("| " + " | ".join(cells) + " |", flush=True)


def left_out(library: Library, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By pair, quantum chemistry and what the model misses it by, (n, 5) each in the order of COLUMNS; of the
    attractive dimers that the fit has not seen."""
    species = name.removesuffix(IN_LIQUIDS)

    def hidden(point: DimerPoint) -> bool:
        return species in point.names and (species == name or point.in_liquids)

    others = [point for point in library.points if not hidden(point)]
    seen = {n: s for n, s in library.species.items() if any(n in point.names for point in others)}
    model = library.short_range
    fitted = fit_short_range(
        seen,
        others,
        model.damping,
        model.damping_alpha,
        model.dispersion_widths,
        provenance={},
        attracting=attracting_cations(model, list(seen.values())),
        trial=False,
        tolerance=COARSE,
    )
    tensors = {n: species_tensors(s, fitted) for n, s in library.species.items()}
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for point in filter(hidden, library.points):
        quantum = np.array([point.components[part] for part in COLUMNS])
        if quantum[-1] < 0:
            (energies,) = model_energies(point.names, point.xyz, [tensors])
            pair = pair_title(pair_of(point.names, library.species), point.in_liquids)
            found.setdefault(pair, []).append((quantum, energies - quantum))
    return {
        pair: (np.array([q for q, _ in own]), np.array([e for _, e in own])) for pair, own in found.items()
    }


if __name__ == "__main__":
    main()
