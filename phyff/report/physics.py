"""benchmarks/physics.md: every library species and pair of species with its figures, and plots of the scans.

From species files, the short-range model and dimer records; no quantum chemistry is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from phyff.errors import InputError
from phyff.fit.short_range import DimerPoint, pair_title
from phyff.fit.training import load_dimers
from phyff.model.cluster import PARTS
from phyff.model.pairs import COMPONENTS
from phyff.model.parameters import ShortRange, species_tensors
from phyff.report.dimer_errors import (
    COLUMNS,
    FITTED_PARTS,
    GOALS,
    Errors,
    PairClass,
    StoredErrors,
    pair_classes,
    shortest,
    stored_errors,
    trial_fit,
)
from phyff.report.scans import save_scans, scans
from phyff.species.library import SHORT_RANGE_FILE, TRIAL_FILE, title
from phyff.species.parameters import SpeciesParameters, library_species

PAGE, FIGURES = "physics.md", Path("figures") / "scans"
COMMAND = "python benchmarks/physics.py"
NOTHING = "-"
SHORT = {"electrostatics": "elec", "exchange": "exch", "induction": "ind", "dispersion": "disp"}
Table = list[list[str]]
ELECTRIC = """\
Electrostatic potential on 1.4 to 2.0 van der Waals radii, over the minima as the fit weighs them, relative
root mean square error: charges only, up to dipoles, up to quadrupoles; the multipoles of the file, which are
also held to the sites at contact; the charges and sites of the `drude` engine. Moving: root mean square error
of the potential of shapes the molecule takes as it moves, weighed as cations see it
(phyff/fit/charge_flow.py): with charges and sites alone, with charge that flows along bonds, and with that
flow fitted without the shape in question. Beside cations: the same in shapes the molecule has there, half of
the weight at the cation, less what its electrons lack of screening its nuclei so close. Near field
(phyff/model/near_field.py), where bare cations touch a molecule: relative root mean square error of its
density, as spheres and with directions, and what charges and flow miss of its potential, without and with the
near field. Dipole:
of the lowest minimum, and the largest errors at any of the minima."""
VALENCE = """\
Within molecules: forces and energies of displaced geometries that the fit has not seen; the bond and the
angle that change most when the molecule is minimised alone; harmonic frequencies."""
PAIRS = """\
Root mean square errors, kJ/mol: a trial fit on the scans it has not seen, every third one of a pair; in
brackets the library on all scans, which it has seen. Neighbours cut from liquids stand apart from the scans,
each a scan of its own (a third of them not seen); `benchmarks/liquid_dimers.py` gives their mean errors. %:
error of the total over the root mean square total. The trial shares the library's damping of dispersion and
its sizes of cations in the damping of induction, which were chosen on all scans."""
CORRELATION = """\
Correlation of the errors of two components over the dimers of the attractive region (all dimers for like
charges), of the library: the mean product over both root mean squares, nothing subtracted. The last column
is the error of the total over what uncorrelated errors of the same size would give, held out (in-sample):
well below 1, a good total owes something to errors that cancel."""
CLASSES = """\
Factors of each class on the overlap of densities and on their exponents (phyff/model/parameters.py), and
the dimers that hold the class."""
CONTACTS = """\
Factors of each class on its part of a molecule's density, and on the exponent of that, in a pair with a bare
cation, and the dimers behind."""
SCANS = """\
Above, energies along each approach; below, model minus quantum chemistry. Titles name the scan and the
classes of the atoms that are closest at contact. The model is the library's, which has seen the held-out
scans too."""


@dataclass(frozen=True)
class Library:
    """Species files, short-range model and dimer records of one folder (molecules/)."""

    species: dict[str, SpeciesParameters]
    short_range: ShortRange
    points: list[DimerPoint]
    trial: ShortRange | None = None
    """The `trial_fit` of the short range, where the folder has it."""

    @classmethod
    def load(cls, folder: Path) -> Library:
        """Read all of it.

        Raises:
            InputError: a file does not make sense. StoreError: a record is damaged.
        """
        species = library_species(folder)
        ordered = dict(
            sorted(species.items(), key=lambda item: (item[1].charge != 0, -item[1].charge, item[0]))
        )
        model, path = ShortRange.load(folder / SHORT_RANGE_FILE), folder / TRIAL_FILE
        trial = ShortRange.load(path) if path.is_file() else None
        if trial is not None and trial.provenance.get("trial_of") != model.fingerprint:
            trial = None
        return cls(ordered, model, load_dimers(folder / "records", species), trial)

    def fitted_trial(self) -> ShortRange:
        """The trial fit, made where the folder has none, which takes minutes.

        Raises:
            InputError: there are no dimer records.
        """
        self._check_points()
        return self.trial or trial_fit(list(self.species.values()), self.short_range, self.points)

    def pair_classes(self, only: tuple[str, str] | None = None) -> list[PairClass]:
        """Every pair of species that has dimers, or one of them, judged by library and `fitted_trial`.

        Raises:
            InputError: there are no dimer records, or none of the pair.
        """
        self._check_points()
        if only and not any(sorted(point.names) == sorted(only) for point in self.points):
            raise InputError(
                f"There are no dimers of {only[0]} and {only[1]}; 'phyff info {only[0]}' shows what there is."
            )
        species = list(self.species.values())
        return pair_classes(species, self.short_range, self.fitted_trial(), self.points, only)

    def _check_points(self) -> None:
        if not self.points:
            raise InputError(
                "There are no dimer records beside the library; a clone of the repository has them."
            )


def write_physics(library: Library, folder: Path) -> Path:
    """The page and its figures in `folder`; returns the page. Figures of earlier pages are removed."""
    pairs = library.pair_classes()
    tensors = {name: species_tensors(s, library.short_range) for name, s in library.species.items()}
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    for path in figures.glob("*.png"):
        path.unlink()
    for pair in _scanned(pairs):
        drawn = scans(pair, library.species, tensors)
        save_scans(drawn, pair.title, figures / _figure_name(pair))
    page = folder / PAGE
    page.write_text(render(library, pairs))
    return page


def render(library: Library, pairs: Sequence[PairClass]) -> str:
    """The page as Markdown."""
    sections = [
        f"# Physics of the library\n\n{_origin(library)}",
        f"## Species\n\n{ELECTRIC}",
        _markdown(*electric_table(library)),
        VALENCE,
        _markdown(*valence_table(library)),
        f"## Pairs of species\n\n{PAIRS}",
        "### Attractive region: total below zero",
        _markdown(*error_table(pairs, attractive=True)),
        "### All dimers, contacts far up the wall included",
        _markdown(*error_table(pairs, attractive=False)),
        f"### Do errors of components cancel?\n\n{CORRELATION}",
        _markdown(*correlation_table(pairs)),
        f"## Atom classes\n\n{CLASSES} {_leaning(library)}",
        _markdown(*class_table(library)),
        f"### Towards bare cations\n\n{CONTACTS}",
        _markdown(*contact_table(library)),
        f"## Scans\n\n{SCANS}",
    ]
    for pair in _scanned(pairs):
        figure = (FIGURES / _figure_name(pair)).as_posix()
        sections.append(f"### {pair.title}\n\n![Scans of {pair.title}]({figure})")
    return "\n\n".join(sections) + "\n"


def electric_table(library: Library) -> tuple[list[str], Table]:
    """Header and rows: potential, dipole, polarizability, response and C6 of every species."""
    header = [
        "species",
        "what it is",
        "ESP error, rank 0 / 1 / 2 / multipoles / drude (%)",
        "sites",
        "moving, charges / flow / left out (kJ/mol/e)",
        "beside cations, the same",
        "near field: density, spheres / directed (%)",
        "potential, charges / near field (kJ/mol/e)",
        "dipole, error of multipoles, of drude (D)",
        "polarizability (Å³), trace, eigenvalue error (%)",
        "response error (%)",
        "C6 (a.u.)",
    ]
    rows = []
    for s in library.species.values():
        electric, response, flow, near = (
            s.quality.get(part, {}) for part in ("electrostatics", "response", "charge_flow", "near_field")
        )
        moving, beside = (
            [flow.get(f"esp_rms_{shapes}{k}_kJ_mol_e") for k in ("", "_flow", "_flow_left_out")]
            for shapes in ("shapes", "contacts")
        )
        ranks = [
            electric.get(f"esp_relative_rms_{k}") for k in ("rank0", "rank1", "rank2", "multipoles", "drude")
        ]
        rows.append(
            [
                s.name,
                title(s.name),
                " / ".join(_percent(value) for value in ranks),
                _number(electric.get("sites"), "d"),
                " / ".join(_number(value, ".1f") for value in moving),
                " / ".join(_number(value, ".1f") for value in beside),
                " / ".join(_number(near.get(f"density_rms_percent{k}"), ".1f") for k in ("_spheres", "")),
                " / ".join(_number(near.get(f"potential_rms_kJ_mol_e{k}"), ".1f") for k in ("_charges", "")),
                f"{_number(electric.get('dipole_qm_D'), '.2f')}, "
                f"{_number(electric.get('dipole_error_D'), '.3f')}, "
                f"{_number(electric.get('drude_dipole_error_D'), '.3f')}",
                f"{_number(response.get('polarizability_qm_A3'), '.3g')}, "
                f"{_percent(response.get('polarizability_trace_relative_error'))}, "
                f"{_percent(response.get('polarizability_eigenvalue_relative_error'))}",
                _percent(response.get("response_relative_rms")),
                _number(response.get("c6_au"), ".4g"),
            ]
        )
    return header, rows


def valence_table(library: Library) -> tuple[list[str], Table]:
    """Header and rows: forces, energies, geometry and frequencies of every molecule."""
    columns = {
        "force rms (kcal/mol/Å)": ("force_rms_heldout_kcal_mol_A", ".1f"),
        "energy rms (kJ/mol)": ("energy_rms_heldout_kJ_mol", ".2f"),
        "bond (Å)": ("max_bond_error_A", ".4f"),
        "angle (deg)": ("max_angle_error_deg", ".1f"),
        "frequencies, rms / largest (1/cm)": ("frequency_rms_error_cm1", ".0f"),
    }
    rows = []
    for s in library.species.values():
        own = s.quality.get("valence", {})
        if own:
            cells = [_number(own.get(key), form) for key, form in columns.values()]
            cells[-1] += f" / {_number(own.get('frequency_max_error_cm1'), '.0f')}"
            rows.append([s.name, str(len(s.conformers)), *cells])
    return ["species", "conformers", *columns], rows


def error_table(pairs: Sequence[PairClass], attractive: bool) -> tuple[list[str], Table]:
    """Header and rows: errors of every pair by component, and how they stand to the goal."""
    header = ["pair", "dimers", "held out", *COLUMNS, "%"] + (["goal"] if attractive else [])
    rows = []
    for pair in pairs:
        unseen, seen = pair.on_held_out(attractive), pair.in_sample(attractive)
        cells = [_both(a, b) for a, b in zip(unseen.rms, seen.rms, strict=True)]
        row = [pair.title, str(seen.points), str(unseen.points), *cells]
        row.append(_both(100 * unseen.relative, 100 * seen.relative))
        rows.append(row + ([_verdict(pair)] if attractive else []))
    return header, rows


def correlation_table(pairs: Sequence[PairClass]) -> tuple[list[str], Table]:
    """Header and rows: correlations of component errors, and how much of the total's error they take away."""
    couples = list(combinations(range(len(PARTS)), 2))
    header = ["pair", *(f"{SHORT[PARTS[a]]}-{SHORT[PARTS[b]]}" for a, b in couples)]
    rows = []
    for pair in pairs:
        attractive = pair.in_sample(attractive=True).points > 0
        seen, unseen = pair.in_sample(attractive), pair.on_held_out(attractive)
        cells = [_number(seen.correlation[a, b], "+.2f") for a, b in couples]
        rows.append([pair.title, *cells, _both(_cancelling(unseen), _cancelling(seen))])
    return [*header, "total / uncorrelated"], rows


