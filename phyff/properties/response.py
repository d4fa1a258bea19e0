"""How a liquid answers several strengths of a drive (phyff.md.driven): linear response, and where it ends.

response = m drive + n drive^3, each point weighted with its own error; symmetry forbids even powers. The
cubic term is kept only where it shows above its error, and m is the limit of no driving.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyff.properties.trajectory import Run

Floats = NDArray[np.float64]
CURVATURE_SIGNIFICANCE = 2.0
"""Standard errors from which on the cubic term, the end of linear response, is kept in the fit."""
VISIBLE = 2.0
"""Standard errors from which on there is a response at all."""


@dataclass(frozen=True)
class Series:
    """An observable (n,) at one strength of the drive, interval_ps between rows."""

    values: Floats
    interval_ps: float

    @property
    def length_ps(self) -> float:
        return len(self.values) * self.interval_ps


@dataclass(frozen=True)
class LinearResponse:
    """Responses with one-sigma errors (n,) to drives (n,), and the fit: m, its error, n (0 if not kept)."""

    drives: Floats
    responses: Floats
    errors: Floats
    linear: float
    linear_error: float
    cubic: float

    @property
    def visible(self) -> bool:
        """Whether the response shows above the noise."""
        return self.linear > VISIBLE * self.linear_error


def linear_response(drives: Floats, responses: Floats, errors: Floats) -> LinearResponse:
    """The fit; three drives at least are needed for the cubic term."""
    if len(drives) >= 3:
        design = np.stack([drives, drives**3], axis=1) / errors[:, None]
        covariance = np.linalg.inv(design.T @ design)
        linear, cubic = covariance @ design.T @ (responses / errors)
        if abs(cubic) > CURVATURE_SIGNIFICANCE * math.sqrt(covariance[1, 1]):
            error = math.sqrt(covariance[0, 0])
            return LinearResponse(drives, responses, errors, float(linear), error, float(cubic))
    weights = drives**2 / errors**2
    linear = float(np.average(responses / drives, weights=weights))
    return LinearResponse(drives, responses, errors, linear, 1.0 / math.sqrt(float(weights.sum())), 0.0)


def read_series(run: Run, about: Mapping[str, Any]) -> dict[float, Series]:
    """By strength, the rows after the first steady_ps of every file that a stretch's JSON file names.

    Raises KeyError, ValueError, TypeError or OSError when they are not what phyff.md.driven writes.
    """
    found = {}
    for entry in about["series"]:
        path = run.directory / str(entry["file"])
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        rows = rows[rows[:, 0] > float(about["steady_ps"])]
        if len(rows) < 2:
            raise ValueError(f"{path.name} holds fewer than two rows")
        interval = float(np.ptp(rows[:, 0])) / (len(rows) - 1)
        found[float(entry["strength"])] = Series(rows[:, 1], interval)
    if not found:
        raise ValueError("it names no series")
    return found
