"""Write benchmarks/physics.md and its figures: the library's species and pairs against quantum chemistry.

    python benchmarks/physics.py [--out FOLDER]

From the committed species, short range and dimer records (molecules/). The trial fit that has not seen the
scans it is judged by takes minutes and is kept (molecules/short_range_trial.json), so that
`phyff info NAME PARTNER` need not make it again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from phyff.files import write_atomically
from phyff.report.physics import Library, write_physics
from phyff.species.library import TRIAL_FILE, library_directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of physics.md")
    out, folder = parser.parse_args().out, library_directory()
    library = Library.load(folder)
    if library.trial is None:
        library = replace(library, trial=library.fitted_trial())
        write_atomically(folder / TRIAL_FILE, f"{library.fitted_trial().model_dump_json(indent=1)}\n")
    print(write_physics(library, out))


if __name__ == "__main__":
    main()