def class_table(library: Library) -> tuple[list[str], Table]:
    """Header and rows: the classes that dimers determined."""
    model = library.short_range
    own = {model.class_of(labels) for s in library.species.values() for labels in s.atom_classes}
    names = (*COMPONENTS, "width", "attraction_width", "transfer_width")
    rows = [
        [f"`{label}`", str(c.points), *(_number(getattr(c, name), ".4f") for name in names)]
        for label, c in sorted(model.classes.items())
        if label in own
    ]
    return ["class", "dimers", *(name.replace("_", " ") for name in names)], rows


def contact_table(library: Library) -> tuple[list[str], Table]:
    """Header and rows: contact classes that dimers with bare cations determined."""
    own = {labels[0] for s in library.species.values() for labels in s.atom_classes}
    names = (*COMPONENTS, "width")
    rows = [
        [f"`{label}`", str(c.points), *(_number(getattr(c, name), ".4f") for name in names)]
        for label, c in sorted(library.short_range.cation_contacts.items())
        if label in own
    ]
    return ["class", "dimers", *(name.replace("_", " ") for name in names)], rows


def stored_table(library: Library, name: str) -> tuple[list[str], Table]:
    """Header and rows: errors that the fit kept of every pair with one species, attractive region."""
    seen, unseen = (
        stored_errors(library.short_range, subset, library.species)
        for subset in ("in_sample", "held_out_scans")
    )
    rows = []
    for (names, in_liquids), own in seen.items():
        if name in names:
            held_out = unseen.get((names, in_liquids), StoredErrors.nothing())
            cells = [_both(held_out.rms[part], own.rms[part]) for part in FITTED_PARTS]
            row = [pair_title(names, in_liquids), str(own.points), str(own.attractive), *cells]
            rows.append(row)
    return ["pair", "dimers", "attractive", *FITTED_PARTS], rows


