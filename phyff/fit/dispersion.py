"""Damping of dispersion, fitted to the dispersion of dimers: one width for the atoms of each element.

The coefficients come from the monomers alone; only where damping sets in is taken from dimers. One width of
all elements leaves methyl hydrogens too attractive in liquids, so each element has its own. kJ/mol and nm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import least_squares

from phyff.fit.short_range import FLOOR, RELATIVE, DimerPoint, six_digits, softening
from phyff.model.pairs import damped_dispersion
from phyff.model.parameters import FALLBACK, ShortRange, SpeciesTensors, species_tensors
from phyff.species.parameters import SpeciesParameters

START = 0.7
LIMITS = (0.4, 1.3)
RIDGE = 1.0
"""Pull of the elements' log widths to the shared one: it matters where dimers say little of an element."""


def fit_dispersion_widths(
    points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters]
) -> dict[str, float]:
    """`ShortRange.dispersion_widths`: one width an element of the species, and under FALLBACK the one that
    suits the dimers best if all elements share it."""
    bare = {n: species_tensors(s, ShortRange.charges_only()) for n, s in species.items()}
    elements = sorted({e for tensors in bare.values() for e in tensors.elements})
    pairs = [_pairs(point, bare, elements) for point in points]
    number = torch.tensor(np.repeat(np.arange(len(points)), [p.shape[1] for p in pairs]))
    r, b, c6, c8, c10, first, second = torch.tensor(np.concatenate(pairs, axis=1))
    first, second = first.long(), second.long()
    targets = torch.tensor([p.components["dispersion"] for p in points], dtype=torch.float64)
    weights = torch.tensor([softening(p) for p in points]) / (FLOOR + RELATIVE * targets.abs())

    def misses(logarithms: np.ndarray) -> np.ndarray:
        own = torch.tensor(logarithms)
        scaled = b * torch.exp(0.5 * (own[first] + own[second]))
        energies = torch.zeros_like(targets).index_add(0, number, damped_dispersion(r, scaled, c6, c8, c10))
        return (weights * (energies - targets)).numpy()

    def together(logarithm: np.ndarray) -> np.ndarray:
        return misses(np.repeat(logarithm, len(elements)))

    def apart(logarithms: np.ndarray) -> np.ndarray:
        return np.concatenate([misses(logarithms), RIDGE * (logarithms - shared)])

    bounds = tuple(np.log(LIMITS))
    shared = least_squares(together, [np.log(START)], bounds=bounds).x[0]
    widths = np.exp(least_squares(apart, np.full(len(elements), shared), bounds=bounds).x)
    return {FALLBACK: six_digits(np.exp(shared))} | {
        e: six_digits(width) for e, width in zip(elements, widths, strict=True)
    }


def _pairs(point: DimerPoint, bare: Mapping[str, SpeciesTensors], elements: Sequence[str]) -> np.ndarray:
    """(7, pairs): distance, exponent, C6, C8, C10 and the elements' numbers of all atom pairs of a dimer."""
    a, b = (bare[name] for name in point.names)
    distances = np.linalg.norm(point.xyz[0][:, None] - point.xyz[1][None], axis=2).ravel()
    products = [
        np.outer(getattr(a, name).numpy(), getattr(b, name).numpy()).ravel()
        for name in ("damping_exponents", "c6", "c8", "c10")
    ]
    first, second = ([elements.index(e) for e in own.elements] for own in (a, b))
    ends = np.repeat(first, len(second)), np.tile(second, len(first))
    return np.array([distances, *products, *ends])
