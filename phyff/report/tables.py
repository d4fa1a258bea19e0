"""The report's tables as text cells: values with honest digits, composition, provenance, species quality."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phyff.errors import InputError
from phyff.measurements import Measured
from phyff.properties import Property, Study
from phyff.properties.result import duration

LABELS = {
    "density": "Density",
    "viscosity": "Viscosity",
    "compressibility": "Isothermal compressibility",
    "thermal_expansion": "Thermal expansion",
    "heat_of_vaporisation": "Heat of vaporisation",
    "dielectric_constant": "Static dielectric constant",
    "conductivity": "Conductivity (Einstein-Helfand)",
    "conductivity_green_kubo": "Conductivity (Green-Kubo)",
    "conductivity_nernst_einstein": "Conductivity (Nernst-Einstein)",
    "conductivity_field": "Conductivity (drift in an electric field)",
    "ionicity": "Ionicity",
    "salt_diffusion": "Salt diffusion, thermodynamic factor 1",
    "fraction_free_ions": "Cations that are free",
    "fraction_contact_pairs": "Cations in contact pairs",
    "fraction_aggregates": "Cations in aggregates",
}
UNITS = {"g/cm3": "g/cm³", "1e-9 m2/s": "10⁻⁹ m²/s"}
"""Units that print differently from how results.json spells them."""
TOPICS = {
    "Liquid": ("density", "compressibility", "thermal_expansion", "heat", "dielectric", "viscosity"),
    "Charge transport": ("conductivity", "ionicity", "transference", "salt_diffusion", "onsager"),
    "Diffusion": ("self_diffusion",),
    "Structure": ("coordination", "fraction", "residence", "conformer"),
}
"""Title: how the names of its properties begin, in the order of the page."""
NOTABLE_DIFFERENCE = 0.02
"""Relative difference in a mole fraction from which on the page tells it beside a measured value."""
Table = list[list[str]]


def label(name: str) -> str:
    """A property's name as a reader says it."""
    if name in LABELS:
        return LABELS[name]
    if name.startswith("self_diffusion_"):
        species = name.removeprefix("self_diffusion_")
        if species.endswith("_box"):
            return f"Self-diffusion of {species.removesuffix('_box')} in the simulated box"
        return f"Self-diffusion of {species}"
    if name.startswith("transference_"):
        cation = name.removeprefix("transference_").removesuffix("_solvent_frame")
        frame = "relative to the solvent" if name.endswith("_solvent_frame") else "barycentric"
        return f"Transference number of {cation}, {frame}"
    if name.startswith("onsager_"):
        return f"Onsager coefficient {name.removeprefix('onsager_').replace('_', ', ')}"
    if name.startswith("residence_time_"):
        cation, _, partner = name.removeprefix("residence_time_").partition("_")
        return f"Residence time of {partner} at {cation}"
    if name.startswith("conformer_lifetime_"):
        return f"Lifetime of conformers of {name.removeprefix('conformer_lifetime_')}"
    if name.startswith("coordination_"):
        cation, _, partner = name.removeprefix("coordination_").partition("_")
        return f"{partner.replace('carbonyl_O', 'carbonyl O')} around {cation}"
    return name.replace("_", " ")


def with_error(value: float, error: float) -> str:
    """'1.287 ± 0.004': the error to two significant digits below 3, one above, and the value to match."""
    if not math.isfinite(value):
        return "—"
    if not math.isfinite(error) or error <= 1e-12 * abs(value):  # equal numbers leave a rounding error
        return f"{value:.4g}"
    exponent = math.floor(math.log10(error))
    digits = max(0, -exponent + (1 if error / 10.0**exponent < 2.95 else 0))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def headline(
    properties: Mapping[str, Property], known: Mapping[str, Measured]
) -> list[tuple[str, list[dict[str, Any]]]]:
    """By topic, one row a property: label, value, unit, verdict, converged, note, and the measured value of
    the same formulation or None."""
    topics = []
    for title, beginnings in TOPICS.items():
        names = [n for beginning in beginnings for n in properties if n.startswith(beginning)]
        if names:
            topics.append((title, [_row(name, properties[name], known.get(name)) for name in names]))
    return topics


