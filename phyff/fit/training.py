"""The short-range training set: which pairs are scanned, their records, the fit of a class model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations_with_replacement, product
from pathlib import Path

import numpy as np
import torch

from phyff.errors import FitError, InputError
from phyff.files import write_atomically
from phyff.fit.contact_shapes import contact_potentials
from phyff.fit.dispersion import fit_dispersion_widths
from phyff.fit.multipole import cation_sizes, contact_shares
from phyff.fit.short_range import (
    COARSE,
    IN_LIQUIDS,
    LIQUID_DIMER,
    DimerPoint,
    attracting_cations,
    beside_penetration,
    fit_short_range,
    is_held_out,
    liquid_scan,
)
from phyff.fit.species import fit_nonbonded, with_valence, without_flow_of_charge
from phyff.model.cluster import Cluster
from phyff.model.parameters import FALLBACK, START_DAMPING, ShortRange, species_tensors
from phyff.qm.dimers import Partner, approach_job_of, scan_jobs
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import LevelOfTheory
from phyff.qm.monomer import monomer_records
from phyff.qm.store import RecordStore, read_record
from phyff.species.library import SHORT_RANGE_FILE, find
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters

CORE = ("EC", "DMC", "Li+", "PF6-")
"""Species whose pairs are all scanned."""
CATION_PARTNERS = {
    "Li+": (
        *("PC", "FEC", "VC", "EMC", "DME", "DOL", "THF", "GBL", "MA", "EA", "AN", "sulfolane"),
        *("BF4-", "FSI-", "TFSI-", "ClO4-", "DFOB-", "BOB-"),
    ),
    "Na+": ("EC", "DMC", "DME", "THF", "AN", "PF6-", "FSI-", "ClO4-"),
    "K+": ("EC", "PF6-"),
}
ANION_PARTNERS = {"PF6-": ("AN", "VC"), "BF4-": ("EC", "AN"), "ClO4-": ("EC",), "FSI-": ("EC", "DME")}
FURTHER_PAIRS = (
    *((cation, partner) for cation, partners in CATION_PARTNERS.items() for partner in partners),
    *((anion, partner) for anion, partners in ANION_PARTNERS.items() for partner in partners),
    *((name, name) for name in ("AN", "DME", "DOL", "THF", "MA", "VC", "sulfolane")),
    ("AN", "EC"),
)
"""Scanned too: cations with every kind of donor, anions with those they meet first; nitrile, ether, acetyl,
unsaturated and sulfone classes."""
ANIONS, CATIONS = ("TFSI-", "FSI-", "BF4-", "ClO4-", "DFOB-", "BOB-"), ("Na+", "K+")
SOLVENTS = (
    *("PC", "FEC", "VC", "EMC", "DEC", "DME", "diglyme", "DOL", "THF", "GBL", "MA", "EA", "AN", "sulfolane"),
)
LIBRARY = (*CORE, *ANIONS, *CATIONS, *SOLVENTS)
"""Species whose files come with the package."""
SCAN_ORDER = ((0, 2), (7, 8), (4,), (1,), (5,), (3,), (6,))
"""Scans run in these rounds over all pairs, so that an interrupted run leaves an even set."""
CATION_DAMPING_ALPHAS = (2.8e-5, 4e-4, 1.2e-3, 1.7e-3, 2.3e-3, 3e-3, 4e-3)
"""nm^3 tried as the size of a cation in the damping formula (each may have its own), all
with a charge transfer that repels and with one that attracts. Strong damping with attraction suits dimers
best, and three-body energies, which no fit sees, agree (benchmarks/three_body.py)."""
FEWEST_NEIGHBOURS = 5
"""Of bare cations in liquids that a flow of charge is tested on."""
SIZE_TOLERANCE = 1.1
"""The least size is taken whose error is within this factor of the smallest: beyond, damping gains little and
takes away from three-body energies."""


def make_library(
    folder: Path,
    level: LevelOfTheory,
    workers: int,
    fit_only: bool,
    extend: bool = False,
    renew: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Everything in `folder` (molecules/) from quantum data: species files and short_range.json. Records are
    kept in folder/records; what is there is not computed again.

    fit_only: fit the dimer records there are, compute none. extend: keep the classes of molecules that
    short_range.json has, and all but the flow of charge of species that nothing else changes; fit what is new
    and what bare cations feel. renew: names of molecules whose own classes, which no other has, are fitted
    anew as well.
    Raises:
        JobError, FitError: a calculation or a fit failed.
        InputError: there is no short_range.json to extend, or nothing of that name to renew.
    """
    if renew and not extend:
        raise InputError("--renew goes with --extend: without it everything is fitted anew.")
    unknown = sorted(set(renew) - set(SOLVENTS) - set(ANIONS) - set(CORE))
    if unknown:
        raise InputError(f"--renew {unknown[0]}: the library has no such molecule; 'phyff info' lists them.")
    store = RecordStore(folder / "records")
    earlier = ShortRange.load(folder / SHORT_RANGE_FILE) if extend else None
    data = {}
    for name, smiles in map(find, LIBRARY):
        say(f"{name}: monomer quantum chemistry, records in {store.root}")
        data[name] = monomer_records(Molecule.from_smiles(smiles), level, store, workers)
    beside = contact_potentials(
        {name: own.molecule for name, own in data.items()}, level, store, workers, compute=not fit_only
    )
    species = {name: fit_nonbonded(name, own, beside.get(name, ())) for name, own in data.items()}
    if not fit_only:
        run_dimers([(species[a], species[b]) for a, b in training_pairs()], level, store, workers)
    points = load_dimers(store.root, species)
    species = {
        name: with_tested_flow(
            one, species, points, without_flow_of_charge(one, data[name], beside.get(name, ()))
        )
        if one.charge_flow
        else one
        for name, one in species.items()
    }
    for name, one in species.items():
        say(f"{name}: {_flow_verdict(one)}")
    held = {name: own for name, own in species.items() if any(name in p.names for p in points)}
    kept = without_own_classes(earlier, species, renew) if earlier else None
    model = train(points, held, level, say, kept)
    if earlier and kept:
        origin = {"fingerprint": earlier.fingerprint, **earlier.provenance}
        fitted_anew = sorted(set(earlier.classes) - set(kept.classes))
        command = " ".join(["phyff train --extend", *(f"--renew {name}" for name in renew)])
        history = {**model.provenance, "command": command, "extends": origin, "fitted_anew": fitted_anew}
        model = model.model_copy(update={"provenance": history})
    fitted_species = []
    for name, own in data.items():
        path = folder / f"{name}.json"
        if earlier and path.is_file() and _alike(species[name], earlier, model):
            fitted, change = _with_contacts_of(SpeciesParameters.load(path), species[name]), "keeps"
        elif own.molecule.n_atoms > 1:
            fitted, change = with_valence(species[name], own, model), "fitted"
        else:
            fitted, change = species[name], "has no"
        fitted_species.append(fitted)
        say(f"{name}: {change} valence terms")
    # All at once: a fit that is stopped on the way leaves the library it found.
    for fitted in fitted_species:
        fitted.save(folder / f"{fitted.name}.json")
    write_atomically(folder / SHORT_RANGE_FILE, model.model_dump_json(indent=1) + "\n")
    say(f"{len(fitted_species)} species and the short range: written to {folder}")


