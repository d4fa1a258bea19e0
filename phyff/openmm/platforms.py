"""Choice of an OpenMM platform by name, and what it runs on."""

import platform as machine
from pathlib import Path

import openmm

from phyff.errors import SimulationError


def platform_named(name: str | None) -> openmm.Platform:
    """The platform of that name; None for the fastest (not OpenCL, which may be a CPU's).

    Raises SimulationError with the names there are.
    """
    if name is None:
        loaded = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
        return max((p for p in loaded if p.getName() != "OpenCL"), key=lambda p: p.getSpeed())
    try:
        return openmm.Platform.getPlatformByName(name)
    except openmm.OpenMMException:
        names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
        raise SimulationError(
            f"platform: '{name}' is not available here; choose one of {', '.join(names)}."
        ) from None


def precision(platform: openmm.Platform) -> dict[str, str]:
    """Context properties: mixed precision where the platform has a choice."""
    return {"Precision": "mixed"} if platform.getName() in ("CUDA", "OpenCL", "HIP") else {}


def open_context(
    system: openmm.System, integrator: openmm.Integrator, platform: openmm.Platform
) -> openmm.Context:
    """A context in the platform's usual precision; SimulationError when it cannot run the system."""
    try:
        return openmm.Context(system, integrator, platform, precision(platform))
    except openmm.OpenMMException as problem:
        raise SimulationError(
            f"platform: {platform.getName()} cannot run this system ({problem}); choose another platform."
        ) from None


def device(context: openmm.Context) -> str:
    """What the context runs on, in words: the GPU's name, or the processor's with its threads."""
    platform = context.getPlatform()
    known = platform.getPropertyNames()
    if "DeviceName" in known:
        return str(platform.getPropertyValue(context, "DeviceName"))
    threads = platform.getPropertyValue(context, "Threads") if "Threads" in known else "1"
    return f"{processor()}, {threads} thread{'' if threads == '1' else 's'}"


def processor() -> str:
    """The model name of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return machine.processor() or machine.machine()
