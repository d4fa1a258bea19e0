"""The pair forces that dominate a step on CPUs, run by the compiled kernel of phyff/native: short range,
damping, and the direct space of the charges (the reciprocal space stays OpenMM's).

The kernel is optional, and a System stays stock OpenMM wherever it is kept or written: only what a Context is
made of changes.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import openmm

PLATFORMS = ("CPU",)
"""Where the kernel is the faster one."""
INSTALL = f"pip install {Path(__file__).parents[1] / 'native'}"


def accelerated(system: openmm.System, platform: openmm.Platform) -> openmm.System:
    """The System to make a Context of on that platform: a copy with native pair forces, or `system` itself.

    Names, force groups, parameters and energies are the same; the copy cannot be serialised. The reciprocal
    space of the charges becomes a force of its own, on the mesh of the System's default box.
    """
    return with_native_forces(system) if pair_forces(system, platform) == "native" else system


def with_native_forces(system: openmm.System) -> openmm.System:
    """A copy with native pair forces, for any platform; needs the kernel."""
    copied = copy.deepcopy(system)
    importlib.import_module("phyff_native").replace_forces(int(copied.this))
    return copied


def pair_forces(system: openmm.System, platform: openmm.Platform) -> str:
    """What computes the pair forces of the System on that platform: "native" or "stock"."""
    usable = platform.getName() in PLATFORMS and _custom_forces(system) and _obstacle(system) is None
    return "native" if usable else "stock"


def notice(system: openmm.System, platform: openmm.Platform) -> str | None:
    """A line for the user on what computes the pair forces; None where there is no choice."""
    if platform.getName() not in PLATFORMS or not _custom_forces(system):
        return None
    obstacle = _obstacle(system)
    return (
        f"Pair forces: stock OpenMM, slower here, as {obstacle}" if obstacle else "Pair forces: native kernel"
    )


def _custom_forces(system: openmm.System) -> list[str]:
    return [f.getName() for f in system.getForces() if isinstance(f, openmm.CustomNonbondedForce)]


def _obstacle(system: openmm.System) -> str | None:
    """Why the kernel cannot take over the pair forces of the System, or None."""
    try:
        kernel = importlib.import_module("phyff_native")
    except ImportError as problem:
        return f"the native kernel is not installed ({problem}); {INSTALL}"
    built_for, version = kernel.openmm_version, openmm.version.version
    if built_for.split(".")[:2] != version.split(".")[:2]:  # the binary interface changes with these
        return f"the native kernel is for OpenMM {built_for}, not {version}; {INSTALL}"
    known = kernel.replaceable(int(system.this))
    unknown = [name for name in _custom_forces(system) if name not in known]
    return f"the native kernel does not know {', '.join(unknown)}; {INSTALL}" if unknown else None