def without_own_classes(
    model: ShortRange, species: Mapping[str, SpeciesParameters], names: Collection[str]
) -> ShortRange:
    """The model without the classes, coarser ones too, that the named species alone have."""
    labels = {name: {label for own in s.atom_classes for label in own} for name, s in species.items()}
    theirs = set().union(*(labels[name] for name in names))
    others = set().union(*(own for name, own in labels.items() if name not in names), {FALLBACK})
    classes = {label: c for label, c in model.classes.items() if label not in theirs - others}
    return model.model_copy(update={"classes": classes})


def with_tested_flow(
    species: SpeciesParameters,
    others: Mapping[str, SpeciesParameters],
    points: Sequence[DimerPoint],
    still: SpeciesParameters,
) -> SpeciesParameters:
    """The species, its flow of charge tested on its neighbours of bare cations in liquids, or what it is
    without (still) where it makes their electrostatics worse; the quality figures say which. Held-out dimers
    are not seen, and the mean error does not count, for penetration is fitted on top. With few such
    neighbours it stays."""
    known = {**others, species.name: species}
    own = [
        p
        for p in points
        if species.name in p.names
        and IN_LIQUIDS in p.scan
        and any(known[n].is_bare_cation for n in p.names)
        and not is_held_out(p.scan)
    ]
    if len(own) < FEWEST_NEIGHBOURS:
        return species
    errors = []
    for having in ({**known, species.name: still}, known):
        tensors = {
            n: species_tensors(having[n], ShortRange.charges_only())
            for n in {n for p in own for n in p.names}
        }
        missed = [
            float(
                beside_penetration(
                    Cluster.of([tensors[n] for n in p.names], [torch.tensor(x) for x in p.xyz])
                )
            )
            - p.components["electrostatics"]
            for p in own
        ]
        errors.append(float(np.std(missed)))
    quality = {
        **species.quality["charge_flow"],
        "cation_neighbours": len(own),
        "electrostatics_spread_kJ_mol": errors[0],
        "electrostatics_spread_flow_kJ_mol": errors[1],
    }
    better = species if errors[1] < errors[0] else still
    return better.model_copy(update={"quality": {**better.quality, "charge_flow": quality}})


