"""Density, transport, structure and thermodynamics of a finished run, each with an error and a verdict.

`analyse` returns what results.json holds, `write_results` writes it, `study` also keeps the curves for plots,
and `study_of` does the same for trajectories that are already in memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyff.files import write_atomically
from phyff.measurements import Liquid, Measured, measured_values
from phyff.properties.association import association
from phyff.properties.committee import CommitteeSpread, read_committee
from phyff.properties.conformers import conformer_lifetimes, not_of_the_liquid, still
from phyff.properties.density import SeriesMean, density
from phyff.properties.dielectric import Dipole, dielectric, force_field_dipoles
from phyff.properties.displacement import MIN_FRAMES, MeanSquareDisplacement
from phyff.properties.drift import field_conductivity
from phyff.properties.green_kubo import CurrentSpectrum
from phyff.properties.response import LinearResponse
from phyff.properties.result import Property
from phyff.properties.scattering import StructureFactor, structure_factor
from phyff.properties.structure import RadialDistribution, structure
from phyff.properties.thermodynamics import thermodynamics
from phyff.properties.trajectory import NptSeries, Production, Run, read_npt, read_replicas, read_run
from phyff.properties.transport import transport
from phyff.properties.vaporisation import vaporisation
from phyff.properties.viscosity import viscosity
from phyff.units import AMU_NM3_TO_G_CM3

__all__ = ["Property", "Study", "analyse", "study", "study_of", "unconverged_warning", "write_results"]


@dataclass(frozen=True)
class Study:
    """What a report shows: properties, the series and curves behind them, warnings in plain words, and what
    has been measured of the same formulation."""

    run: Run
    properties: dict[str, Property]
    npt_times: NDArray[np.float64]
    npt_densities: NDArray[np.float64]
    density_mean: SeriesMean | None
    warnings: tuple[str, ...]
    displacements: tuple[MeanSquareDisplacement, ...] = ()
    collective: MeanSquareDisplacement | None = None
    current: CurrentSpectrum | None = None
    distributions: tuple[RadialDistribution, ...] = ()
    scattering: StructureFactor | None = None
    flow: LinearResponse | None = None
    drift: LinearResponse | None = None
    measured: Mapping[str, Measured] = field(default_factory=dict)
    committee: CommitteeSpread | None = None

    def results(self) -> dict[str, Any]:
        """The content of results.json; in its provenance stand how each number was made, measured values of
        the same formulation, how sure the neural term was, and the warnings."""
        provenance = dict(self.run.settings.get("provenance", {}))
        provenance["analysis"] = {name: dict(p.details) for name, p in self.properties.items() if p.details}
        provenance["measured"] = {n: m.to_json() for n, m in self.measured.items() if n in self.properties}
        if self.committee is not None:
            provenance["committee"] = self.committee.to_json()
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
    dipoles = force_field_dipoles(run)
    return study_of(run, read_npt(run), read_replicas(run), dipoles, False, read_committee(run))


def study_of(
    run: Run,
    npt: NptSeries,
    replicas: Sequence[Production],
    dipoles: Mapping[str, Dipole],
    induced: bool,
    committee: CommitteeSpread | None = None,
) -> Study:
    """Compute every property of a constant-pressure series (may be empty) and constant-volume trajectories.

    dipoles, induced: see phyff.properties.dielectric. committee: how sure a neural term was.
    """
    properties: dict[str, Property] = {}
    density_mean = None
    if len(npt.times):
        properties["density"], density_mean = density(npt.times, npt.densities)
        properties |= thermodynamics(npt, density_mean, run.temperature, run.pressure)
        properties |= vaporisation(run, npt, density_mean)
    computed, flow = viscosity(run)
    if computed is not None:
        properties["viscosity"] = computed
    result = Study(
        run, properties, npt.times, npt.densities, density_mean, (), flow=flow, committee=committee
    )
    warnings = [str(warning) for warning in run.settings.get("warnings", [])]
    if committee is not None and committee.above:
        warnings.append(committee.sentence(run.directory))
    short = sum(len(production.centres) < MIN_FRAMES for production in replicas)
    if 0 < short < len(replicas):
        warnings.append(
            f"{short} of {len(replicas)} production trajectories have fewer than {MIN_FRAMES} frames; "
            "transport leaves them out."
        )
    if replicas:
        moving = transport(run, replicas, computed)
        coordination, distributions = structure(run, replicas)
        lifetimes = conformer_lifetimes(run, replicas)
        lowered = run.settings.get("lowered_barriers", {})
        packed = [name for name in still(lifetimes) if name not in lowered]
        drawn = [name for name in still(lifetimes) if name in lowered]
        properties |= {
            **moving.properties,
            **coordination,
            **association(run, replicas),
            **dielectric(run, replicas, dipoles, induced, not_of_the_liquid(packed, drawn, len(replicas))),
            **lifetimes,
        }
        warnings += _packed_warning(packed)
        result = replace(
            result,
            displacements=moving.self_displacements,
            collective=moving.collective,
            current=moving.current,
            distributions=distributions,
            scattering=structure_factor(run, replicas),
        )
    else:
        warnings.append(
            "There is no production trajectory (nvt.dcd), so only what the density stage tells is reported: "
            "conductivity, diffusion and coordination were not computed."
        )
    driven, drift = field_conductivity(run, properties.get("conductivity"))
    if driven is not None:
        properties["conductivity_field"] = driven
    warnings += unconverged_warning(properties)
    measured = _measured(run, density_mean, replicas)
    return replace(result, drift=drift, warnings=tuple(warnings), measured=measured)


def _packed_warning(names: Sequence[str]) -> list[str]:
    """The sentence about species that keep the conformers they were packed with; none without any."""
    if not names:
        return []
    return [
        f"Conformers of {', '.join(names)} do not come to equilibrium in so short a run: most molecules keep "
        "the one they were packed with, drawn as in a gas. What depends on that mixture has an error that no "
        "error bar holds."
    ]


def _measured(
    run: Run, density_mean: SeriesMean | None, replicas: Sequence[Production]
) -> dict[str, Measured]:
    """Measured values of the same formulation, at the mean volume of constant pressure where there is one."""
    if density_mean is not None:
        mass = sum(s.count * float(s.masses.sum()) for s in run.species)
        volume = mass * AMU_NM3_TO_G_CM3 / density_mean.mean
    elif replicas:
        volume = replicas[0].box_nm ** 3
    else:
        return {}
    counts = {s.smiles: s.count for s in run.species}
    return measured_values(Liquid(counts, volume, run.temperature, run.pressure))


def unconverged_warning(properties: Mapping[str, Property]) -> list[str]:
    """The sentence that says how many properties are not converged; none when all are."""
    unconverged = [name for name, p in properties.items() if not p.converged]
    if not unconverged:
        return []
    return [
        f"{len(unconverged)} of {len(properties)} properties are not converged; "
        "their verdicts say why and how much longer a run would have to be."
    ]


def analyse(run_dir: str | Path) -> dict[str, Any]:
    """The content of results.json for a run directory; writes nothing."""
    return study(run_dir).results()


def write_results(run_dir: str | Path, result: Study | None = None) -> Path:
    """Write results.json into a directory in one piece, of a finished study or else of that run directory.

    Returns the file's path.
    """
    content = (result or study(run_dir)).results()
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return write_atomically(Path(run_dir) / "results.json", text)