def _row(name: str, p: Property, known: Measured | None) -> dict[str, Any]:
    return {
        "label": label(name),
        "value": with_error(p.value, p.error),
        "unit": UNITS.get(p.unit, p.unit),
        "verdict": p.verdict,
        "converged": p.converged,
        "note": note(p.details),
        "measured": None if known is None else measured(p, known),
    }


def measured(p: Property, known: Measured) -> dict[str, str]:
    """A measured value beside a simulated one: deviation, source, and how far the compositions differ."""
    parts = [known.source]
    if math.isfinite(p.value):
        parts.insert(0, f"simulated {100.0 * (p.value / known.value - 1.0):+.1f} %")
    if abs(known.difference) >= NOTABLE_DIFFERENCE:
        more = "more" if known.difference > 0.0 else "less"
        parts.append(f"the box holds {100.0 * abs(known.difference):.0f} % {more} {known.species}")
    return {"value": f"{known.value:g}", "note": "; ".join(parts)}


def note(details: Mapping[str, Any]) -> str:
    """How a number came about, in one line."""
    parts = []
    if "window_ps" in details:
        first, last = details["window_ps"]
        parts.append(f"window {first:.3g}–{last:.3g} ps")
    if "independent_samples" in details:
        parts.append(f"{details['independent_samples']:.0f} independent samples")
    if "shell_nm" in details:
        parts.append(f"first shell ends at {details['shell_nm']:.3f} nm")
    if details.get("residence_time_ps"):
        parts.append(f"neighbours stay about {duration(details['residence_time_ps'])}")
    if "rotatable_bonds" in details:
        parts.append(str(details["rotatable_bonds"]))
    if "finite_size_correction" in details:
        parts.append(
            f"{details['in_box']:.3g} in the box plus {details['finite_size_correction']:.2g} for its size "
            f"(Yeh-Hummer); viscosity {details['viscosity_cP']:.2g} cP, {details['viscosity_source']}"
        )
    elif "method" in details:
        parts.append(str(details["method"]))
    if "statistical_error" in details:
        parts.append(
            f"the fit's error is {details['statistical_error']:.2g}, but Einstein-Helfand is "
            "farther away and the ions do not diffuse yet"
        )
    if details.get("error_from") == "scatter of the replicas":
        parts.append(f"error from the scatter of {len(details['replica_values'])} replicas")
    return "; ".join(parts)


def composition(study: Study) -> tuple[list[str], Table]:
    """Header and rows: what was asked for and what the box holds (run.json's composition_report if there)."""
    report = study.run.settings.get("composition_report")
    if isinstance(report, list) and report and all(isinstance(row, Mapping) for row in report):
        header = list(dict.fromkeys(key for row in report for key in row))
        return [text(key) for key in header], [[cell(row.get(key)) for key in header] for row in report]
    rows = [[s.name, s.smiles, str(s.count), f"{s.charge:+d}"] for s in study.run.species]
    return ["species", "SMILES", "molecules", "charge"], rows


def provenance(study: Study) -> Table:
    """Where the numbers come from: name and value, nested names joined."""
    settings = study.run.settings
    rows = [["preset", cell(settings["preset"])]] if "preset" in settings else []
    return rows + flatten(settings.get("provenance", {}))


def species_quality(run_dir: Path) -> list[dict[str, Any]]:
    """Name, quality and provenance of every species in forcefield.json; empty when the file is not there."""
    path = run_dir / "forcefield.json"
    if not path.is_file():
        return []
    try:
        species = json.loads(path.read_text())["species"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a PhyFF force field: it has no readable 'species'.") from error
    members: Sequence[Any] = list(species.values()) if isinstance(species, Mapping) else species
    return [
        {
            "name": member.get("name", "?"),
            "smiles": member.get("smiles", ""),
            "quality": flatten(member.get("quality") or {}),
            "provenance": flatten(member.get("provenance") or {}),
        }
        for member in members
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Table:
    """Rows of a nested dict: 'outer, inner' and the value."""
    rows: Table = []
    for key, value in tree.items():
        name = f"{prefix}, {text(key)}" if prefix else text(key)
        if isinstance(value, Mapping):
            rows.extend(flatten(value, name))
        else:
            rows.append([name, cell(value)])
    return rows


def cell(value: Any) -> str:
    """A table cell: four significant digits for numbers, lists joined, a dash for nothing."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{text(key)} {cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return str(value)


def text(key: Any) -> str:
    """A field's name as words."""
    return str(key).replace("_", " ")