def _with_contacts_of(earlier: SpeciesParameters, species: SpeciesParameters) -> SpeciesParameters:
    """An earlier species with what cations alone feel of a new one, flow of charge and near field."""
    theirs = ("charge_flow", "near_field")
    quality = {part: figures for part, figures in earlier.quality.items() if part not in theirs}
    quality |= {part: species.quality[part] for part in theirs if part in species.quality}
    provenance = {**earlier.provenance, "charge_flow_date": species.provenance["date"]}
    update = {part: getattr(species, part) for part in theirs}
    return earlier.model_copy(update={**update, "quality": quality, "provenance": provenance})


def _flow_verdict(species: SpeciesParameters) -> str:
    quality = species.quality.get("charge_flow", {})
    before, after = (quality.get(f"electrostatics_spread{k}_kJ_mol") for k in ("", "_flow"))
    beside = f" of {quality['contacts']} shapes beside cations" if "contacts" in quality else ""
    if before is None:
        return f"charge flow{beside} not tested on dimers" if species.charge_flow else "no charge flow"
    kept = "kept" if species.charge_flow else "taken away"
    return (
        f"charge flow{beside} {kept}, electrostatics next to cations {before:.2f}, with it {after:.2f} kJ/mol"
    )


def training_pairs() -> list[tuple[str, str]]:
    """Names of the two species of every pair that is scanned."""
    return [*combinations_with_replacement(CORE, 2), *FURTHER_PAIRS]


def dimer_jobs(
    pairs: Sequence[tuple[SpeciesParameters, SpeciesParameters]],
    level: LevelOfTheory,
    store: RecordStore,
    workers: int,
) -> list[list[Job]]:
    """Rounds of decomposition jobs for pairs of species, the informative and cheap ones first. The geometries
    are chosen here if the store has none yet."""
    small_first = [sorted(pair, key=lambda s: s.n_atoms) for pair in pairs]
    small_first.sort(key=lambda pair: (sum(s.n_atoms for s in pair), [s.name for s in pair]))
    approaches = [approach_job_of(Partner.of(a), Partner.of(b)) for a, b in small_first]
    records = run_jobs(approaches, store, workers, "approaches of the dimers")
    jobs = [
        job
        for choice, record in zip(approaches, records, strict=True)
        for job in scan_jobs(choice, record, level)
    ]
    return [[job for job in jobs if job.spec["scan"] in group] for group in SCAN_ORDER]


def run_dimers(
    pairs: Sequence[tuple[SpeciesParameters, SpeciesParameters]],
    level: LevelOfTheory,
    store: RecordStore,
    workers: int,
) -> None:
    """Compute what the store lacks of the scans of pairs; can be stopped and started again at any time."""
    for number, jobs in enumerate(dimer_jobs(pairs, level, store, workers), start=1):
        run_jobs(jobs, store, workers, f"dimers, round {number} of {len(SCAN_ORDER)}")


def load_dimers(records: Path, species: Mapping[str, SpeciesParameters]) -> list[DimerPoint]:
    """The decomposed dimers whose two species are known in a folder of records: scans, then neighbours in
    liquids.

    Raises:
        StoreError: a record is damaged. FitError: two are the same step of a scan.
    """
    return [point for kind in ("dimer", LIQUID_DIMER) for point in load_points(records / kind, species)]


