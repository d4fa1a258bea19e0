"""Rigid water, end to end with phyff's own analysis, against published values of the same model.

    python benchmarks/water.py OUT [PS] [MODEL] [PLATFORM]

216 molecules of MODEL (tip3p or spce) at 298 K. An equilibrium run of PS (default 1000) goes through
`phyff.analyze` as a trajectory from elsewhere (diffusion, dielectric constant), driven ones of 0.4 PS each
through phyff.md.viscosity: about 40 minutes of one core. Finished parts stay in OUT; driven ones are resumed.

Dielectric constants: Hoechtl et al., J. Chem. Phys. 109, 4927 (1998). Viscosity of SPC/E at 298 K and 1 bar:
sklogwiki.org, "SPC/E model of water". As remembered, with only the abstracts at hand (~): infinite-size
diffusion of SPC/E from Tazi et al., J. Phys.: Condens. Matter 24, 284117 (2012), that of TIP3P and its
viscosity from Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004).
"""

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from phyff.analyze import Conditions, analyze
from phyff.files import write_atomically
from phyff.md.driven import Driving
from phyff.md.viscosity import shear_flow
from phyff.openmm.platforms import platform_named, precision
from phyff.properties.trajectory import Run
from phyff.properties.viscosity import viscosity
from phyff.units import AMU_NM3_TO_G_CM3

EDGE_MOLECULES, TEMPERATURE, STEP_PS, FRAME_PS, SETTLE_PS = 6, 298.0, 0.002, 0.1, 40.0
DENSITIES = {"tip3p": 0.985, "spce": 0.998}
"""g/cm3, near 1 bar."""
FRICTION, SETTLE_FRICTION = 0.2, 5.0
"""1/ps; the molecules' own, k T / (m D), is 23 to 50. A weak thermostat would take 30 ps to settle."""
AMPLITUDES = (0.03, 0.06, 0.09)
"""nm/ps2. Flow heats TIP3P by A V / 2 a unit of mass: 2 K at the strongest, but 23 K at 0.3."""
PUBLISHED = {
    "tip3p": {"viscosity": "~0.31", "self_diffusion_HOH": "~6", "dielectric_constant": "97 ± 7"},
    "spce": {"viscosity": "0.729", "self_diffusion_HOH": "~2.97", "dielectric_constant": "68 ± 6"},
}


def main() -> None:
    """Simulate what is missing, analyse, print one row a property."""
    given = dict(enumerate(sys.argv))
    out, ps, model = Path(given[1]), float(given.get(2, 1000.0)), given.get(3, "tip3p")
    platform = platform_named(given.get(4))
    topology, system, xyz = water_box(model)
    out.mkdir(parents=True, exist_ok=True)
    start = equilibrated(topology, system, xyz, out, platform)
    trajectory = equilibrium_run(topology, system, start, out, ps, platform)
    shear_flow(
        system,
        integrator,
        start,
        out,
        Driving(0.4 * ps, AMPLITUDES, min(30.0, 0.1 * ps), platform.getName()),
    )
    flow, _ = viscosity(Run(out, {}, ()))
    assert flow is not None
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charges = [force.getParticleParameters(atom)[0]._value for atom in range(3)]
    found = analyze(
        trajectory,
        out / "top.pdb",
        out,
        {"HOH": "O"},
        {"HOH": charges},
        Conditions(
            temperature=TEMPERATURE,
            frame_ps=FRAME_PS,
            viscosity_cp=flow.value,
            viscosity_error_cp=flow.error,
        ),
    ).properties
    print(f"{model}, {len(xyz) // 3} molecules, {ps:g} ps and {len(AMPLITUDES)} x {0.4 * ps:g} ps driven")
    print("| property | phyff | published, same model | verdict |\n|---|---|---|---|")
    for key in ("viscosity", "self_diffusion_HOH", "self_diffusion_HOH_box", "dielectric_constant"):
        p, published = {"viscosity": flow, **found}[key], PUBLISHED[model].get(key, "-")
        print(f"| {key} | {p.value:.3g} ± {p.error:.2g} {p.unit} | {published} | {p.verdict} |")


