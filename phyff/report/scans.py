"""Scans of dimers drawn: quantum chemistry and the model along each approach, component by component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

from phyff.fit.short_range import CLASS_LEVEL, DimerPoint, is_held_out
from phyff.model.cluster import PARTS
from phyff.model.parameters import SpeciesTensors
from phyff.report.dimer_errors import COLUMNS, PairClass, model_energies, shortest
from phyff.report.plots import COLOURS, STYLE
from phyff.species.parameters import SpeciesParameters

ACROSS = 3
"""Scans side by side."""
STEP = 0.08
"""Relative distance from one energy of a curve to the next."""
FARTHEST = 6.0
"""Angstrom between closest atoms; what lies beyond is not drawn."""
STEEPEST = 1.5
"""Walls of attractive scans leave the panel at this many times its depth."""
INK = dict(zip(COLUMNS, (*COLOURS[: len(PARTS)], "#1c2126"), strict=True))


@dataclass(frozen=True)
class Scan:
    """One approach, from near to far: closest distances in angstrom, energies (n, 5) in the order of COLUMNS.

    Attributes:
        distances, quantum, model: of the decomposed dimers.
        path, path_model: of the rigid molecules between them too, for a curve.
    """

    title: str
    distances: np.ndarray
    quantum: np.ndarray
    model: np.ndarray
    path: np.ndarray
    path_model: np.ndarray


def scans(
    pair: PairClass, species: Mapping[str, SpeciesParameters], tensors: Mapping[str, SpeciesTensors]
) -> list[Scan]:
    """The approaches of a pair with what the model gives along each."""
    found = []
    for name, numbers in pair.scans().items():
        points = [pair.points[k] for k in numbers]
        first, names = points[0].xyz[0], points[0].names
        path = _between(first, [point.xyz[1] for point in points])
        found.append(
            Scan(
                title=_title(name, points[0], species),
                distances=10 * np.array([shortest(point) for point in points]),
                quantum=pair.quantum[numbers],
                model=pair.library[numbers],
                path=10 * np.array([cdist(first, second).min() for second in path]),
                path_model=np.array(
                    [model_energies(names, (first, second), [tensors])[0] for second in path]
                ),
            )
        )
    return found


def save_scans(drawn: Sequence[Scan], title: str, path: Path) -> None:
    """Write a PNG: a panel a scan with the energies, and below it model minus quantum chemistry."""
    rows = -(-len(drawn) // ACROSS)
    with matplotlib.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(3.6 * ACROSS, 3.3 * rows + 0.8), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(f"{title}: lines model, dots quantum chemistry", fontsize=11, fontweight="bold")
        panels = figure.subplots(2 * rows, ACROSS, squeeze=False, height_ratios=[2.2, 1.0] * rows)
        for number in range(rows * ACROSS):
            row, column = divmod(number, ACROSS)
            upper, lower = panels[2 * row, column], panels[2 * row + 1, column]
            if number < len(drawn):
                _draw_energies(upper, drawn[number])
                _draw_errors(lower, drawn[number])
                if column == 0:
                    upper.set_ylabel("kJ/mol")
                    lower.set_ylabel("model - QM")
            else:
                upper.set_axis_off()
                lower.set_axis_off()
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(path, dpi=90, metadata={"Software": None})


def _draw_energies(axes: Axes, scan: Scan) -> None:
    for c, name in enumerate(COLUMNS):
        width = 1.8 if name == "total" else 1.1
        axes.plot(scan.path, scan.path_model[:, c], color=INK[name], linewidth=width, label=name)
        axes.plot(scan.distances, scan.quantum[:, c], "o", color=INK[name], markersize=3)
    low, high = float(min(scan.quantum.min(), 0.0)), float(max(scan.quantum.max(), 0.0))
    if scan.quantum[:, -1].min() < 0.0:
        high = min(high, STEEPEST * -low)
    _frame(axes, scan, low, high)
    axes.tick_params(labelbottom=False)
    axes.set_title(scan.title, loc="left", fontsize=9)


def _draw_errors(axes: Axes, scan: Scan) -> None:
    error = scan.model - scan.quantum
    for c, name in enumerate(COLUMNS):
        width = 1.6 if name == "total" else 0.8
        axes.plot(scan.distances, error[:, c], "o-", color=INK[name], linewidth=width, markersize=2)
    _frame(axes, scan, min(float(error.min()), -1.0), max(float(error.max()), 1.0))
    axes.set_xlabel("closest atoms (Å)")


def _frame(axes: Axes, scan: Scan, low: float, high: float) -> None:
    axes.axhline(0.0, color="#8a94a0", linewidth=0.6)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    near, far = scan.distances[0], scan.distances[-1]
    axes.set_xlim(near - 0.1, (min(far, FARTHEST) if near < FARTHEST else far) + 0.1)


def _between(first: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Positions of the second molecule on its way through `places`, which differ by a shift, denser near the
    first."""
    path = []
    for here, there in zip(places[:-1], places[1:], strict=True):
        near, far = cdist(first, here).min(), cdist(first, there).min()
        number = max(2, int(np.ceil(np.log(far / near) / STEP)))
        shares = (np.geomspace(near, far, number, endpoint=False) - near) / (far - near)
        path += [here + share * (there - here) for share in shares]
    return [*path, places[-1]]


def _title(name: str, nearest: DimerPoint, species: Mapping[str, SpeciesParameters]) -> str:
    """Number of the scan and the classes of the atoms that meet, as in "2, held out: Li+ - O1(C3)"."""
    distances = cdist(*nearest.xyz)
    ends = np.unravel_index(int(distances.argmin()), distances.shape)
    meeting = [
        species[own].atom_classes[int(atom)][CLASS_LEVEL]
        for own, atom in zip(nearest.names, ends, strict=True)
    ]
    number = name.rsplit("#", 1)[1] + (", held out" if is_held_out(name) else "")
    return f"{number}: {meeting[0]} - {meeting[1]}"
