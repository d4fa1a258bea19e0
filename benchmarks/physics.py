"""Write benchmarks/physics.md and its figures: the library's species and pairs against quantum chemistry.

    python benchmarks/physics.py [--out FOLDER]

From the committed species, short range and dimer records (molecules/); about a minute of one core.
"""

import argparse
from pathlib import Path

from phyff.report.physics import Library, write_physics
from phyff.species.library import library_directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of physics.md")
    print(write_physics(Library.load(library_directory()), parser.parse_args().out))


if __name__ == "__main__":
    main()