def water_box(model: str) -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Topology, system and lattice positions (n, 3) nm."""
    rng = np.random.default_rng(1)
    topology, count = app.Topology(), EDGE_MOLECULES**3
    chain = topology.addChain()
    for _ in range(count):
        residue = topology.addResidue("HOH", chain)
        atoms = [
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")
        ]
        for hydrogen in atoms[1:]:
            topology.addBond(atoms[0], hydrogen)
    mass = count * sum(atom.element.mass._value for atom in list(topology.atoms())[:3])
    edge = (mass * AMU_NM3_TO_G_CM3 / DENSITIES[model]) ** (1.0 / 3.0)
    topology.setPeriodicBoxVectors(np.eye(3) * edge)
    system = app.ForceField(f"{model}.xml").createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, rigidWater=True
    )
    constraints = map(system.getConstraintParameters, range(system.getNumConstraints()))
    lengths = {(min(i, j), max(i, j)): length._value for i, j, length in constraints}
    bond, half = lengths[0, 1], 0.5 * lengths[1, 2]
    height = np.sqrt(bond**2 - half**2)
    molecule = np.array([[0.0, 0.0, 0.0], [half, height, 0.0], [-half, height, 0.0]])
    sites = np.stack(np.meshgrid(*[np.arange(EDGE_MOLECULES)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in sites]
    xyz = [edge / EDGE_MOLECULES * site + molecule @ turn for site, turn in zip(sites, turns, strict=True)]
    return topology, system, np.concatenate(xyz)


def integrator() -> openmm.Integrator:
    """The same weak Langevin dynamics everywhere."""
    made = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP_PS)
    made.setRandomNumberSeed(7)
    return made


def equilibrated(
    topology: app.Topology, system: openmm.System, xyz: np.ndarray, out: Path, platform: openmm.Platform
) -> openmm.State:
    """The liquid at TEMPERATURE, kept in OUT with its topology."""
    path = out / "start.xml"
    if not path.is_file():
        made = integrator()
        made.setFriction(SETTLE_FRICTION)
        context = openmm.Context(system, made, platform, precision(platform))
        context.setPositions(xyz)
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
        context.setVelocitiesToTemperature(TEMPERATURE, 1)
        made.step(round(SETTLE_PS / STEP_PS))
        state = context.getState(positions=True, velocities=True)
        with (out / "top.pdb").open("w") as file:
            app.PDBFile.writeFile(topology, state.getPositions(), file)
        write_atomically(path, openmm.XmlSerializer.serialize(state))
    return openmm.XmlSerializer.deserialize(path.read_text())


def equilibrium_run(
    topology: app.Topology,
    system: openmm.System,
    start: openmm.State,
    out: Path,
    ps: float,
    platform: openmm.Platform,
) -> Path:
    """A DCD trajectory of ps from the start; written anew unless it is there in full."""
    whole = out / f"md-{ps:g}.dcd"
    if whole.is_file():
        return whole
    simulation = app.Simulation(topology, system, integrator(), platform, precision(platform))
    simulation.context.setPositions(start.getPositions())
    simulation.context.setVelocities(start.getVelocities())
    steps, part = round(ps / STEP_PS), out / "md.part"
    simulation.reporters.append(app.DCDReporter(str(part), round(FRAME_PS / STEP_PS)))
    simulation.reporters.append(
        app.StateDataReporter(
            sys.stderr,
            max(1, steps // 20),
            progress=True,
            remainingTime=True,
            temperature=True,
            totalSteps=steps,
        )
    )
    simulation.step(steps)
    simulation.reporters.clear()
    return part.rename(whole)


if __name__ == "__main__":
    main()
