"""The plots of a report, drawn with matplotlib and embedded as SVG, and the one figure for a README."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phyff.properties import Study, study
from phyff.properties.committee import CommitteeSpread
from phyff.properties.displacement import MeanSquareDisplacement
from phyff.properties.green_kubo import CurrentSpectrum
from phyff.properties.response import LinearResponse
from phyff.properties.scattering import StructureFactor
from phyff.properties.structure import RadialDistribution
from phyff.report.tables import with_error

COLOURS = ("#1f5f8b", "#d1662b", "#3c8d5a", "#8a4f9e", "#b03a48", "#6b6b6b", "#c29a1b", "#2aa3a3")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a0",
    "axes.labelcolor": "#2b333b",
    "xtick.color": "#5a646e",
    "ytick.color": "#5a646e",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "phyff",
}
Data = TypeVar("Data")


@dataclass(frozen=True)
class Plot:
    """One plot of the page: what it says, how it is drawn, and the numbers in it under a file name."""

    title: str
    caption: str
    file: str
    columns: Mapping[str, NDArray[np.float64]]
    draw: Callable[[Axes], None]

    @property
    def svg(self) -> str:
        """An <svg> element for a page, text as outlines, ids its own."""
        return svg(self.draw, self.file.removesuffix(".csv"))

    @property
    def csv(self) -> str:
        """The columns as text, seven digits."""
        rows = np.stack(list(self.columns.values()), axis=1)
        lines = [",".join(f"{number:.7g}" for number in row) for row in rows]
        return "\n".join([",".join(self.columns), *lines]) + "\n"


def plots(result: Study) -> list[Plot]:
    """Every plot the data allows."""
    return [
        *_given(result if len(result.npt_times) > 1 else None, _density_plot),
        *_given(result.committee, partial(_committee_plot, directory=result.run.directory)),
        *_given(result.displacements or None, _displacements_plot),
        *_given(result.collective, _collective_plot),
        *_given(result.current, _current_plot),
        *_given(result.flow, _flow_plot),
        *_given(result.drift, _drift_plot),
        *(_distribution_plot(curve) for curve in result.distributions),
        *_given(result.scattering, _scattering_plot),
    ]


def _given(data: Data | None, plot: Callable[[Data], Plot]) -> list[Plot]:
    return [] if data is None else [plot(data)]


def _density_plot(result: Study) -> Plot:
    return Plot(
        "Density",
        "Constant-pressure stage. The shaded part is what the mean is taken over; the band is one standard "
        "error.",
        "density.csv",
        {"time_ps": result.npt_times, "density_g_cm3": result.npt_densities},
        partial(draw_density, result=result),
    )


def _committee_plot(spread: CommitteeSpread, directory: Path) -> Plot:
    return Plot(
        "Disagreement of the neural networks",
        "Largest spread of the force on an atom over the committee of the neural term, stages one after the "
        f"other; above the dotted line a molecule is uncertain. {spread.sentence(directory)}",
        "committee-spread.csv",
        {
            "time_ps": spread.times,
            "energy_spread_kJ_mol": spread.energies,
            "force_spread_kJ_mol_nm": spread.forces,
        },
        partial(draw_committee, spread=spread),
    )


def _displacements_plot(curves: Sequence[MeanSquareDisplacement]) -> Plot:
    return Plot(
        "Mean square displacement",
        "Molecular centres of mass. The thick part is the fit window, the dashed line the fit; "
        "diffusion is a slope of 1 on these axes.",
        "displacement.csv",
        {"lag_ps": curves[0].lags} | {f"{curve.label}_nm2": curve.msd for curve in curves},
        partial(draw_displacements, curves=curves),
    )


def _collective_plot(curve: MeanSquareDisplacement) -> Plot:
    return Plot(
        "Collective dipole displacement",
        "Its slope is the Einstein-Helfand conductivity. Lags beyond the window hold mostly noise.",
        "collective-displacement.csv",
        {"lag_ps": curve.lags, "displacement_e2_nm2": curve.msd},
        partial(draw_collective, curve=curve),
    )


def _current_plot(spectrum: CurrentSpectrum) -> Plot:
    return Plot(
        "Spectrum of the charge current",
        "Its limit at zero frequency is the Green-Kubo integral; the band is one standard error. "
        "Points beyond the dotted line are not in the fit.",
        "current-spectrum.csv",
        {"frequency_per_ps": spectrum.frequencies, "amplitude_e2_nm2_per_ps": spectrum.amplitudes},
        partial(draw_current, spectrum=spectrum),
    )


def _flow_plot(flow: LinearResponse) -> Plot:
    return Plot(
        "Flow under a cosine acceleration",
        "The slope at zero acceleration gives the viscosity; where points leave the line, "
        "the liquid no longer responds linearly.",
        "flow.csv",
        {"acceleration_nm_ps2": flow.drives, "velocity_nm_ps": flow.responses, "error_nm_ps": flow.errors},
        partial(draw_response, response=flow, drive="acceleration (nm/ps²)", answer="velocity (nm/ps)"),
    )


def _drift_plot(drift: LinearResponse) -> Plot:
    return Plot(
        "Current in an electric field",
        "The slope at zero field is the conductivity; where points leave the line, the ions no longer "
        "respond linearly.",
        "drift.csv",
        {"field_V_nm": drift.drives, "current_e_nm2_ps": drift.responses, "error_e_nm2_ps": drift.errors},
        partial(draw_response, response=drift, drive="field (V/nm)", answer="current density (e/nm²/ps)"),
    )


def _distribution_plot(curve: RadialDistribution) -> Plot:
    return Plot(
        f"Radial distribution {curve.label}",
        "Left axis and band: g(r) with its block error. Right axis, dashed: running coordination "
        "number; the dotted line ends the first shell.",
        f"distribution-{curve.label.replace(' ', '-')}.csv",
        {"r_nm": curve.r, "g": curve.g, "g_error": curve.g_error, "coordination": curve.running},
        partial(draw_distribution, curve=curve),
    )


def _scattering_plot(curve: StructureFactor) -> Plot:
    return Plot(
        "Static structure factor",
        "Neutron-weighted, on the reciprocal vectors of the box; the band is the block error.",
        "structure-factor.csv",
        {"q_per_nm": curve.q, "s": curve.s, "s_error": curve.error},
        partial(draw_scattering, curve=curve),
    )


def figure(run_dir: str | Path, path: str | Path) -> None:
    """One figure of a run for a README: density series, mean square displacements, radial distributions."""
    result = study(run_dir)
    panels: list[tuple[str, Callable[[Axes], None]]] = [("Density", lambda axes: draw_density(axes, result))]
    if result.displacements:
        panels.append(("Displacement", lambda axes: draw_displacements(axes, result.displacements)))
    if result.distributions:
        panels.append(("Structure", lambda axes: draw_distributions(axes, result.distributions)))
    with matplotlib.rc_context(STYLE):
        canvas = _figure(4.4 * len(panels), 3.5)
        for number, (title, draw) in enumerate(panels, start=1):
            axes = canvas.add_subplot(1, len(panels), number)
            draw(axes)
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        canvas.suptitle(f"{result.run.name}, {result.run.temperature:g} K", fontsize=12)
        canvas.savefig(path, dpi=160)


def draw_density(axes: Axes, result: Study) -> None:
    """The density series, the used window shaded, the mean with its error."""
    times, densities, mean = result.npt_times, result.npt_densities, result.density_mean
    axes.plot(times, densities, color=COLOURS[0], linewidth=0.7, alpha=0.85)
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("density (g/cm³)")
    if mean is None:
        return
    window = (times[mean.first], times[-1])
    axes.axvspan(*window, color=COLOURS[0], alpha=0.08, linewidth=0)
    axes.fill_between(window, mean.mean - mean.error, mean.mean + mean.error, color=COLOURS[1], alpha=0.35)
    label = f"{with_error(mean.mean, mean.error)} g/cm³"
    axes.plot(window, (mean.mean, mean.mean), color=COLOURS[1], linewidth=1.6, label=label)
    used = densities[mean.first :]
    low, high = min(used.min(), mean.mean - 0.03), max(used.max(), mean.mean + 0.03)
    axes.set_ylim(low - 0.15 * (high - low), high + 0.35 * (high - low))
    axes.set_xlim(times[0], times[-1])
    axes.legend(loc="upper right")


def draw_committee(axes: Axes, spread: CommitteeSpread) -> None:
    """The largest spread of a force at every check, and the threshold."""
    axes.plot(spread.times, spread.forces, color=COLOURS[0], linewidth=1.0, marker=".", markersize=4)
    axes.axhline(spread.threshold, color="#5a646e", linestyle=":", linewidth=1.0, label="threshold")
    axes.set_ylim(0.0, 1.15 * max(spread.threshold, float(spread.forces.max())))
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("spread of a force (kJ/mol/nm)")
    axes.legend(loc="lower right", fontsize=9)


def draw_displacements(axes: Axes, curves: Sequence[MeanSquareDisplacement]) -> None:
    """Every species' mean square displacement on double logarithmic axes, with fit windows."""
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, COLOURS[index % len(COLOURS)])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("lag (ps)")
    axes.set_ylabel("mean square displacement (nm²)")
    axes.legend(loc="upper left", fontsize=9)


