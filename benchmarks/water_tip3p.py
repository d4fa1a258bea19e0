"""TIP3P water, end to end with phyff's own analysis, against published values of the same model.

    python benchmarks/water_tip3p.py [PS] [PLATFORM]

216 rigid waters at 0.985 g/cm3 and 298 K. An equilibrium run of PS (default 200) goes through `phyff.analyze`
as a trajectory from elsewhere (diffusion, dielectric constant), driven ones through phyff.md.viscosity.
Published: viscosity 0.31 cP and infinite-size diffusion about 6e-9 m2/s (Yeh and Hummer, J. Phys. Chem. B
108, 15873 (2004)), dielectric constant 97 +- 7 (Hoechtl et al., J. Chem. Phys. 109, 4927 (1998)).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from phyff.analyze import Conditions, analyze
from phyff.md.driven import Driving
from phyff.md.viscosity import shear_flow
from phyff.openmm.platforms import platform_named, precision
from phyff.properties import Property
from phyff.properties.trajectory import Run
from phyff.properties.viscosity import viscosity

EDGE_NM, TEMPERATURE, FRICTION, STEP_PS, FRAME_PS = 1.873, 298.0, 0.1, 0.002, 0.1
GEOMETRY_NM = [[0.0, 0.0, 0.0], [0.09572, 0.0, 0.0], [-0.023999, 0.092663, 0.0]]
CHARGES = [-0.834, 0.417, 0.417]


def water_box() -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Topology, system and lattice positions (n, 3) nm."""
    rng = np.random.default_rng(1)
    sites = EDGE_NM / 6.0 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    topology = app.Topology()
    topology.setPeriodicBoxVectors(np.eye(3) * EDGE_NM)
    chain, xyz = topology.addChain(), []
    for site in sites:
        residue = topology.addResidue("HOH", chain)
        atoms = [
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")
        ]
        for hydrogen in atoms[1:]:
            topology.addBond(atoms[0], hydrogen)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        xyz.append(site + np.array(GEOMETRY_NM) @ turn)
    system = app.ForceField("tip3p.xml").createSystem(
        topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, rigidWater=True
    )
    return topology, system, np.concatenate(xyz)


def integrator() -> openmm.Integrator:
    """The same weak Langevin dynamics everywhere."""
    made = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP_PS)
    made.setRandomNumberSeed(7)
    return made


def main() -> None:
    """Simulate, analyse, print one row a property."""
    ps = float(sys.argv[1]) if len(sys.argv) > 1 else 200.0
    platform = platform_named(sys.argv[2] if len(sys.argv) > 2 else None)
    topology, system, xyz = water_box()
    simulation = app.Simulation(topology, system, integrator(), platform, precision(platform))
    simulation.context.setPositions(xyz)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    simulation.step(round(20.0 / STEP_PS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = simulation.context.getState(positions=True, velocities=True)
        with (folder / "top.pdb").open("w") as file:
            app.PDBFile.writeFile(topology, start.getPositions(), file)
        every = round(FRAME_PS / STEP_PS)
        simulation.reporters.append(app.DCDReporter(str(folder / "md.dcd"), every))
        simulation.step(round(ps / STEP_PS))
        simulation.reporters.clear()
        driving = Driving(0.6 * ps, (0.1, 0.2, 0.3), 5.0, platform.getName())
        shear_flow(system, integrator, start, folder, driving)
        flow, _ = viscosity(Run(folder, {}, ()))
        assert flow is not None
        found = analyze(
            folder / "md.dcd",
            folder / "top.pdb",
            folder,
            {"HOH": "O"},
            {"HOH": CHARGES},
            Conditions(temperature=TEMPERATURE, frame_ps=FRAME_PS, viscosity_cp=flow.value),
        ).properties
    rows: dict[str, Property] = {"viscosity": flow} | {
        key: found[key] for key in ("self_diffusion_HOH", "self_diffusion_HOH_box", "dielectric_constant")
    }
    for key, p in rows.items():
        print(f"| {key} | {p.value:.3g} ± {p.error:.2g} {p.unit} | {p.verdict} |")


if __name__ == "__main__":
    main()
