"""Molecules and ions: perception, symmetry, local frames, conformers and the names of the library."""

from phyff.species.molecule import Molecule

__all__ = ["Molecule"]
