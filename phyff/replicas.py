"""Independent replicas of one simulation, and one set of results with errors from all of them.

Values come from what all replicas say together: displacements, currents, distributions and density series are
averaged first and fitted once, because ratios and fits of noisy parts do not average. Errors come from time
blocks and from replicas. The pooled analysis gives the block error b; the values that the n replicas give on
their own scatter with a standard error s. Where (n - 1) (s/b)^2 is beyond what chance does in one case of ten
(chi-square), s replaces b, widened by Student's t for n - 1 degrees of freedom: the interval of independent
means, as in Grossfield et al., Living J. Comp. Mol. Sci. 1, 5067 (2018). Drawn from normal numbers, it holds
the truth in 63 to 71 % of cases for 2 to 8 replicas, whether they differ by nothing or by five times more
than their blocks tell, where b alone falls to 15 % (tests/test_replicas.py).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm  # type: ignore[import-untyped]
from scipy.stats import t as student_t

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.formulation import Formulation
from phyff.md.run_state import lock
from phyff.parallel import on_cluster
from phyff.properties import Property, Study, study_of, unconverged_warning, write_results
from phyff.properties.association import TARGET_FRACTION_ERROR
from phyff.properties.association import TARGET_RELATIVE_ERROR as RESIDENCE_ERROR
from phyff.properties.committee import joined, read_committee
from phyff.properties.density import MIN_INDEPENDENT, SeriesMean
from phyff.properties.density import TARGET_RELATIVE_ERROR as DENSITY_ERROR
from phyff.properties.dielectric import force_field_dipoles
from phyff.properties.displacement import TARGET_RELATIVE_ERROR as TRANSPORT_ERROR
from phyff.properties.result import CONVERGED, duration, lacks_sampling, not_converged
from phyff.properties.structure import EXCHANGES
from phyff.properties.structure import TARGET_ERROR as COORDINATION_ERROR
from phyff.properties.thermodynamics import TARGET_RELATIVE_ERROR as FLUCTUATION_ERROR
from phyff.properties.trajectory import NptSeries, Production, Run, read_npt, read_replicas, read_run
from phyff.properties.transport import TARGET_TRANSFERENCE_ERROR
from phyff.properties.vaporisation import TARGET_RELATIVE_ERROR as VAPORISATION_ERROR
from phyff.report import write_report
from phyff.side_by_side import room, simulate_side_by_side
from phyff.simulation import prepare

Floats = NDArray[np.float64]
MANIFEST = "replicas.json"
CHANCE = 0.9
"""Of the chi-square distribution: replicas that scatter more than that disagree with their blocks."""
DRIFT = 3.0
"""Standard deviations between the halves of a density series that still drifts, as for a single run."""
NO_SERIES = NptSeries(np.empty(0), np.empty(0))
RELATIVE_TARGETS = {
    "density": DENSITY_ERROR,
    "heat_of_vaporisation": VAPORISATION_ERROR,
    "compressibility": FLUCTUATION_ERROR,
    "thermal_expansion": FLUCTUATION_ERROR,
    "residence_time": RESIDENCE_ERROR,
}
"""Beginnings of names whose error is wanted relative to the value; TRANSPORT_ERROR for the others."""
ABSOLUTE_TARGETS = {"transference": TARGET_TRANSFERENCE_ERROR, "fraction": TARGET_FRACTION_ERROR}


def run_replicas(
    formulation: Formulation,
    preset: str,
    replicas: int,
    out: Path,
    platform: str | None,
    say: Callable[[str], None],
    neural: bool = False,
    spread_threshold: float | None = None,
    longer: float = 1.0,
) -> Study:
    """Simulate, or go on simulating, replicas in out/replica-1 and so on, and analyse each and all together.

    They differ in their seeds: packing, velocities, thermostat and barostat. Each gets its share of the
    cores, at least one, and of the GPUs; on a cluster each is a task. results.json and report.html of each
    replica are written into its folder.

    Raises:
        InputError: see check_replicas and phyff.simulation.prepare.
        SimulationError: replicas failed; the others were finished first, the same call goes on.
    """
    check_replicas(out, replicas)
    simulation = prepare(formulation, preset, out, platform, say, neural, spread_threshold, longer=longer)
    folders = replica_folders(out, replicas)
    with lock(out):
        if not (out / MANIFEST).is_file():
            at_once = replicas if on_cluster() else room(replicas)
            write_atomically(
                out / MANIFEST, json.dumps({"replicas": replicas, "at_once": at_once}, indent=1) + "\n"
            )
        simulations = [
            replace(
                simulation,
                run_dir=folder,
                settings=replace(simulation.settings, seed=simulation.settings.seed + number),
            )
            for number, folder in enumerate(folders)
        ]
        for _ in simulate_side_by_side(simulations, room(replicas)):
            pass
        shutil.copyfile(folders[0] / "forcefield.json", out / "forcefield.json")
        together, singles = study_replicas(out)
        for folder, single in zip(folders, singles, strict=True):
            write_results(folder, single)
            write_report(folder, single)
    return together


def check_replicas(out: Path, replicas: int) -> None:
    """Raises InputError when so many replicas make no sense, or `out` holds another number of them."""
    if replicas < 1:
        raise InputError(f"replicas: {replicas} makes no sense; give a whole number from 1 up.")
    if (out / MANIFEST).is_file():
        there = _manifest(out)["replicas"]
        if there != replicas:
            raise InputError(
                f"replicas: {out} holds {there} replicas, not {replicas}; "
                f"give --replicas {there}, or a new --out."
            )
    elif replicas > 1 and (out / "run.json").is_file():
        raise InputError(f"replicas: {out} holds a single run; leave --replicas out, or give a new --out.")


def run_folders(out: Path) -> list[Path]:
    """The run directories in a folder that phyff run has written: those of its replicas, or itself."""
    return replica_folders(out, _manifest(out)["replicas"]) if (out / MANIFEST).is_file() else [out]


def replica_folders(out: Path, replicas: int) -> list[Path]:
    """The run directories of replicas."""
    return [out / f"replica-{number}" for number in range(1, replicas + 1)]


def study_replicas(out: Path) -> tuple[Study, list[Study]]:
    """The study of all finished replicas in a folder together, and that of each; writes nothing."""
    manifest = _manifest(out)
    runs = [read_run(folder) for folder in replica_folders(out, manifest["replicas"])]
    productions = [read_replicas(run) for run in runs]
    dipoles = force_field_dipoles(runs[0])
    watched = [read_committee(run) for run in runs]
    singles = [
        study_of(run, read_npt(run), trajectories, dipoles, False, committee)
        for run, trajectories, committee in zip(runs, productions, watched, strict=True)
    ]
    run = _common_run(out, singles, throughput(runs, manifest["at_once"]))
    every = joined([one for one in watched if one is not None])
    pooled = study_of(run, NO_SERIES, _in_one_box(productions), dipoles, False, every)
    length_ps = min((sum(p.length_ps for p in one) for one in productions), default=0.0)
    properties = combined(pooled, singles, length_ps)
    times, densities = _one_after_the_other(singles)
    warnings = [w for w in pooled.warnings if w not in unconverged_warning(pooled.properties)]
    warnings += [
        *unconverged_warning(properties),
        f"These are {len(runs)} replicas together: times that verdicts ask for are sums over all of them.",
    ]
    together = replace(
        pooled,
        properties=properties,
        npt_times=times,
        npt_densities=densities,
        density_mean=_density_mean(properties["density"], len(times)),
        measured=singles[0].measured,
        warnings=tuple(warnings),
    )
    return together, singles


def throughput(runs: Sequence[Run], at_once: int) -> dict[str, Any]:
    """Simulated ns per day of wall time: of each replica while it shared the machine, and of all at once.

    at_once: how many ran side by side; on a cluster all, if it had room for them.
    """
    stages = [[row for row in run.settings["stages"] if row.get("wall_s")] for run in runs]
    ps = [sum(row["ps"] for row in rows) for rows in stages]
    wall = [sum(row["wall_s"] for row in rows) for rows in stages]
    each = [_short(86.4 * one / seconds) if seconds else 0.0 for one, seconds in zip(ps, wall, strict=True)]
    together = 86.4 * min(at_once, len(runs)) * sum(ps) / sum(wall) if sum(wall) else 0.0
    return {"each_ns_per_day": each, "side_by_side": at_once, "aggregate_ns_per_day": _short(together)}


def combined(pooled: Study, singles: Sequence[Study], length_ps: float) -> dict[str, Property]:
    """Properties of all replicas with errors from blocks and replicas, and verdicts judged on them.

    length_ps: production of the shortest replica. Properties of constant pressure and of driven flows, which
    are not pooled, are averaged by value.
    """
    names = dict.fromkeys(name for one in (*singles, pooled) for name in one.properties)
    means = [(one, one.density_mean) for one in singles]
    drifting = [one for one, mean in means if mean is not None and abs(mean.half_difference) > DRIFT]
    found = {}
    for name in names:
        own = [one.properties[name] for one in singles if name in one.properties]
        values = np.array([p.value for p in own if math.isfinite(p.value)])
        whole = pooled.properties[name] if name in pooled.properties else _mean(own)
        if name == "density" and drifting:
            whole = replace(whole, verdict=drifting[0].properties[name].verdict)
        error = replica_error(whole.error, values)
        details = {
            **whole.details,
            "replica_values": [_short(v) for v in values],
            "error_from": "scatter of the replicas" if error > whole.error else "time blocks",
        }
        found[name] = replace(whole, error=error, details=details)
    return {
        name: replace(p, verdict=_verdict(name, p, found, pooled.run, length_ps, len(singles)))
        for name, p in found.items()
    }


def replica_error(block_error: float, values: Floats) -> float:
    """One-sigma error of a mean from its block error and the values of n replicas; see the module's head."""
    n = len(values)
    if n < 2 or not math.isfinite(block_error):
        return block_error
    scatter = float(values.std(ddof=1)) / math.sqrt(n)
    beyond_chance, widening = _limits(n)
    if (n - 1) * scatter**2 <= beyond_chance * block_error**2:
        return block_error
    return max(block_error, widening * scatter)


