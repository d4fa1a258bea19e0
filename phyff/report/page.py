"""One HTML page a run: values with errors and verdicts beside measured ones, plots with their data,
composition, provenance, quality, warnings."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from phyff.files import write_atomically
from phyff.properties import Study, study
from phyff.report import tables
from phyff.report.plots import Plot, plots

TEMPLATE = "page.html"


def write_report(run_dir: str | Path, result: Study | None = None) -> Path:
    """Write report.html into a directory in one piece, of a finished study or else of that run directory.

    Returns the file's path.
    """
    return write_atomically(Path(run_dir) / "report.html", render(result or study(run_dir)))


def render(result: Study) -> str:
    """The page as text; everything is inside it, nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("phyff.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    run = result.run
    composition_header, composition_rows = tables.composition(result)
    return environment.get_template(TEMPLATE).render(
        name=run.name,
        temperature=f"{run.temperature:g}",
        pressure=f"{run.pressure:g}",
        n_molecules=sum(s.count for s in run.species),
        n_atoms=sum(s.count * s.n_atoms for s in run.species),
        headline=tables.headline(result.properties, result.measured),
        has_measured=any(name in result.properties for name in result.measured),
        plots=[_figure(plot) for plot in plots(result)],
        composition_header=composition_header,
        composition_rows=composition_rows,
        provenance=tables.provenance(result),
        species=tables.species_quality(run.directory),
        warnings=result.warnings,
    )


def _figure(plot: Plot) -> dict[str, Any]:
    """A plot as the template shows it, its numbers in a data link that needs no other file."""
    data = base64.b64encode(plot.csv.encode()).decode()
    return {
        "title": plot.title,
        "caption": plot.caption,
        "svg": Markup(plot.svg),
        "file": plot.file,
        "link": f"data:text/csv;base64,{data}",
    }
