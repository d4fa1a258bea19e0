"""What `phyff info` prints: the library, a species, or the dimers of two."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from phyff.errors import InputError
from phyff.report.physics import SHORT, Library, correlation_table, error_table, point_table, stored_table
from phyff.report.tables import flatten
from phyff.species import library
from phyff.species.parameters import SpeciesParameters, library_species


def show_library() -> None:
    """All species of the library, and the names that are known beside them."""
    fitted = library_species(library.library_directory())
    table = Table("species", "what it is", "charge", "conformers", "level of theory")
    table.add_column("SMILES", overflow="fold")
    for species in fitted.values():
        table.add_row(
            species.name,
            library.title(species.name),
            f"{species.charge:+d}" if species.charge else "0",
            str(len(species.conformers)),
            str(species.provenance.get("level_of_theory", {}).get("name", "")),
            species.smiles,
        )
    console = Console()
    console.print(table)
    names = ", ".join(known for known in library.known_names() if known not in fitted)
    console.print(
        f"Known by name, built on first use: {names}. Any other species: give its SMILES.",
        highlight=False,
    )


def show_species(name: str) -> None:
    """One species: quality figures, provenance, and the errors of its dimers.

    Raises:
        InputError: it is not in the library.
    """
    file = _library_file(name)
    species = SpeciesParameters.load(file)
    console = Console()
    console.print(f"{species.name}  {library.title(species.name)}  {species.smiles}", highlight=False)
    for title, content in (("quality", species.quality), ("provenance", species.provenance)):
        table = Table(title, "", show_lines=False)
        for row in flatten(content):
            table.add_row(*row)
        console.print(table)
    whole = Library.load(library.library_directory())
    header, rows = stored_table(whole, species.name)
    if rows:
        print_table(
            "Dimers of the fit: rms error where they attract, kJ/mol, held-out scans (all scans)",
            header,
            rows,
        )
    for note in whole.short_range.leans_on(species):
        console.print(note, highlight=False)
    console.print(f"File: {file}", highlight=False, soft_wrap=True)


def show_pair(name: str, partner: str) -> None:
    """How far the model is from the quantum chemistry of the dimers of two species.

    Raises:
        InputError: one of them is not in the library.
    """
    names = (_library_file(name).stem, _library_file(partner).stem)
    whole = Library.load(library.library_directory())
    if whole.trial is None:
        typer.echo("Fitting the short range without the held-out scans, to judge them: minutes", err=True)
    pairs = whole.pair_classes(names)
    _print_turned("Attractive dimers: rms error, held-out scans (all scans)", *error_table(pairs, True))
    _print_turned("All dimers: rms error, held-out scans (all scans)", *error_table(pairs, False))
    _print_turned("Correlation of component errors", *correlation_table(pairs))
    for pair in pairs:
        print_table(f"{pair.title}: model / quantum chemistry", *point_table(pair))


def _library_file(name: str) -> Path:
    found, smiles = library.find(name)
    file = library.library_file(found)
    if file is None:
        raise InputError(
            f"name: {found} ({smiles}) is not in the library; "
            f"make it with: phyff build {shlex.quote(smiles)} --out DIR."
        )
    return file


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose numbers are whole on a terminal of 80 columns too."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in header:
        table.add_column(SHORT.get(name, name), overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _print_turned(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As print_table, a column for each row: few rows with many cells."""
    first, *others = zip(header, *rows, strict=True)
    print_table(title, first, others)