def draw_collective(axes: Axes, curve: MeanSquareDisplacement) -> None:
    """The collective dipole displacement up to a few times its fit window, on linear axes."""
    shown = min(len(curve.lags), 3 * curve.window.last + 1)
    axes.plot(curve.lags[:shown], curve.msd[:shown], color=COLOURS[3], linewidth=1.2)
    first, last = curve.window_ps
    axes.axvspan(first, last, color=COLOURS[3], alpha=0.10, linewidth=0, label="fit window")
    ends = np.array([0.0, curve.lags[shown - 1]])
    line = curve.intercept + curve.slope * ends
    axes.plot(ends, line, color="#2b333b", linestyle="--", linewidth=1.0, label="fit")
    low, high = (curve.intercept + (curve.slope + sign * curve.slope_error) * ends for sign in (-1.0, 1.0))
    axes.fill_between(ends, low, high, color="#2b333b", alpha=0.10, linewidth=0)
    axes.set_xlim(0.0, float(ends[1]))
    axes.set_ylim(0.0, 1.15 * max(float(curve.msd[:shown].max()), float(line.max())))
    axes.set_xlabel("lag (ps)")
    axes.set_ylabel("⟨|ΔM|²⟩ (e² nm²)")
    axes.legend(loc="upper left", fontsize=9)


