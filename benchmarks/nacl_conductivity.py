"""Conductivity of molten NaCl, a rigid-ion model with published values, by phyff's own analysis.

    python benchmarks/nacl_conductivity.py OUT [PS] [PLATFORM]

512 ions at 1100 K and 1.456 g/cm3, four replicas of PS (default 500) each: about 20 minutes of one core.
Frames and states go to OUT; stopped or killed, the same command goes on; a larger PS continues a shorter run.

Model: Born-Huggins-Mayer-Tosi-Fumi, whole charges. Published for the same model at 1 bar, 1728 ions:
349 +- 1.3 S/m at 1.454 g/cm3, 100 ns (STACIE, worked example docs/source/examples/molten_salt.py of
github.com/molmod/stacie at 54d5a1f), and 348 +- 7 at 1.456 g/cm3, 6 ns (140 +- 3 S cm2/mol of Wang et al.,
J. Chem. Phys. 153, 214502 (2020), as that example quotes and converts it). Conservation of momentum makes the
barycentric transference number of Na+ exactly m(Cl) / (m(Na) + m(Cl)).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from rich.console import Console

from phyff.files import write_atomically
from phyff.md.charges import particle_masses
from phyff.md.reporters import StageProgress
from phyff.md.run_state import lock
from phyff.md.stopping import stop_request
from phyff.openmm.platforms import platform_named, precision
from phyff.properties.density import series_mean
from phyff.properties.trajectory import Production, Run, SpeciesInBox, barycentric
from phyff.properties.transport import transport
from phyff.units import AMU_NM3_TO_G_CM3, AVOGADRO, GAS_CONSTANT

Floats = NDArray[np.float64]
TEMPERATURE, DENSITY, MASSES = 1100.0, 1.456, (22.990, 35.45)
"""K, g/cm3, amu of Na and Cl."""
SITES, REPLICAS = 8, 4
"""Ions along an edge of the starting rock salt."""
STEP_PS, FRAME_PS, CHUNK_PS, MELT_PS, SETTLE_PS, CUTOFF_NM = 0.005, 0.1, 25.0, 10.0, 20.0, 0.9
FRICTION = 0.1
"""1/ps; the ions' own, k T / (m D), is near 40, so the thermostat takes about 0.3 % off."""
PRESSURE_FRAMES, SQUEEZE = 100, 0.005
"""Stride of the frames whose pressure is computed, and the relative change of volume that does it."""
KJ_NM3_TO_BAR = 1e25 / AVOGADRO
PUBLISHED = {
    "conductivity": "3490 ± 13; 3480 ± 70",
    "conductivity_green_kubo": "3490 ± 13; 3480 ± 70",
    "transference_Na": f"{MASSES[1] / sum(MASSES):.4f}",
}


def main() -> None:
    """Simulate what is missing, analyse, print one row a property."""
    out, ps = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 500.0
    platform = platform_named(sys.argv[3] if len(sys.argv) > 3 else None)
    melt, chunks = molten_salt(), math.ceil(ps / CHUNK_PS)
    simulate(melt, out, chunks, platform)
    read = [[np.load(chunk_path(out, k, c)) for c in range(chunks)] for k in range(REPLICAS)]
    frames = [np.concatenate([chunk["xyz"] for chunk in replica]) for replica in read]
    temperatures = np.concatenate([chunk["temperature"] for replica in read for chunk in replica])
    run = Run(out, {"temperature_K": TEMPERATURE}, melt.species)
    snapshots = np.zeros((1, len(melt.lattice), 3), np.float32)
    productions = [
        Production(
            barycentric(melt.species, xyz.astype(np.float64)), snapshots, len(xyz), FRAME_PS, melt.box_nm
        )
        for xyz in frames
    ]
    found = transport(run, productions).properties
    names = ["conductivity", "conductivity_green_kubo", "conductivity_nernst_einstein", "ionicity"]
    names += ["transference_Na", "self_diffusion_Na_box", "self_diffusion_Cl_box"]
    print(f"{len(melt.lattice)} ions, {REPLICAS} x {chunks * CHUNK_PS:g} ps, {platform.getName()}")
    print("| property | phyff | published, same model | verdict |\n|---|---|---|---|")
    for name in names:
        p = found[name]
        published = PUBLISHED.get(name, "-")
        print(f"| {name} | {p.value:.4g} ± {p.error:.2g} {p.unit} | {published} | {p.verdict} |")
    pressures = np.concatenate([pressure(melt, xyz[::PRESSURE_FRAMES], platform) for xyz in frames])
    error = float(pressures.std(ddof=1)) / math.sqrt(len(pressures))
    print(f"| pressure | {pressures.mean():.0f} ± {error:.0f} bar | 1 | |")
    warmth = series_mean(temperatures, cut_start=False)
    print(f"| temperature | {warmth.mean:.1f} ± {warmth.error:.1f} K | {TEMPERATURE:g} | |")


