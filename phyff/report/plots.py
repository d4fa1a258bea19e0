"""The plots of a report, drawn with matplotlib and embedded as SVG, and the one figure for a README."""

import io
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phyff.properties import Study, study
from phyff.properties.displacement import MeanSquareDisplacement
from phyff.properties.green_kubo import CurrentSpectrum
from phyff.properties.scattering import StructureFactor
from phyff.properties.structure import RadialDistribution
from phyff.properties.viscosity import Flow
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


def plots(result: Study) -> list[tuple[str, str, str]]:
    """Every plot the data allows: (title, caption, inline SVG)."""
    drawn: list[tuple[str, str, str]] = []
    if len(result.npt_times) > 1:
        drawn.append(
            (
                "Density",
                "Constant-pressure stage. The shaded part is what the mean is taken over; "
                "the band is one standard error.",
                svg(lambda axes: draw_density(axes, result), "density"),
            )
        )
    if result.displacements:
        drawn.append(
            (
                "Mean square displacement",
                "Molecular centres of mass. The thick part is the fit window, the dashed line the fit; "
                "diffusion is a slope of 1 on these axes.",
                svg(lambda axes: draw_displacements(axes, result.displacements), "displacements"),
            )
        )
    collective = result.collective
    if collective is not None:
        drawn.append(
            (
                "Collective dipole displacement",
                "Its slope is the Einstein-Helfand conductivity. Lags beyond the window hold mostly noise.",
                svg(lambda axes: draw_collective(axes, collective), "collective"),
            )
        )
    current = result.current
    if current is not None:
        drawn.append(
            (
                "Spectrum of the charge current",
                "Its limit at zero frequency is the Green-Kubo integral; the band is one standard error. "
                "Points beyond the dotted line are not in the fit.",
                svg(lambda axes: draw_current(axes, current), "current"),
            )
        )
    flow = result.flow
    if flow is not None:
        drawn.append(
            (
                "Flow under a cosine acceleration",
                "The slope at zero acceleration gives the viscosity; where points leave the line, "
                "the liquid no longer responds linearly.",
                svg(lambda axes: draw_flow(axes, flow), "flow"),
            )
        )
    for number, curve in enumerate(result.distributions):
        drawn.append(
            (
                f"Radial distribution {curve.label}",
                "Left axis and band: g(r) with its block error. Right axis, dashed: running coordination "
                "number; the dotted line ends the first shell.",
                svg(partial(draw_distribution, curve=curve), f"distribution-{number}"),
            )
        )
    scattering = result.scattering
    if scattering is not None:
        drawn.append(
            (
                "Static structure factor",
                "Neutron-weighted, on the reciprocal vectors of the box; the band is the block error.",
                svg(lambda axes: draw_scattering(axes, scattering), "scattering"),
            )
        )
    return drawn


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


def draw_flow(axes: Axes, flow: Flow) -> None:
    """Velocity of the flow against acceleration, the fit, and its slope at zero."""
    a = np.linspace(0.0, 1.1 * float(flow.accelerations.max()), 60)
    axes.errorbar(
        flow.accelerations,
        flow.velocities,
        flow.errors,
        fmt="o",
        color=COLOURS[0],
        capsize=3,
        label="simulated",
    )
    axes.plot(a, flow.linear * a + flow.cubic * a**3, color="#2b333b", linewidth=1.0, label="fit")
    axes.plot(a, flow.linear * a, color="#2b333b", linestyle="--", linewidth=1.0, label="linear response")
    axes.set_xlabel("acceleration (nm/ps²)")
    axes.set_ylabel("velocity (nm/ps)")
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
