"""The forces that dominate a step, run by the compiled kernel of phyff/native: short range, damping,
the direct space of the charges (the reciprocal space stays OpenMM's), the screened pairs of oscillators (the
springs stay OpenMM's, whose integrators ask for them), what bare cations feel of charge that flows and of
near fields, and the neural term. On GPUs, where OpenMM is fast at the others, the kernel has the neural term
alone: compiled for the device when a Context is made, so that positions and forces stay there.

The kernel is optional, and a System stays stock OpenMM wherever it is kept or written: only what a Context is
made of changes.
"""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import unit
from torch import Tensor

from phyff.model.charge_flow import CUTOFF as FLOW_CUTOFF
from phyff.model.charge_flow import SWITCH_START
from phyff.model.near_field import CUTOFF as NEAR_CUTOFF
from phyff.model.near_field import SWITCH_START as NEAR_SWITCH_START
from phyff.model.neural import (
    ANGULAR,
    ANGULAR_WIDTH,
    CUTOFF,
    RADIAL,
    RADIAL_WIDTH,
    SEE_BONDS,
    SEE_DIRECTIONS,
    WALL,
    KindWeights,
    network,
)
from phyff.openmm.charge_flow import EXPRESSION, LONGEST_BOND
from phyff.openmm.charge_flow import NAME as FLOW
from phyff.openmm.near_field import EXPRESSION as NEAR_EXPRESSION
from phyff.openmm.near_field import NAME as NEAR_FIELD
from phyff.openmm.neural import NAME, NeuralForce
from phyff.units import COULOMB

PLATFORMS = ("CPU",)
"""Where the kernel is the faster one for all that it knows."""
GPU_PLATFORMS = ("CUDA", "OpenCL")
"""Where it is for the neural term."""
SCREENED = "screened pairs"
INSTALL = f"pip install {Path(__file__).parents[1] / 'native'}"


def accelerated(system: openmm.System, platform: openmm.Platform) -> openmm.System:
    """The System to make a Context of on that platform: a copy with native forces, or `system` itself.

    Names, force groups, parameters and energies are the same; the copy cannot be serialised. On a CPU the
    reciprocal space of the charges becomes a force of its own, on the mesh of the System's default box.
    """
    if pair_forces(system, platform) == "native":
        return with_native_forces(system)
    return with_native_neural(system) if neural_term(system, platform) == "native" else system


def with_native_forces(system: openmm.System) -> openmm.System:
    """A copy with native pair forces, charge flow, near field and neural term, for any platform; needs the
    kernel."""
    copied = copy.deepcopy(system)
    kernel = importlib.import_module("phyff_native")
    kernel.replace_forces(int(copied.this))
    for index in reversed(_screened(copied)):
        _replace_screened_pairs(copied, index, kernel)
    for index in reversed(_charge_flows(copied)):
        kernel.replace_charge_flow(
            int(copied.this),
            index,
            coulomb=COULOMB,
            switch_start=SWITCH_START,
            cutoff=FLOW_CUTOFF,
            reach=FLOW_CUTOFF + 0.5 * LONGEST_BOND,
        )
    for index in reversed(_near_fields(copied)):
        kernel.replace_near_field(int(copied.this), index, switch_start=NEAR_SWITCH_START, cutoff=NEAR_CUTOFF)
    _replace_neural_terms(copied, kernel)
    return copied


def with_native_neural(system: openmm.System) -> openmm.System:
    """A copy with a native neural term, for any platform; needs the kernel."""
    copied = copy.deepcopy(system)
    _replace_neural_terms(copied, importlib.import_module("phyff_native"))
    return copied


def _replace_neural_terms(system: openmm.System, kernel: Any) -> None:
    for index in reversed(_neural_terms(system)):
        function = pickle.loads(kernel.pickled_function(int(system.this), index))
        kernel.replace_neural_force(int(system.this), index, **_committee(function))


def pair_forces(system: openmm.System, platform: openmm.Platform) -> str:
    """What computes the pair forces of the System on that platform: "native" or "stock"."""
    usable = platform.getName() in PLATFORMS and _costly_forces(system) and _obstacle(system) is None
    return "native" if usable else "stock"


def neural_term(system: openmm.System, platform: openmm.Platform) -> str | None:
    """What computes the neural term of the System on that platform: "native" or "torch"; None without one."""
    if not _neural_terms(system):
        return None
    if platform.getName() in GPU_PLATFORMS:
        return "native" if _obstacle(system, on_gpu=True) is None else "torch"
    return "native" if pair_forces(system, platform) == "native" else "torch"


def notice(system: openmm.System, platform: openmm.Platform) -> str | None:
    """A line for the user on what computes pair forces and neural term; None where there is no choice."""
    on_gpu, neural = platform.getName() in GPU_PLATFORMS, bool(_neural_terms(system))
    if on_gpu and neural:
        forces, stock = "Neural term", "torch"
    elif platform.getName() in PLATFORMS and _costly_forces(system):
        forces = "Pair forces and neural term" if neural else "Pair forces"
        stock = "stock OpenMM and torch" if neural else "stock OpenMM"
    else:
        return None
    obstacle = _obstacle(system, on_gpu)
    return f"{forces}: {stock}, slower here, as {obstacle}" if obstacle else f"{forces}: native kernel"


def _costly_forces(system: openmm.System) -> list[str]:
    """Names of the forces that are worth a kernel."""
    custom = [f.getName() for f in system.getForces() if isinstance(f, openmm.CustomNonbondedForce)]
    others = {SCREENED: _screened, FLOW: _charge_flows, NEAR_FIELD: _near_fields}
    neural = [system.getForce(index).getName() for index in _neural_terms(system)]
    return custom + [name for name, found in others.items() for _ in found(system)] + neural


