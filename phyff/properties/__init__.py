"""Density, transport and structure of a finished run, each with an error and a verdict.

`analyse` returns what results.json holds, `write_results` writes it, `study` also keeps the curves for plots.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyff.properties.density import SeriesMean, density
from phyff.properties.result import Property
from phyff.properties.structure import RadialDistribution, structure
from phyff.properties.trajectory import Run, read_npt, read_production, read_run
from phyff.properties.transport import MeanSquareDisplacement, transport

__all__ = ["Property", "Study", "analyse", "study", "write_results"]


@dataclass(frozen=True)
class Study:
    """What a report shows: properties, the series and curves behind them, warnings in plain words."""

    run: Run
    properties: dict[str, Property]
    npt_times: NDArray[np.float64]
    npt_densities: NDArray[np.float64]
    density_mean: SeriesMean | None
    displacements: tuple[MeanSquareDisplacement, ...]
    collective: MeanSquareDisplacement | None
    distributions: tuple[RadialDistribution, ...]
    warnings: tuple[str, ...]

    def results(self) -> dict[str, Any]:
        """The content of results.json; how each number was made and the warnings stand in its provenance."""
        provenance = dict(self.run.settings.get("provenance", {}))
        provenance["analysis"] = {name: dict(p.details) for name, p in self.properties.items() if p.details}
        provenance["warnings"] = list(self.warnings)
        return {
            "name": self.run.name,
            "composition": [{"smiles": s.smiles, "count": s.count} for s in self.run.species],
            "temperature_K": self.run.temperature,
            "pressure_bar": self.run.pressure,
            "properties": {name: p.to_json() for name, p in self.properties.items()},
            "provenance": provenance,
        }


def study(run_dir: str | Path) -> Study:
    """Compute every property a run directory has data for; writes nothing."""
    run = read_run(run_dir)
    times, densities = read_npt(run)
    density_property, density_mean = density(times, densities)
    properties = {"density": density_property}
    displacements: tuple[MeanSquareDisplacement, ...] = ()
    distributions: tuple[RadialDistribution, ...] = ()
    collective = None
    warnings = [str(warning) for warning in run.settings.get("warnings", [])]
    if run.has_production:
        production = read_production(run)
        moving = transport(run, production)
        coordination, distributions = structure(run, production)
        properties |= dict(moving.properties) | coordination
        displacements, collective = moving.self_displacements, moving.collective
    else:
        warnings.append(
            "There is no production trajectory (nvt.dcd), so only the density is reported: "
            "conductivity, diffusion and coordination were not computed."
        )
    unconverged = [name for name, p in properties.items() if not p.converged]
    if unconverged:
        warnings.append(
            f"{len(unconverged)} of {len(properties)} properties are not converged; "
            "their verdicts say why and how much longer a run would have to be."
        )
    return Study(
        run=run,
        properties=properties,
        npt_times=times,
        npt_densities=densities,
        density_mean=density_mean,
        displacements=displacements,
        collective=collective,
        distributions=distributions,
        warnings=tuple(warnings),
    )


def analyse(run_dir: str | Path) -> dict[str, Any]:
    """The content of results.json for a run directory; writes nothing."""
    return study(run_dir).results()


def write_results(run_dir: str | Path) -> Path:
    """Analyse a run directory and write its results.json in one piece; returns the file's path."""
    path = Path(run_dir) / "results.json"
    partial = path.with_suffix(".json.part")
    partial.write_text(json.dumps(analyse(run_dir), indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)
    return path
