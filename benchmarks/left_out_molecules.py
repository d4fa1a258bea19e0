"""How well the short range transfers: fits that have not seen one molecule, judged on its dimers.

    python benchmarks/left_out_molecules.py [NAME...]

For every molecule or anion with dimers (or those named) the class model is fitted to the dimers of all
others, with the damping of the library; the molecule then leans on coarser classes or on those it shares.
Errors are of dimers with a total below zero, kJ/mol; goal: total within 2 for neutral pairs.
"""

import sys
from pathlib import Path

import numpy as np

from phyff.fit.short_range import COARSE, attracting_cations, fit_short_range, pair_title
from phyff.model.parameters import species_tensors
from phyff.report.dimer_errors import COLUMNS, mean_and_rms, model_energies, pair_of
from phyff.report.physics import Library

LIBRARY = Path(__file__).parents[1] / "molecules"


def main() -> None:
    library = Library.load(LIBRARY)
    held = {name for point in library.points for name in point.names}
    names = sys.argv[1:] or [n for n, s in library.species.items() if n in held and s.n_atoms > 1]
    header = ["left out", "pair", "dimers", *COLUMNS]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for name in names:
        for pair, errors in left_out(library, name).items():
            cells = [name, pair, str(len(errors)), *mean_and_rms(errors)]
            print("| " + " | ".join(cells) + " |", flush=True)


def left_out(library: Library, name: str) -> dict[str, np.ndarray]:
    """By pair, model less quantum chemistry (n, 5) in the order of COLUMNS; attractive dimers with `name`."""
    others = [point for point in library.points if name not in point.names]
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
    errors: dict[str, list[np.ndarray]] = {}
    for point in library.points:
        quantum = np.array([point.components[part] for part in COLUMNS])
        if name in point.names and quantum[-1] < 0:
            (found,) = model_energies(point.names, point.xyz, [tensors])
            pair = pair_title(pair_of(point.names, library.species), point.in_liquids)
            errors.setdefault(pair, []).append(found - quantum)
    return {pair: np.array(own) for pair, own in errors.items()}


if __name__ == "__main__":
    main()
