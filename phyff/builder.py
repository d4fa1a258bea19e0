"""From a formulation or a SMILES to a force field: library species are read, the others built on the spot."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from phyff.errors import InputError, StoreError
from phyff.files import replace_atomically, write_atomically
from phyff.fit.species import build_species
from phyff.formulation import Box, Formulation
from phyff.md import PackedSpecies, pack
from phyff.model.neural import NeuralTerm
from phyff.model.parameters import ShortRange
from phyff.openmm.forcefield import ForceField
from phyff.parallel import cores
from phyff.qm.level import PHYFF_2026A, LevelOfTheory
from phyff.qm.store import default_root, open_store
from phyff.species import library
from phyff.species.parameters import SpeciesParameters
from phyff.units import AMU_NM3_TO_G_CM3

SPECIES_FOLDER = "species"
PACKING_RATIO = 0.87
"""Density of a packed box over the assumed one; the simulation compresses it."""

Say = Callable[[str], None]
"""Takes one line of progress."""


def build(
    source: str | Path | Formulation,
    out: str | Path | None = None,
    workers: int | None = None,
    say: Say | None = None,
    neural: bool = False,
) -> ForceField:
    """Force field of one species (name or SMILES), or of all species of a formulation (recipe or one line).

    out: folder whose species/NAME.json keep what had to be built, by default the user's cache; a second call
    reads them. workers: processes of the quantum chemistry, by default one a core. neural: with the library's
    neural term.
    Raises InputError for a source that cannot be used, and errors of the quantum chemistry and fits.
    """
    subject = source if isinstance(source, Formulation) else read_source(source)
    species = subject.species if isinstance(subject, Formulation) else [subject]
    folder = default_root() if out is None else Path(out)
    return force_field(species, folder / SPECIES_FOLDER, workers, say, neural)


def read_source(source: str | Path) -> Formulation | tuple[str, str]:
    """A recipe's formulation, or (name, SMILES) when the text names or draws one molecule or ion.

    Raises InputError when it is neither.
    """
    if isinstance(source, str) and source.strip() and not Path(source).is_file():
        try:
            return library.find(source)
        except InputError:
            pass  # whatever is wrong with it, it is no species: the formulation's reader says what to mend
    return Formulation.parse(source)


def force_field(
    species: Sequence[tuple[str, str]],
    folder: Path,
    workers: int | None = None,
    say: Say | None = None,
    neural: bool = False,
) -> ForceField:
    """Force field of (name, SMILES) species, in their order; `folder` keeps the ones that had to be built.

    neural: with the library's neural term; InputError when there is none that fits its short range.
    """
    model = short_range()
    return ForceField(
        tuple(fitted_species(name, smiles, model, folder, workers, say) for name, smiles in species),
        model,
        neural_term(model) if neural else None,
    )


def neural_term(model: ShortRange) -> NeuralTerm:
    """The neural term that comes with the library; InputError when there is none, or it corrects another
    short range than `model`."""
    path = library.library_directory() / library.NEURAL_FILE
    if not path.is_file():
        raise InputError(f"neural: there is no {path}; run 'phyff train-neural' or leave --neural out.")
    term = NeuralTerm.load(path)
    if term.metadata.get("short_range") != model.fingerprint:
        raise InputError(
            f"neural: {path} was trained beside another short-range model; run 'phyff train-neural' again."
        )
    return term


def short_range() -> ShortRange:
    """The short-range model that comes with the library; StoreError when it is not there."""
    path = library.library_directory() / library.SHORT_RANGE_FILE
    if not path.is_file():
        raise StoreError(f"The short-range model {path} is missing; reinstall phyff or run 'phyff train'.")
    return ShortRange.load(path)


def fitted_species(
    name: str,
    smiles: str,
    model: ShortRange,
    folder: Path,
    workers: int | None = None,
    say: Say | None = None,
) -> SpeciesParameters:
    """A species from the library, else from folder/NAME.json, else built from its SMILES and written there.

    A file in the folder counts only if it was fitted at today's level of theory beside the same short-range
    model. Quantum records go to the user's store, so a killed build goes on where it stopped.
    """
    say = say or _silent
    file = library.library_file(name)
    if file is not None:
        say(f"{name}: from the library")
        return SpeciesParameters.load(file)
    file, level = folder / f"{name}.json", PHYFF_2026A
    if file.is_file():
        species = SpeciesParameters.load(file)
        if _is_current(species, model, level):
            say(f"{name}: from {file}")
            return species
        say(f"{name}: {file} was fitted beside another short-range model or level; fitting it again")
    else:
        say(f"{name}: not in the library; building it from {smiles} with quantum chemistry ({level.name})")
    species = build_species(name, smiles, level, open_store(), model, workers or cores())
    species = species.model_copy(
        update={"provenance": {**species.provenance, "short_range": model.fingerprint}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    species.save(file)
    say(f"{name}: built, written to {file}")
    return SpeciesParameters.load(file)  # the file's rounded numbers, so that a second call gives the same


def starting_box(forcefield: ForceField, box: Box, seed: int = 1) -> tuple[app.Topology, NDArray[np.float64]]:
    """Topology and (n_particles, 3) positions in nm of a packed box of a formulation.

    It is a little larger than the assumed density asks for (PACKING_RATIO), as packing needs.
    """
    counts = [(name, count) for name, _, count in box.counts]
    species = [(forcefield.named(name), count) for name, count in counts]
    mass = sum(float(s.molecule.masses.sum()) * count for s, count in species)
    edge = (mass * AMU_NM3_TO_G_CM3 / (PACKING_RATIO * box.density)) ** (1.0 / 3.0)
    atoms = pack(
        [
            PackedSpecies(
                s.name,
                s.elements,
                tuple(np.array(conformer.xyz_nm) for conformer in s.conformers),
                tuple(conformer.weight for conformer in s.conformers),
                count,
            )
            for s, count in species
        ],
        edge,
        seed,
    )
    topology = forcefield.topology(counts, edge)
    return topology, forcefield.place(topology, atoms)


def write_force_field(forcefield: ForceField, out: Path) -> Path:
    """Write out/forcefield.json; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    forcefield.save(out / "forcefield.json")
    return out / "forcefield.json"


def write_system(forcefield: ForceField, box: Box, cutoff_nm: float, out: Path) -> None:
    """Write out/system.xml, of the physics alone, and out/topology.pdb: a packed box, every particle in the
    System's order.

    Drude particles and off-atom sites stand in the PDB file as atoms without element.
    """
    topology, positions = starting_box(forcefield, box)
    system = forcefield.physics_only().create_system(topology, cutoff_nm)
    out.mkdir(parents=True, exist_ok=True)

    def write_pdb(path: Path) -> None:
        with path.open("w") as file:
            app.PDBFile.writeFile(topology, positions * unit.nanometer, file, keepIds=True)

    write_atomically(out / "system.xml", openmm.XmlSerializer.serialize(system))
    replace_atomically(out / "topology.pdb", write_pdb)


def _is_current(species: SpeciesParameters, model: ShortRange, level: LevelOfTheory) -> bool:
    provenance = species.provenance
    return (
        provenance.get("short_range") == model.fingerprint
        and provenance.get("level_of_theory") == level.to_dict()
    )


def _silent(line: str) -> None:
    del line