def draw_current(axes: Axes, spectrum: CurrentSpectrum) -> None:
    """The low end of the current's spectrum, averaged in groups of frequencies, and its limit."""
    shown = spectrum.frequencies <= 3.0 * spectrum.cutoff
    groups = max(1, min(60, int(shown.sum()) // 2))
    frequencies, amplitudes = (
        [float(part.mean()) for part in np.array_split(values[shown], groups)]
        for values in (spectrum.frequencies, spectrum.amplitudes)
    )
    axes.plot(frequencies, amplitudes, ".", color=COLOURS[3], markersize=5)
    low, high = spectrum.integral - spectrum.error, spectrum.integral + spectrum.error
    axes.axhspan(low, high, color=COLOURS[1], alpha=0.35, linewidth=0)
    axes.axhline(spectrum.integral, color=COLOURS[1], linewidth=1.6, label="limit at zero frequency")
    axes.axvline(spectrum.cutoff, color="#5a646e", linestyle=":", linewidth=1.0)
    axes.set_xlim(0.0, None)
    axes.set_ylim(0.0, None)
    axes.set_xlabel("frequency (1/ps)")
    axes.set_ylabel("spectrum (e² nm²/ps)")
    axes.legend(loc="upper right", fontsize=9)


def draw_response(axes: Axes, response: LinearResponse, drive: str, answer: str) -> None:
    """Responses against drives, the fit, and its slope at zero; drive, answer: labels of the axes."""
    x = np.linspace(0.0, 1.1 * float(response.drives.max()), 60)
    axes.errorbar(
        response.drives,
        response.responses,
        response.errors,
        fmt="o",
        color=COLOURS[0],
        capsize=3,
        label="simulated",
    )
    fit = response.linear * x + response.cubic * x**3
    axes.plot(x, fit, color="#2b333b", linewidth=1.0, label="fit")
    axes.plot(x, response.linear * x, color="#2b333b", linestyle="--", linewidth=1.0, label="linear response")
    axes.set_xlabel(drive)
    axes.set_ylabel(answer)
    axes.legend(loc="upper left", fontsize=9)


def draw_scattering(axes: Axes, curve: StructureFactor) -> None:
    """S(q) with its error band."""
    axes.fill_between(
        curve.q, curve.s - curve.error, curve.s + curve.error, color=COLOURS[2], alpha=0.25, linewidth=0
    )
    axes.plot(curve.q, curve.s, color=COLOURS[2], linewidth=1.4)
    axes.set_xlim(0.0, None)
    axes.set_ylim(0.0, None)
    axes.set_xlabel("q (1/nm)")
    axes.set_ylabel("S(q)")


def draw_distribution(axes: Axes, curve: RadialDistribution) -> None:
    """One g(r) with its error band and its running coordination number on a second axis."""
    _draw_g(axes, curve, COLOURS[0])
    right = axes.twinx()
    right.plot(curve.r, curve.running, color=COLOURS[1], linestyle="--", linewidth=1.2)
    right.set_ylabel("running coordination number", color=COLOURS[1])
    right.spines["right"].set_visible(True)
    end = curve.r[-1] if math.isnan(curve.shell_nm) else min(curve.r[-1], 2.2 * curve.shell_nm)
    right.set_ylim(0.0, max(1.0, 1.1 * float(np.interp(end, curve.r, curve.running))))
    if not math.isnan(curve.shell_nm):
        number = float(np.interp(curve.shell_nm, curve.r, curve.running))
        axes.axvline(curve.shell_nm, color="#5a646e", linestyle=":", linewidth=1.0)
        right.plot([curve.shell_nm], [number], "o", color=COLOURS[1], markersize=5)
        right.annotate(f"{number:.2f}", (curve.shell_nm, number), (6, 4), textcoords="offset points")
    axes.set_xlim(0.1, float(end))
    axes.set_ylim(0.0, None)


def draw_distributions(axes: Axes, curves: Sequence[RadialDistribution]) -> None:
    """Several g(r) on one pair of axes."""
    for index, curve in enumerate(curves):
        _draw_g(axes, curve, COLOURS[index % len(COLOURS)])
    axes.set_xlim(0.1, min(0.8, float(curves[0].r[-1])))
    axes.set_ylim(0.0, None)
    axes.legend(fontsize=9)


def svg(draw: Callable[[Axes], None], prefix: str) -> str:
    """Draw on fresh axes; an <svg> element for a page, text as outlines, ids starting with prefix."""
    with matplotlib.rc_context(STYLE):
        canvas = _figure(6.2, 3.5)
        draw(canvas.add_subplot())
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    markup = buffer.getvalue()
    return _own_ids(markup[markup.index("<svg") :], prefix)


def _own_ids(markup: str, prefix: str) -> str:
    """Ids made unique over the page: matplotlib numbers them anew in each drawing."""
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{prefix}-", markup)


def _figure(width: float, height: float) -> Figure:
    canvas = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas


def _draw_curve(axes: Axes, curve: MeanSquareDisplacement, colour: str) -> None:
    lags, msd = curve.lags[1:], curve.msd[1:]
    axes.plot(lags, msd, color=colour, linewidth=1.0, alpha=0.6)
    window = slice(curve.window.first, curve.window.last + 1)
    alpha = 1.0 if curve.window.diffusive else 0.45
    used, label = curve.msd[window], curve.label
    axes.plot(curve.lags[window], used, color=colour, linewidth=3.0, alpha=alpha, label=label)
    first, last = curve.window_ps
    near = np.geomspace(0.5 * first, min(2.0 * last, lags[-1]), 50)
    line = curve.intercept + curve.slope * near
    axes.plot(near[line > 0], line[line > 0], color=colour, linestyle="--", linewidth=1.0)


def _draw_g(axes: Axes, curve: RadialDistribution, colour: str) -> None:
    low, high = curve.g - curve.g_error, curve.g + curve.g_error
    axes.fill_between(curve.r, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(curve.r, curve.g, color=colour, linewidth=1.4, label=curve.label)
    axes.set_xlabel("r (nm)")
    axes.set_ylabel("g(r)")
