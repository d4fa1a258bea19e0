"""Stretches of dynamics beside a run: the interrupted goes on, what is there stays, failures have names."""

import io
import signal
from pathlib import Path

import numpy as np
import openmm
import pytest
from rich.console import Console

from phyff.errors import InputError, SimulationError
from phyff.md.driven import Driving, Stretch, run_stretches


def one_particle(observe=None, force: openmm.Force | None = None) -> Stretch:  # type: ignore[no-untyped-def]
    """A particle in a harmonic well; its x every 0.01 ps."""
    system = openmm.System()
    system.addParticle(20.0)
    well = openmm.CustomExternalForce("100*(x^2 + y^2 + z^2)")
    well.addParticle(0)
    system.addForce(well)
    context = openmm.Context(system, integrator(), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions([[0.1, 0.0, 0.0]])
    start = context.getState(positions=True, velocities=True)

    def x(context: openmm.Context) -> float:
        return float(context.getState(positions=True).getPositions(asNumpy=True)._value[0, 0])

    return Stretch("well-1", system, force, start, "x_nm", observe or x, 0.01)


def integrator() -> openmm.Integrator:
    made = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    made.setRandomNumberSeed(3)
    return made


def driving(ps: float) -> Driving:
    return Driving(ps, (1.0,), 0.1, "Reference", Console(file=io.StringIO()))


def rows(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "well-1.csv", delimiter=",", skiprows=1)


def test_a_longer_stretch_goes_on_where_the_shorter_one_ended(tmp_path: Path) -> None:
    run_stretches([one_particle()], integrator, tmp_path, driving(1.0))
    first = rows(tmp_path)
    run_stretches([one_particle()], integrator, tmp_path, driving(0.5))
    assert np.array_equal(rows(tmp_path), first)
    with (tmp_path / "well-1.csv").open("a") as file:
        file.write("1.0100,99.0\n1.0200,")  # what a kill leaves behind the last checkpoint
    run_stretches([one_particle()], integrator, tmp_path, driving(2.0))
    both = rows(tmp_path)
    assert np.array_equal(both[:100], first)
    assert both[:, 0] == pytest.approx(0.01 * np.arange(1, 201))
    assert np.abs(np.diff(both[:, 1])).max() < 0.1  # no jump: it went on from the last state


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path: Path) -> None:
    stretch, calls = one_particle(), []

    def interrupting(context: openmm.Context) -> float:
        calls.append(context.getStepCount())
        if len(calls) == 30:
            signal.raise_signal(signal.SIGINT)
        return stretch.observe(context)

    with pytest.raises(KeyboardInterrupt):
        run_stretches([one_particle(interrupting)], integrator, tmp_path, driving(1.0))
    assert len(rows(tmp_path)) == 30
    run_stretches([one_particle()], integrator, tmp_path, driving(1.0))
    assert rows(tmp_path)[:, 0] == pytest.approx(0.01 * np.arange(1, 101))


def test_the_force_drives_and_progress_is_told(tmp_path: Path) -> None:
    push = openmm.CustomExternalForce("-1000*x")
    push.addParticle(0)
    console = Console(file=io.StringIO())
    told = Driving(2.0, (1.0,), 0.5, "Reference", console)
    run_stretches([one_particle(force=push)], integrator, tmp_path, told)
    assert rows(tmp_path)[:, 1].mean() > 1.0  # the well's minimum is now at 5 nm
    assert "well-1: 2 ps; writes" in console.file.getvalue()  # type: ignore[attr-defined]


def test_not_a_number_stops_a_stretch_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="well-1 turned not-a-number"):
        run_stretches([one_particle(lambda context: float("nan"))], integrator, tmp_path, driving(1.0))


def test_lengths_and_strengths_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="ps: 30 is too short"):
        Driving(30.0, (1.0,))
    with pytest.raises(InputError, match="strengths"):
        Driving(100.0, (0.1, -0.1))