@lru_cache
def _limits(n: int) -> tuple[float, float]:
    return float(chi2.ppf(CHANCE, n - 1)), float(student_t.ppf(norm.cdf(1.0), n - 1))


def _mean(own: Sequence[Property]) -> Property:
    """The mean of values, its error from theirs.

    Series that lack nothing but independent samples make a converged mean: their samples add up. What
    another series lacks the mean lacks too.
    """
    value = float(np.mean([p.value for p in own]))
    error = math.sqrt(sum(p.error**2 for p in own)) / len(own)
    samples = [float(p.details.get("independent_samples", 0.0)) for p in own]
    verdicts = [p.verdict for p in own if not p.converged]
    if min(samples) > 0.0 and sum(samples) >= MIN_INDEPENDENT:
        verdicts = [verdict for verdict in verdicts if not lacks_sampling(verdict)]
    details = {
        **own[0].details,
        "independent_samples": sum(samples),
        "method": f"mean of {len(own)} replicas; {own[0].details.get('method', '')}",
    }
    return Property(value, error, own[0].unit, next(iter(verdicts), CONVERGED), details)


def _verdict(
    name: str,
    p: Property,
    properties: Mapping[str, Property],
    run: Run,
    length_ps: float,
    replicas: int,
) -> str:
    """The verdict on a combined property; a no without the scatter of the replicas stays a no."""
    if not p.converged:
        return p.verdict
    wanted = _wanted(name, p, properties, run)
    if p.error > wanted:
        why = f"error {p.error:.2g} from the {p.details['error_from']}, wanted {wanted:.2g}"
        more = math.ceil(replicas * min((p.error / wanted) ** 2, 1e4))
        return not_converged(f"{why}; run {more} replicas, or longer ones")
    stays = _neighbours_stay(name, p, properties, run)
    if stays > length_ps:
        why = f"neighbours stay about {duration(stays)}, each replica is {duration(length_ps)}"
        return not_converged(why, replicas * EXCHANGES * stays)
    return CONVERGED


