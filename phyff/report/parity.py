"""Simulated against measured values, one panel a property."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phyff.report.plots import COLOURS, STYLE
from phyff.report.tables import UNITS, label


def save_parity(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG of benchmark rows (phyff.bench) that have a value; hollow points are not converged."""
    known = [row for row in rows if row["value"] is not None]
    names = sorted({row["property"] for row in known})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * max(len(names), 1), 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, name in zip(np.ravel(figure.subplots(1, max(len(names), 1))), names, strict=False):
            own = [row for row in known if row["property"] == name]
            both = np.array([[row["experiment"], row["value"]] for row in own])
            margin = 0.08 * max(float(np.ptp(both)), 0.05 * float(both.max()))
            span = np.array([both.min() - margin, both.max() + margin])
            axes.plot(span, span, color="#8a94a0", linewidth=1)
            for k, row in enumerate(own):
                colour = COLOURS[k % len(COLOURS)]
                axes.errorbar(
                    row["experiment"],
                    row["value"],
                    yerr=row["error"] or 0.0,
                    fmt="o",
                    color=colour,
                    markerfacecolor=colour if row["verdict"] == "converged" else "white",
                    capsize=3,
                )
                axes.annotate(
                    row["system"],
                    (row["experiment"], row["value"]),
                    textcoords="offset points",
                    xytext=(6, -10),
                    fontsize=8,
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