def _screened(system: openmm.System) -> list[int]:
    """Indices of the forces with screened pairs of oscillators, as the kernel has them: without images."""
    return [
        index
        for index, force in enumerate(system.getForces())
        if isinstance(force, openmm.DrudeForce)
        and force.getNumScreenedPairs()
        and not force.usesPeriodicBoundaryConditions()
    ]


def _replace_screened_pairs(system: openmm.System, index: int, kernel: Any) -> None:
    """Leave the DrudeForce with that index its springs, and add a native force with its screened pairs."""
    stock, springs = system.getForce(index), openmm.DrudeForce()
    rows = [stock.getParticleParameters(k) for k in range(stock.getNumParticles())]
    for row in rows:
        springs.addParticle(*row)
    springs.setName(stock.getName())
    springs.setForceGroup(stock.getForceGroup())
    pairs = [stock.getScreenedPairParameters(k) for k in range(stock.getNumScreenedPairs())]
    one, other = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    ends = np.array([row[:2] for row in rows])
    charge = np.array([row[5].value_in_unit(unit.elementary_charge) for row in rows])
    alpha = np.array([row[6].value_in_unit(unit.nanometer**3) for row in rows])
    screening = np.array([pair[2] for pair in pairs]) / (alpha[one] * alpha[other]) ** (1.0 / 6.0)
    product = COULOMB * charge[one] * charge[other]
    corners = [
        (ends[one, a], ends[other, b], product if a == b else -product) for a in (0, 1) for b in (0, 1)
    ]
    kernel.add_screened_pairs(
        int(system.this),
        f"{stock.getName()}, {SCREENED}",
        stock.getForceGroup(),
        *(np.concatenate(column).tolist() for column in zip(*corners, strict=True)),
        np.tile(screening, len(corners)).tolist(),
    )
    system.removeForce(index)
    system.addForce(springs)


def _charge_flows(system: openmm.System) -> list[int]:
    """Indices of the forces of bare cations with charge that flows."""
    return _contacts(system, EXPRESSION)


def _near_fields(system: openmm.System) -> list[int]:
    """Indices of the forces of bare cations with near fields, exchange and electrostatics together."""
    return _contacts(system, NEAR_EXPRESSION)


def _contacts(system: openmm.System, expression: str) -> list[int]:
    """Indices of the forces between bare cations and atoms with that expression."""
    return [
        index
        for index, force in enumerate(system.getForces())
        if isinstance(force, openmm.CustomHbondForce) and force.getEnergyFunction() == expression
    ]


def _neural_terms(system: openmm.System) -> list[int]:
    """Indices of the forces that are the neural term."""
    return [
        index
        for index, force in enumerate(system.getForces())
        if isinstance(force, openmm.PythonForce) and force.getName() == NAME
    ]


def _committee(function: NeuralForce) -> dict[str, Any]:
    """What the kernel needs of a neural term, by the names it has for that."""
    term, kinds = function.term.to(torch.float64), function.kinds.to(torch.float64)
    shape, known = term.architecture, KindWeights.of(term, kinds)
    angular = shape.variant in SEE_DIRECTIONS
    nothing = torch.zeros(0)
    arrays = {
        "centres": torch.tensor(RADIAL + ANGULAR * angular),
        "widths": torch.tensor([RADIAL_WIDTH] * len(RADIAL) + [ANGULAR_WIDTH] * len(ANGULAR) * angular),
        "exponents": kinds.exponents,
        "amplitudes": kinds.amplitudes,
        "strengths": 0.5 * shape.saturation * known.strengths.mean(0),
        "embedding": known.embedding.transpose(0, 1),
        "gate": nothing if known.gate is None else known.gate.transpose(0, 1),
        "own": nothing if known.own is None else known.own.transpose(0, 1),
        "offset": nothing if known.own is None else network(term.weights, known.own).T,
    }
    for name, weights in {"in": "in", "middle": "middle", "bias": "middle_bias", "out": "out"}.items():
        arrays[name] = term.weights.get(f"network.{weights}", nothing)
    numbers = {
        "particles": function.atoms.tolist(),
        "molecules": function.molecule.tolist(),
        "kinds": function.kind.tolist(),
        "cutoff": CUTOFF,
        "wall": WALL,
        "saturation": shape.saturation,
    }
    if shape.variant in SEE_BONDS:
        numbers["bonds"] = function.atoms[function.bonds.T.numpy()].tolist()
    return numbers | {name: _single(array) for name, array in arrays.items()}


def _single(array: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(array.numpy(), dtype=np.float32)


def _obstacle(system: openmm.System, on_gpu: bool = False) -> str | None:
    """Why the kernel cannot take over these forces of the System, on a GPU its neural term, or None."""
    try:
        kernel = importlib.import_module("phyff_native")
    except ImportError as problem:
        return f"the native kernel is not installed ({problem}); {INSTALL}"
    built_for, version = kernel.openmm_version, openmm.version.version
    if built_for.split(".")[:2] != version.split(".")[:2]:  # the binary interface changes with these
        return f"the native kernel is for OpenMM {built_for}, not {version}; {INSTALL}"
    doors = {
        SCREENED: "add_screened_pairs",
        FLOW: "flows_through_space",
        NEAR_FIELD: "replace_near_field",
        NAME: "sees_exchange",
    }
    if on_gpu:
        doors[NAME] = "compiles_for_gpus"
    known = kernel.replaceable(int(system.this))
    known += [name for name, door in doors.items() if hasattr(kernel, door)]
    wanted = [NAME] if on_gpu else _costly_forces(system)
    unknown = [name for name in wanted if name not in known]
    return f"the native kernel does not know {', '.join(unknown)}; {INSTALL}" if unknown else None