def load_points(folder: Path, species: Mapping[str, SpeciesParameters]) -> list[DimerPoint]:
    """Every dimer record in `folder` (files *.json) whose two species are known, in a fixed order. One that
    is no step of a scan was cut from a liquid; its key serves as the scan's number.

    Raises:
        StoreError: a record is damaged. FitError: two are the same step of a scan.
    """
    names = {s.mapped_smiles: s.name for s in species.values()}
    points: list[DimerPoint] = []
    steps: dict[tuple[str, int], Path] = {}
    for path in sorted(folder.glob("*.json")):
        content = read_record(path)
        spec, record = content["spec"], content["record"]
        sides = (spec["first"], spec["second"])
        if all(side["smiles"] in names for side in sides):
            pair = (names[sides[0]["smiles"]], names[sides[1]["smiles"]])
            xyz = tuple(np.array(side["xyz_angstrom"]) * 0.1 for side in sides)
            components = {
                k: record[k] for k in ("electrostatics", "exchange", "induction", "dispersion", "total")
            }
            scan = "+".join(pair) + (f"#{spec['scan']}" if "scan" in spec else liquid_scan(path))
            other = steps.setdefault((scan, spec["step"]), path) if "step" in spec else path
            if other != path:
                raise FitError(
                    f"{path} and {other.name} are the same step of {scan}, chosen twice. Take the records of "
                    "one choice away."
                )
            points.append(DimerPoint(pair, (xyz[0], xyz[1]), components, scan))
    return points


def train(
    points: Sequence[DimerPoint],
    species: Mapping[str, SpeciesParameters],
    level: LevelOfTheory,
    say: Callable[[str], None] = print,
    earlier: ShortRange | None = None,
) -> ShortRange:
    """Fit the class model; the size of bare cations in the damping formulas is chosen by the induction error.
    What an earlier model has of molecules and of damping stays as it is.

    Raises:
        FitError: there are no points.
    """
    if not points:
        raise FitError("There are no dimer records to train on; run 'phyff train' without --fit-only first.")
    provenance = {
        "level_of_theory": level.to_dict(),
        "command": "phyff train",
        "date": datetime.now(UTC).date().isoformat(),
        "pairs": sorted({p.pair for p in points}),
    }
    cations = sorted({p for point in points for p in point.names if species[p].is_bare_cation})
    widths = fit_dispersion_widths(points, species)
    alphas: dict[str, float] = {}
    attracting: list[str] = []
    if earlier:
        widths.update(earlier.dispersion_widths)
        alphas.update(earlier.damping_alpha)
        attracting += attracting_cations(earlier, list(species.values()))
        cations = [name for name in cations if species[name].elements[0] not in alphas]
    say(
        "dispersion damping: "
        + ", ".join(f"{e} {w:.3f}" for e, w in widths.items())
        + " of the MBIS exponents"
    )
    for cation in cations:
        own = [p for p in points if cation in p.names and min(species[n].charge for n in p.names) <= 0]
        if not own:
            continue
        partners = {n: species[n] for p in own for n in p.names}
        errors = {}
        for attracts, alpha in product((False, True), CATION_DAMPING_ALPHAS):
            sizes = {**alphas, species[cation].elements[0]: alpha}
            also = [cation] if attracts else []
            model = fit_short_range(
                partners, own, START_DAMPING, sizes, widths, provenance, also, trial=False, tolerance=COARSE
            )
            errors[alpha, attracts] = _induction_error(model)
            say(
                f"{cation}: damping size {alpha * 1e3:.3f} A^3, charge transfer that "
                f"{'attracts' if attracts else 'repels'}: induction rms {errors[alpha, attracts]:.2f} kJ/mol"
            )
        enough = SIZE_TOLERANCE * min(errors.values())
        best, attracts = min(choice for choice in errors if errors[choice] <= enough)
        alphas[species[cation].elements[0]] = best
        attracting += [cation] if attracts else []
    model = fit_short_range(
        species, points, START_DAMPING, alphas, widths, provenance, attracting, held=earlier
    )
    kept = earlier.multipole_damping_alpha if earlier else {}
    of_new = [p for p in points if not any(species[n].elements[0] in kept for n in p.names)]
    sizes = {**cation_sizes(of_new, species, model, say), **kept}
    model = model.model_copy(update={"multipole_damping_alpha": sizes})
    say("multipole engine: induction at contact with bare cations, against the drude engine's")
    return model.model_copy(
        update={"multipole_contacts": contact_shares(points, list(species.values()), model)}
    )


def _alike(species: SpeciesParameters, one: ShortRange, other: ShortRange) -> bool:
    """Whether two models say the same of a species inside itself, where its valence terms were fitted."""
    first, second = (species_tensors(species, model) for model in (one, other))
    names = ("amplitudes", "exponents", "attraction_exponents", "damping_exponents")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def _induction_error(model: ShortRange) -> float:
    report = model.quality["in_sample"].values()
    square = sum(r["bound_points"] * r["induction_rms"] ** 2 for r in report if r["bound_points"])
    return float(np.sqrt(square / max(sum(r["bound_points"] for r in report), 1.0)))
