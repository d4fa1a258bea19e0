"""Simulated against measured values, one panel a property."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phyff.report.plots import COLOURS, STYLE
from phyff.report.tables import UNITS, label

LABEL_HEIGHT = 0.037
"""Of the axes' height."""


def save_parity(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG of benchmark rows (phyff.bench) that have a value; hollow points are not converged."""
    known = [row for row in rows if row["value"] is not None]
    names = sorted({row["property"] for row in known})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4 * max(len(names), 1), 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, name in zip(np.ravel(figure.subplots(1, max(len(names), 1))), names, strict=False):
            own = sorted((row for row in known if row["property"] == name), key=lambda row: row["value"])
            measured, simulated, errors = (
                np.array([row[key] or 0.0 for row in own]) for key in ("experiment", "value", "error")
            )
            ends = np.concatenate([measured, simulated - errors, simulated + errors])
            margin = 0.08 * max(float(np.ptp(ends)), 0.05 * float(ends.max()))
            span = np.array([ends.min() - margin, ends.max() + margin])
            axes.plot(span, span, color="#8a94a0", linewidth=1)
            heights = apart((simulated - span[0]) / np.ptp(span))
            for k, (row, height) in enumerate(zip(own, heights, strict=True)):
                colour = COLOURS[k % len(COLOURS)]
                axes.errorbar(
                    measured[k],
                    simulated[k],
                    yerr=errors[k],
                    fmt="o",
                    color=colour,
                    markerfacecolor=colour if row["verdict"] == "converged" else "white",
                    capsize=3,
                )
                axes.annotate(
                    row["system"],
                    (measured[k], simulated[k]),
                    textcoords="axes fraction",
                    xytext=(1.05, height),
                    verticalalignment="center",
                    fontsize=7,
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (0.0, 0.5)},
                )
            unit = UNITS.get(own[0]["unit"], own[0]["unit"])
            axes.set(
                xlim=span,
                ylim=span,
                xlabel=f"measured ({unit})",
                ylabel=f"simulated ({unit})",
                title=label(name),
            )
            axes.set_aspect("equal")
        figure.savefig(path, dpi=150)


def apart(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ascending heights in the axes, moved up and then down so far that labels at them do not overlap."""
    apart = heights.copy()
    for k in range(1, len(apart)):
        apart[k] = max(apart[k], apart[k - 1] + LABEL_HEIGHT)
    top = 1.0
    for k in reversed(range(len(apart))):
        apart[k] = min(apart[k], top)
        top = apart[k] - LABEL_HEIGHT
    return apart