def point_table(pair: PairClass) -> tuple[list[str], Table]:
    """Header and rows: every dimer of a pair, model / quantum chemistry."""
    rows = [
        [
            name.rsplit("#", 1)[1] + (" (held out)" if pair.held_out[k] else ""),
            f"{10 * shortest(pair.points[k]):.2f}",
            *(f"{a:.1f} / {b:.1f}" for a, b in zip(pair.library[k], pair.quantum[k], strict=True)),
        ]
        for name, numbers in pair.scans().items()
        for k in numbers
    ]
    return ["scan", "closest atoms (Å)", *COLUMNS], rows


def _origin(library: Library) -> str:
    model, dimers = library.short_range, len(library.points)
    level = model.provenance.get("level_of_theory", {}).get("name", "not recorded")
    fitted = model.quality.get("points", 0)
    sentences = [
        f"Written by `{COMMAND}` from `molecules/`, all of it.",
        f"Level of theory: {level}. Short range: fitted to {fitted} rigid dimers on "
        f"{model.provenance.get('date', 'a day not recorded')}, fingerprint {model.fingerprint}.",
    ]
    if fitted != dimers:
        sentences.append(
            f"The records hold {dimers} now, and all are judged here; the fit is to be repeated."
        )
    return " ".join(sentences)


def _leaning(library: Library) -> str:
    notes = [note for s in library.species.values() for note in library.short_range.leans_on(s)]
    return "; ".join(notes) + "." if notes else "Every atom of the library has a class with dimers."


def _verdict(pair: PairClass) -> str:
    met = pair.goal_met()
    return NOTHING if met is None else f"{GOALS[pair.kind].text}: {'met' if met else 'missed'}"


def _cancelling(errors: Errors) -> float:
    return float(errors.rms[4] / errors.independent)


def _both(held_out: float, in_sample: float) -> str:
    if np.isnan(in_sample):
        return NOTHING
    return f"{_number(held_out, '.2f')} ({in_sample:.2f})"


def _percent(fraction: Any) -> str:
    return NOTHING if fraction is None else f"{100 * abs(fraction):.1f}"


def _number(value: Any, form: str) -> str:
    return NOTHING if value is None or np.isnan(value) else format(value, form)


def _scanned(pairs: Sequence[PairClass]) -> list[PairClass]:
    return [pair for pair in pairs if not pair.in_liquids]


def _figure_name(pair: PairClass) -> str:
    return "_".join(pair.names) + ".png"


def _markdown(header: Sequence[str], rows: Table) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
