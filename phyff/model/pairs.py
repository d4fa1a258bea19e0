"""Pair functions of the non-bonded terms, each beside the OpenMM expression that says the same.

Distances nm, energies kJ/mol. The torch functions take tensors of any shape; the expressions use their names.
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

from phyff.units import COULOMB

MAX_ARGUMENT = 60.0
"""Polynomials stop growing here: OpenMM's long-range correction goes to infinity and would meet inf * 0."""

COMPONENTS = ("exchange", "penetration", "charge_transfer")
"""Short-range components; the first repels, the other two attract, with less steep exponents."""


def slater_overlap(r: Tensor, b: Tensor) -> Tensor:
    """(1 + x + x^2/3) exp(-x), x = b r: overlap of two Slater densities (Van Vleet et al. 2016, doi
    10.1021/acs.jctc.6b00209).
    """
    x = torch.clamp(b * r, max=MAX_ARGUMENT)
    return (1 + x + x**2 / 3) * torch.exp(-b * r)


def slater_overlap_expression(argument: str, product: str) -> str:
    """The same of two variables, the bounded x and b r."""
    return f"(1 + {argument} + {argument}^2/3)*exp(-{product})"


TAIL_SHARE, TAIL_EXPONENT = 0.05, 0.8
"""Of exchange between molecules: how much attraction there is in it, and its exponent over that of repulsion.
What semilocal correlation leaves where densities hardly overlap attracts (two DMC 0.35 nm apart have -0.05
kJ/mol of "exchange"), and without it exchange decays too slowly: dimers of molecules with 0.26 to 0.38 nm
between their closest atoms were bound 0.35 kJ/mol too weakly. Both numbers were chosen by such dimers; pairs
with a bare cation have no tail."""


def exchange_overlap(r: Tensor, b: Tensor, tail: Tensor | float = TAIL_SHARE) -> Tensor:
    """What exchange between molecules goes with: Slater overlap, less a tail that reaches farther."""
    return slater_overlap(r, b) - tail * slater_overlap(r, TAIL_EXPONENT * b)


def exchange_overlap_expression(argument: str, product: str) -> str:
    """The same of two variables, the bounded x and b r."""
    tail = slater_overlap_expression(f"({TAIL_EXPONENT}*{argument})", f"{TAIL_EXPONENT}*{product}")
    return f"({slater_overlap_expression(argument, product)} - {TAIL_SHARE}*{tail})"


def slater_argument(r: Tensor, b: Tensor) -> Tensor:
    """Tang-Toennies argument of a Slater repulsion, x - (2x^2 + 3x)/(x^2 + 3x + 3) (same, eq. 21)."""
    x = torch.clamp(b * r, max=MAX_ARGUMENT)
    return x - (2 * x**2 + 3 * x) / (x**2 + 3 * x + 3)


SLATER_ARGUMENT = "z - (2*z^2 + 3*z)/(z^2 + 3*z + 3)"


def tang_toennies_rest(y: Tensor, n: int) -> Tensor:
    """1 - f_n(y) = exp(-y) sum_{k=0..n} y^k/k! (Tang and Toennies 1984, doi 10.1063/1.447150)."""
    term, total = torch.ones_like(y), torch.ones_like(y)
    for k in range(1, n + 1):
        term = term * y / k
        total = total + term
    return torch.exp(-y) * total


def _powers(first: int, last: int) -> str:
    """sum_{k=first..last} y^k/k! as an OpenMM expression; plain powers are fastest there, derivatives too."""
    return " + ".join(f"{1 / factorial(k)!r}*y^{k}" for k in range(first, last + 1))


def damped_dispersion(r: Tensor, b: Tensor, c6: Tensor, c8: Tensor, c10: Tensor) -> Tensor:
    """-sum_n f_n(y) C_n / r^n for n = 6, 8, 10, with y the Slater argument."""
    y = slater_argument(r, b)
    return -sum((1 - tang_toennies_rest(y, n)) * c / r**n for n, c in ((6, c6), (8, c8), (10, c10)))  # type: ignore[return-value]


DISPERSION_BEYOND_C6 = (
    "(c6*decay*p6 - (c8*(1 - decay*p8) + c10*(1 - decay*p10)/r^2)/r^2)/r^6; "
    f"p10 = p8 + {_powers(9, 10)}; p8 = p6 + {_powers(7, 8)}; p6 = {_powers(0, 6)}; decay = exp(-y)"
)
"""Damped dispersion plus the bare C6/r^6 that NonbondedForce subtracts."""


def thole_screening(u: Tensor) -> Tensor:
    """1 - (1 + u/2) exp(-u): screening of two exponential clouds (Thole 1981, as in OpenMM's DrudeForce)."""
    u = torch.clamp(u, max=MAX_ARGUMENT)
    return 1 - (1 + u / 2) * torch.exp(-u)


THOLE_REST = "(1 + 0.5*u)*exp(-u)"
"""1 - thole_screening."""


def thole_cubic_screening(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What damps r^-3, r^-5 and r^-7 of a multipole's field in AMOEBA, w = a u^3 (Ren and Ponder 2003, doi
    10.1021/jp027815+; hard-coded in OpenMM's AmoebaMultipoleForce).
    """
    w = torch.clamp(w, max=MAX_ARGUMENT)
    rest = torch.exp(-w)
    return 1 - rest, 1 - (1 + w) * rest, 1 - (1 + w + 0.6 * w**2) * rest


def coulomb(q1: Tensor, q2: Tensor, r: Tensor) -> Tensor:
    """Charges in e, nm, kJ/mol."""
    return COULOMB * q1 * q2 / r
