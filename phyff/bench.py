"""Benchmark suites: formulations with measured values, simulated and judged. Nothing here enters a fit.

A suite is benchmarks/suites/NAME.yaml; its results are benchmarks/results/NAME.json (one row a
system, property and simulation), with a table and a parity plot beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from phyff import md
from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.formulation import Formulation
from phyff.measurements import Measurement, Suite
from phyff.openmm.platforms import processor
from phyff.properties import Study, study
from phyff.report.parity import save_parity
from phyff.side_by_side import room, simulate_side_by_side
from phyff.simulation import command_line, prepare

AT_CONSTANT_PRESSURE = ("density", "compressibility", "thermal_expansion")
"""Properties that a run has which ends with its density."""


def run_suite(
    name: str,
    suite: Suite,
    only: Sequence[str],
    runs: Path,
    results: Path,
    platform: str | None,
    at_once: int | None,
    say: Callable[[str], None],
    neural: bool = False,
    longer: float = 1.0,
) -> list[dict[str, Any]]:
    """Simulate the systems of a suite (all, or those in `only`), and write the rows of each when it is done.

    runs: one folder a system; a killed suite goes on there. at_once: systems side by side, None for one a
    core. neural: with the library's neural term. longer: see md.Settings.longer.
    Returns the newest rows of results/NAME.json.
    Raises InputError for a system the suite does not have, or a preset without the suite's properties, and
    SimulationError, after the others are finished, when some fail.
    """
    missing = set(only) - {row.system for row in suite.rows}
    if missing:
        raise InputError(
            f"only: {', '.join(sorted(missing))} is not in the suite; "
            f"choose from {', '.join(row.system for row in suite.rows)}."
        )
    _refuse_without_transport(suite, only)
    path = results / f"{name}.json"
    systems: dict[str, list[Measurement]] = {}
    for measured in suite.rows:
        if not only or measured.system in only:
            systems.setdefault(measured.system, []).append(measured)
    formulations = [measured[0].formulation() for measured in systems.values()]
    simulations = [
        prepare(
            formulation,
            suite.preset,
            runs / system,
            platform,
            say,
            neural=neural,
            flow_ps=suite.flow_ps if any(row.property == "viscosity" for row in systems[system]) else 0.0,
            longer=longer,
        )
        for system, formulation in zip(systems, formulations, strict=True)
    ]
    results.mkdir(parents=True, exist_ok=True)
    with closing(simulate_side_by_side(simulations, at_once or room(len(simulations)))) as finished:
        for number in finished:
            system = simulations[number].run_dir
            found = study(system)
            for measured in systems[system.name]:
                length = suite.preset if longer == 1.0 else f"{suite.preset}, {longer:g} times as long"
                row = _row(measured, formulations[number], found, length)
                rows = [old for old in _read(path) if not _same(old, row)] + [row]
                _write(path, rows)
                said = f"{_simulated(row)} {row['unit']} ({row['verdict']})"
                say(f"{row['system']}: {said}, experiment {row['experiment']:g}")
    return newest(_read(path))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """All rows, and beside them table and plot of the newest: a suite that is stopped leaves all alike."""
    write_atomically(path, json.dumps(rows, indent=1) + "\n")
    write_atomically(path.with_suffix(".md"), table(newest(rows)))
    save_parity(newest(rows), path.with_suffix(".png"))


def _refuse_without_transport(suite: Suite, only: Sequence[str]) -> None:
    """InputError, before anything is simulated, when the preset ends before what a row needs."""
    for row in suite.rows:
        if row.property in AT_CONSTANT_PRESSURE or (only and row.system not in only):
            continue
        if not any(stage.trajectory for stage in md.preset(suite.preset).stages):
            raise InputError(
                f"preset: a run with preset '{suite.preset}' ends with the density and gives no "
                f"{row.property} of {row.system}; choose another with --preset."
            )


def newest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last row of every system, temperature and property; earlier force fields have theirs before it."""
    return list({(row["system"], row["temperature_K"], row["property"]): row for row in rows}.values())


def scores(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean absolute error, mean absolute percentage error, bias, rank correlation, and how many converged."""
    known = [row for row in rows if row["value"] is not None]
    value = np.array([row["value"] for row in known], dtype=float)
    experiment = np.array([row["experiment"] for row in known], dtype=float)
    if not known:
        return {"rows": float(len(rows)), "converged": 0.0}
    miss = value - experiment
    found = {
        "rows": float(len(rows)),
        "converged": float(sum(row["verdict"] == "converged" for row in rows)),
        "mean_absolute_error": float(np.abs(miss).mean()),
        "mean_absolute_percentage_error": float(100 * np.abs(miss / experiment).mean()),
        "bias": float(miss.mean()),
    }
    if len(known) > 2:
        found["rank_correlation"] = float(spearmanr(value, experiment).statistic)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: every row beside experiment, then the scores."""
    header = (
        "system | T (K) | property | preset | simulated | experiment | deviation | verdict | source | date"
    )
    lines = [f"| {header} |", "|---" * 10 + "|"]
    for row in rows:
        off = "-" if row["value"] is None else f"{100 * (row['value'] / row['experiment'] - 1):+.1f} %"
        lines.append(
            f"| {row['system']} | {row['temperature_K']:g} | {row['property']} ({row['unit']}) "
            f"| {row['preset']} | {_simulated(row)} | {row['experiment']:g} | {off} "
            f"| {row['verdict']} | {row['source']} | {row['date']} |"
        )
    lines += ["", *(f"- {name.replace('_', ' ')}: {value:.3g}" for name, value in scores(rows).items())]
    return "\n".join(lines) + "\n"


def _simulated(row: dict[str, Any]) -> str:
    return "-" if row["value"] is None else f"{row['value']:.4g} ± {row['error'] or float('nan'):.2g}"


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return rows


def _row(measured: Measurement, formulation: Formulation, result: Study, preset: str) -> dict[str, Any]:
    found = result.properties.get(measured.property)
    if found is None:
        raise InputError(
            f"{measured.system}: a run with preset '{preset}' gives no {measured.property}; "
            "choose another with --preset."
        )
    content = found.to_json()
    return {
        "system": measured.system,
        "temperature_K": formulation.temperature_K,
        "property": measured.property,
        "value": content["value"],
        "error": content["error"],
        "unit": content["unit"],
        "experiment": measured.experiment,
        "source": measured.source,
        "verdict": content["verdict"],
        "command": command_line(),
        "date": datetime.now(UTC).date().isoformat(),
        "preset": preset,
        "machine": processor(),
        "force_field": result.run.settings["inputs"]["forcefield_sha256"][:12],
    }


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    keys = ("system", "temperature_K", "property", "preset", "force_field")
    return all(old.get(key) == new[key] for key in keys)