def _wanted(name: str, p: Property, properties: Mapping[str, Property], run: Run) -> float:
    """The error that a converged property may have, as where it is computed."""
    for start, target in ABSOLUTE_TARGETS.items():
        if name.startswith(start):
            return target
    if name.startswith("coordination"):
        return COORDINATION_ERROR * max(p.value, 1.0)
    ions = [s.name for s in run.ions]
    for pair in ((a, b) for a in ions for b in ions):
        if name == "onsager_{}_{}".format(*pair):
            scale = [properties[f"onsager_{one}_{one}"].value for one in pair]
            return TRANSPORT_ERROR * math.sqrt(abs(scale[0] * scale[1]))
    target = next((t for start, t in RELATIVE_TARGETS.items() if name.startswith(start)), TRANSPORT_ERROR)
    return target * abs(p.value)


def _neighbours_stay(name: str, p: Property, properties: Mapping[str, Property], run: Run) -> float:
    """How long (ps) the neighbours stay that a structural property counts; 0 for others.

    Many replicas, each shorter than that, still show the shells they were packed with.
    """
    if name.startswith("coordination"):
        return float(p.details.get("residence_time_ps") or 0.0)
    if name.startswith("residence_time"):
        return p.value
    if name.startswith("fraction"):
        pairs = [f"residence_time_{a.name}_{b.name}" for a in run.ions for b in run.ions]
        times = [properties[pair].value for pair in pairs if pair in properties]
        return max((time for time in times if math.isfinite(time)), default=0.0)
    return 0.0