@dataclass(frozen=True)
class Melt:
    """The box: System without thermostat, rock-salt lattice (n, 3) in nm with all Na first, edge, species."""

    system: openmm.System
    lattice: Floats
    box_nm: float
    species: tuple[SpeciesInBox, ...]


def molten_salt() -> Melt:
    """The model at DENSITY; parameters of Lewis, Singer and Woodcock, Faraday Trans. 1 71, 301 (1975).

    b c exp(A (sigma - r)) - C / r^6 - D / r^8, as in docs/data/openmm_salt/bhmtf.py of the STACIE repository
    less its damping inside 0.1 nm. Tables in 1e-79 J m6 and 1e-99 J m8, in the order Na Na, Na Cl, Cl Cl.
    """
    half = SITES**3 // 2
    box_nm = (half * sum(MASSES) * AMU_NM3_TO_G_CM3 / DENSITY) ** (1.0 / 3.0)
    sites = np.stack(np.meshgrid(*[np.arange(SITES)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = box_nm / SITES * sites[np.argsort(sites.sum(axis=1) % 2, kind="stable")]
    hardness, scale = 31.5, 0.338e-22 * AVOGADRO  # 1/nm, kJ/mol
    radii, sizes = (0.117, 0.1585), (1.25, 1.0, 0.75)
    c6 = [1e-28 * AVOGADRO * c for c in (1.68, 11.2, 116.0)]  # kJ/mol nm6
    d8 = [1e-30 * AVOGADRO * d for d in (0.8, 13.9, 233.0)]  # kJ/mol nm8
    short = openmm.CustomNonbondedForce(
        f"({_of_pair(sizes)})*a1*a2*exp({-hardness}*r) - i^3*({_of_pair(c6)} + i*({_of_pair(d8)}));"
        "i = 1/r^2; k = k1+k2"
    )
    for name in ("k", "a"):
        short.addPerParticleParameter(name)
    short.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    short.setUseLongRangeCorrection(True)
    coulomb = openmm.NonbondedForce()
    coulomb.setNonbondedMethod(openmm.NonbondedForce.PME)
    system, species = openmm.System(), []
    system.setDefaultPeriodicBoxVectors(*(box_nm * np.eye(3)))
    for k, (name, charge) in enumerate((("Na", 1), ("Cl", -1))):
        for _ in range(half):
            system.addParticle(MASSES[k])
            coulomb.addParticle(charge, 1.0, 0.0)
            short.addParticle([k, math.sqrt(scale) * math.exp(hardness * radii[k])])
        one = (np.array([MASSES[k]]), np.array([radii[k]]), np.array([False]))
        species.append(SpeciesInBox(name, name, half, charge, (name,), *one, k * half, k * half))
    for force in (coulomb, short):
        force.setCutoffDistance(CUTOFF_NM)
        system.addForce(force)
    return Melt(system, lattice, box_nm, tuple(species))


def _of_pair(values: tuple[float, ...] | list[float]) -> str:
    """A polynomial in k that takes three values at k = 0, 1, 2: a pair table without look-ups."""
    low, middle, high = values
    return f"{low!r} + k*({2 * middle - 1.5 * low - 0.5 * high!r} + k*({0.5 * low - middle + 0.5 * high!r}))"


def simulate(melt: Melt, out: Path, chunks: int, platform: openmm.Platform) -> None:
    """Every replica to so many chunks; chunks that are there stay."""
    states = [_state(out, replica) for replica in range(REPLICAS)]
    steps, last = round(CHUNK_PS / STEP_PS), chunks * round(CHUNK_PS / STEP_PS)
    done = [0 if state is None else state.getStepCount() for state in states]
    console = Console(stderr=True)
    with lock(out), stop_request() as stop:
        finished = sum(last for step in done if step >= last)
        with StageProgress(console, REPLICAS * last, finished) as progress:
            for replica, state in enumerate(states):
                if done[replica] >= last:
                    continue
                context = _context(melt, replica, done[replica], platform)
                progress.begin(f"replica {replica}", last, done[replica], 1000.0 * STEP_PS)
                if state is None:
                    progress.say(f"replica {replica}: melts")
                    _melted(melt, context, replica)
                else:
                    context.setState(state)
                for chunk in range(done[replica] // steps, chunks):
                    if not _advance(melt, context, chunk_path(out, replica, chunk), progress, stop.is_set):
                        sys.exit("Interrupted; run the same command again to go on.")
                    reached = context.getState(positions=True, velocities=True)
                    write_atomically(_state_path(out, replica), openmm.XmlSerializer.serialize(reached))


def chunk_path(out: Path, replica: int, chunk: int) -> Path:
    """Frames (n, ions, 3) in nm, unwrapped, and temperatures (n,) in K of one chunk."""
    return out / f"replica-{replica}-{chunk:03d}.npz"


def _state_path(out: Path, replica: int) -> Path:
    return out / f"state-{replica}.xml"


def _state(out: Path, replica: int) -> openmm.State | None:
    path = _state_path(out, replica)
    return openmm.XmlSerializer.deserialize(path.read_text()) if path.is_file() else None


def _context(melt: Melt, replica: int, step: int, platform: openmm.Platform) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP_PS)
    integrator.setRandomNumberSeed(1 + replica + REPLICAS * step)
    return openmm.Context(melt.system, integrator, platform, precision(platform))


def _melted(melt: Melt, context: openmm.Context, replica: int) -> None:
    """Rock salt stretched to the melt's density falls apart at twice the temperature, then settles at it."""
    integrator = context.getIntegrator()
    context.setPositions(melt.lattice)
    context.setVelocitiesToTemperature(2.0 * TEMPERATURE, 1 + replica)
    integrator.setFriction(2.0)
    for temperature, ps in ((2.0 * TEMPERATURE, MELT_PS), (TEMPERATURE, SETTLE_PS)):
        integrator.setTemperature(temperature)
        integrator.step(round(ps / STEP_PS))
    integrator.setFriction(FRICTION)
    integrator.step(round(SETTLE_PS / STEP_PS))
    context.setStepCount(0)


def _advance(
    melt: Melt, context: openmm.Context, path: Path, progress: StageProgress, stopping: Callable[[], bool]
) -> bool:
    """One chunk, written whole; False when it was to stop."""
    masses = particle_masses(melt.system)
    frames, temperatures = [], []
    for _ in range(round(CHUNK_PS / FRAME_PS)):
        context.getIntegrator().step(round(FRAME_PS / STEP_PS))
        state = context.getState(positions=True, velocities=True)
        velocities = state.getVelocities(asNumpy=True)._value
        frames.append(state.getPositions(asNumpy=True)._value.astype(np.float32))
        temperatures.append(float(masses @ (velocities**2).sum(axis=1)) / (3 * len(masses) * GAS_CONSTANT))
        progress.advance(context.getStepCount())
        if stopping():
            return False
    if not np.isfinite(frames[-1]).all():
        raise SystemExit(f"{path}: coordinates are not finite.")
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, xyz=np.array(frames), temperature=np.array(temperatures))
    path.with_suffix(".part").replace(path)
    return True


def pressure(melt: Melt, xyz: NDArray[np.float32], platform: openmm.Platform) -> Floats:
    """bar, of each frame (n, ions, 3) in nm at TEMPERATURE: n k T / V - dU/dV by finite difference."""
    context = _context(melt, 0, 0, platform)
    volume, sides = melt.box_nm**3, np.array([-0.5, 0.5]) * SQUEEZE
    energies = np.empty((len(xyz), 2))
    for column, stretch in enumerate((1.0 + sides) ** (1.0 / 3.0)):
        context.setPeriodicBoxVectors(*(stretch * melt.box_nm * np.eye(3)))
        for row, frame in enumerate(xyz.astype(np.float64)):
            context.setPositions(stretch * frame)
            energies[row, column] = context.getState(energy=True).getPotentialEnergy()._value
    ideal = len(melt.lattice) * GAS_CONSTANT * TEMPERATURE / volume
    return KJ_NM3_TO_BAR * (ideal - (energies[:, 1] - energies[:, 0]) / (SQUEEZE * volume))


if __name__ == "__main__":
    main()