def _one_after_the_other(singles: Sequence[Study]) -> tuple[Floats, Floats]:
    """Times (ps) and densities (g/cm3) of all replicas from where each is in equilibrium, for a plot."""
    times, densities, end = [np.empty(0)], [np.empty(0)], 0.0
    for one in singles:
        first = one.density_mean.first if one.density_mean is not None else 0
        own = one.npt_times[first:]
        times.append(own - own[0] + end)
        densities.append(one.npt_densities[first:])
        end = float(times[-1][-1]) + float(np.ptp(own)) / max(1, len(own) - 1)
    return np.concatenate(times), np.concatenate(densities)


def _density_mean(density: Property, rows: int) -> SeriesMean | None:
    """The mean of that plot's rows, as a property has it; None without a value."""
    if not math.isfinite(density.value):
        return None
    independent = float(density.details["independent_samples"])
    return SeriesMean(density.value, density.error, 0, rows / independent, independent, 0.0)


def _in_one_box(productions: Sequence[Sequence[Production]]) -> list[Production]:
    """All trajectories in a box of the mean volume.

    Replicas have the edges of their own mean densities, which differ by tenths of a per cent. Snapshots are
    scaled, so that distances across the border stay right; displacements stay as they are.
    """
    every = [production for one in productions for production in one]
    if not every:
        return []
    edge = float(np.cbrt(np.mean([production.box_nm**3 for production in every])))
    return [
        replace(
            production, snapshots=production.snapshots * np.float32(edge / production.box_nm), box_nm=edge
        )
        for production in every
    ]


def _common_run(out: Path, singles: Sequence[Study], speed: Mapping[str, Any]) -> Run:
    """What all replicas share: settings and species of the first, the warnings of all, their seeds, and the
    mean of viscosities from driven flows, for the finite-size correction."""
    runs = [one.run for one in singles]
    settings = dict(runs[0].settings)
    driven = [one.properties["viscosity"] for one in singles if "viscosity" in one.properties]
    if driven and math.isfinite(_mean(driven).value):
        settings |= {"viscosity_cP": _mean(driven).value, "viscosity_error_cP": _mean(driven).error}
    told = [[str(warning) for warning in run.settings.get("warnings", [])] for run in runs]
    shared = [warning for warning in told[0] if all(warning in own for own in told)]
    settings["warnings"] = shared + [
        f"{run.directory.name}: {warning}"
        for run, own in zip(runs, told, strict=True)
        for warning in own
        if warning not in shared
    ]
    seeds = [run.settings.get("settings", {}).get("seed") for run in runs]
    settings["provenance"] = {
        **settings.get("provenance", {}),
        "replicas": {"number": len(runs), "seeds": seeds, **speed},
    }
    return Run(out, settings, runs[0].species)


def _manifest(out: Path) -> dict[str, int]:
    path = out / MANIFEST
    try:
        content = json.loads(path.read_text())
        return {name: int(content[name]) for name in ("replicas", "at_once")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a new --out.") from error


def _short(number: float) -> float:
    """Four significant digits."""
    return float(f"{number:.4g}")
