"""What a run does, stage by stage: the presets as one table of ensembles, times and couplings.

Drude oscillators at 1 K drain heat from flexible molecules, so a weak thermostat lets the atoms cool.
Measured on 90 flexible SWM4-NDP waters (1 fs, target 298 K, 10 to 14 ps each, +- 5 K; half a step before the
positions, which flatters by some 1 %, phyff.md.temperature):

    friction, Drude friction (1/ps)   5, 20   2, 10   1, 20   1, 5   1, 2   0.5, 20   0.2, 20   0.1, 20
    atoms (K)                           299     296     278    300    302       256       238       219
    Drudes (K)                            9      10       6     11     19         5         4         3

So the thermostat of a stage is warmer than its target, by what the oscillators of the stage before say
(phyff.md.temperature). DrudeNoseHooverIntegrator (10 and 40/ps, hard wall) turned not-a-number within 2 ps.
So transport uses Langevin dynamics with 1/ps on the atoms and 5/ps on the Drudes. It slows diffusion by
D friction m / (kT), 1 to 2 % for carbonates and PF6-, and it has no memory, so a restart continues the same
dynamics.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from phyff.errors import InputError

HEAT_K = 75.0
"""How much hotter the mixing stage is: molecules trade places several times faster."""
SQUEEZE_BAR = 1000.0
"""Extra pressure while hot: it cancels most of the thermal expansion of the mixing stage."""
TRANSPORT_FRICTION = 1.0
"""1/ps, real atoms, in the stages that transport properties are computed from and the ones before them."""
TRANSPORT_DRUDE_FRICTION = 5.0
"""1/ps, Drude oscillators, in the same stages."""
SPREAD_THRESHOLD = 60.0
"""kJ/mol/nm, three times the force error that the training of the neural term tolerates (20). In LP30 a
committee trained on dimers alone spreads by 30 at the worst atom of half the molecules, and by 120 where Li+
touches oxygen in ways it has not seen; on its training dimers by less than 18 in half of them, by less than
80 in nine of ten."""


@dataclass(frozen=True)
class Stage:
    """One stretch of dynamics.

    Attributes:
        name: also names the checkpoint `state-<name>.xml`.
        ensemble: "NVT" or "NPT".
        ps: length in ps.
        timestep_fs: integration step in fs.
        friction: Langevin friction of the real atoms in 1/ps.
        drude_friction: Langevin friction of the Drude oscillators in 1/ps.
        heat_K: added to the target temperature.
        squeeze_bar: added to the target pressure.
        log: file of the thermodynamic rows.
        trajectory: DCD file of the real atoms, or None.
        begins_from: stage whose final state this one starts from; None means the stage before.
        fresh_velocities: draw new Maxwell-Boltzmann velocities at the start.
        at_mean_density: start by scaling the box to the mean volume of the density stage.
        lowered_barriers: bonds that turn slowly turn freely (phyff.md.barriers).
    """

    name: str
    ensemble: str
    ps: float
    log: str
    timestep_fs: float = 1.0
    friction: float = 5.0
    drude_friction: float = 20.0
    heat_K: float = 0.0
    squeeze_bar: float = 0.0
    trajectory: str | None = None
    begins_from: str | None = None
    fresh_velocities: bool = False
    at_mean_density: bool = False
    lowered_barriers: bool = False

    @property
    def steps(self) -> int:
        """Number of integration steps."""
        return round(1000.0 * self.ps / self.timestep_fs)

    @property
    def counts(self) -> bool:
        """Whether properties are computed from it: density and transport."""
        return self.name == "density" or self.trajectory is not None


@dataclass(frozen=True)
class CommitteeCheck:
    """How a run watches the committee of its neural term, in the stages that count.

    Attributes:
        threshold: a molecule is uncertain where the force on one of its atoms spreads more, kJ/mol/nm.
        interval_ps: between checks; one costs 3 to 4 evaluations of the network, and a ps has 1000.
        frames: with uncertain molecules that are saved of a stage, at most; more if it was made longer.
    """

    threshold: float = SPREAD_THRESHOLD
    interval_ps: float = 1.0
    frames: int = 50


@dataclass(frozen=True)
class Settings:
    """Everything that decides the physics of a run; a run directory belongs to one Settings.

    Attributes:
        preset: name of the preset it came from.
        atoms: suggested number of real atoms in the box.
        stages: in order of execution.
        temperature_K, pressure_bar: target state.
        cutoff_nm: real-space cut-off.
        packing_ratio: density of the packed box over the estimated density.
        minimise_iterations: at most this many L-BFGS iterations, in each of the two passes.
        log_ps, frame_ps: spacing of thermodynamic rows and of trajectory frames.
        guard_ps: spacing of the sanity checks.
        checkpoint_s: wall time between checkpoints in s (not part of the physics).
        seed: of packing, velocities, thermostat and barostat.
        committee: how the committee of the neural term is watched, None without one.
    """

    preset: str
    atoms: int
    stages: tuple[Stage, ...]
    temperature_K: float = 298.15
    pressure_bar: float = 1.0
    cutoff_nm: float = 0.7
    packing_ratio: float = 0.87
    minimise_iterations: int = 300
    log_ps: float = 0.1
    frame_ps: float = 0.05
    guard_ps: float = 1.0
    checkpoint_s: float = field(default=120.0, compare=False)
    seed: int = 1
    committee: CommitteeCheck | None = None

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage.ps < self.log_ps or (stage.trajectory and stage.ps < self.frame_ps):
                raise InputError(
                    f"stages: {stage.name} is shorter than one log row or frame; make it longer."
                )

    def physics(self) -> dict[str, Any]:
        """The settings as plain JSON data, without those that change no number."""
        data = asdict(self)
        del data["checkpoint_s"]
        data["stages"] = [asdict(stage) for stage in self.stages]
        return data

    def interval(self, spacing_ps: float, stage: Stage) -> int:
        """Steps of the stage between events that lie spacing_ps apart."""
        return max(1, round(1000.0 * spacing_ps / stage.timestep_fs))

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def can_grow(self) -> tuple[str, ...]:
        """Names of the stages that may become longer in a run that is there: transport, or, where there is
        none, the density; nothing but results depends on them."""
        return tuple(s.name for s in self.stages if s.trajectory is not None) or ("density",)

    def longer(self, times: float) -> "Settings":
        """The same settings with the stages `can_grow` so many times as long."""
        if times < 1.0:
            raise InputError(f"longer: {times:g} would shorten the run; give a number from 1 up.")
        return replace(
            self,
            stages=tuple(
                replace(s, ps=round(s.ps * times, 3)) if s.name in self.can_grow else s for s in self.stages
            ),
        )


def _stages(
    warmup: float,
    mix: float,
    equilibrate: float,
    density: float,
    settle: float = 0.0,
    transport: float = 0.0,
    replicas: int = 0,
) -> tuple[Stage, ...]:
    """The common recipe; arguments are lengths in ps. Later replicas are shuffled hot first; without any, the
    run ends with the density."""
    hot = {"heat_K": HEAT_K, "squeeze_bar": SQUEEZE_BAR}
    weak = {"friction": TRANSPORT_FRICTION, "drude_friction": TRANSPORT_DRUDE_FRICTION}
    stages = [
        Stage("warmup", "NVT", warmup, "warmup.csv", timestep_fs=0.5, friction=20.0, fresh_velocities=True),
        Stage("mix", "NPT", mix, "mix.csv", lowered_barriers=True, **hot),  # type: ignore[arg-type]
        Stage("equilibrate", "NPT", equilibrate, "equilibrate.csv", lowered_barriers=True),
        Stage("density", "NPT", density, "npt.csv"),
    ]
    for replica in range(1, replicas + 1):
        tag = "" if replica == 1 else f"-{replica}"
        if replica == 1:
            stages.append(
                Stage("settle", "NVT", settle, "settle.csv", at_mean_density=True, **weak)  # type: ignore[arg-type]
            )
        else:
            stages += [
                Stage(
                    f"shuffle{tag}",
                    "NVT",
                    mix,
                    f"shuffle{tag}.csv",
                    heat_K=HEAT_K,
                    begins_from="settle",
                    fresh_velocities=True,
                    lowered_barriers=True,
                ),
                Stage(
                    f"settle{tag}",
                    "NVT",
                    equilibrate,
                    f"settle{tag}.csv",
                    lowered_barriers=True,
                    **weak,  # type: ignore[arg-type]
                ),
            ]
        stages.append(
            Stage(
                f"transport{tag}",
                "NVT",
                transport,
                f"nvt{tag}.csv",
                trajectory=f"nvt{tag}.dcd",
                **weak,  # type: ignore[arg-type]
            )
        )
    return tuple(stages)


PRESETS: dict[str, Settings] = {
    #                                     ps: warmup  mix  equilibrate  density  settle  transport  replicas
    "quick": Settings("quick", 500, _stages(2.0, 4.0, 12.0, 30.0, 1.0, 9.0, 1)),
    "density": Settings("density", 500, _stages(2.0, 4.0, 20.0, 180.0)),
    "short": Settings("short", 500, _stages(2.0, 4.0, 20.0, 80.0, 4.0, 400.0, 1), frame_ps=0.1),
    "standard": Settings(
        "standard", 1500, _stages(5.0, 100.0, 150.0, 500.0, 20.0, 2000.0, 1), log_ps=0.2, frame_ps=0.2
    ),
    "production": Settings(
        "production", 3000, _stages(10.0, 500.0, 500.0, 2000.0, 50.0, 20000.0, 3), log_ps=0.2, frame_ps=1.0
    ),
}


def preset(name: str, **changes: Any) -> Settings:
    """A preset with some settings replaced, e.g. `preset("quick", temperature_K=313.15)`.

    Raises InputError for an unknown preset or settings that make no sense.
    """
    if name not in PRESETS:
        raise InputError(f"preset: {name!r} is unknown; choose one of {', '.join(PRESETS)}.")
    settings = replace(PRESETS[name], **changes)
    checks = [
        ("temperature_K", 100.0, 1000.0, "K"),
        ("pressure_bar", 1e-3, 1e5, "bar"),
        ("cutoff_nm", 0.3, 2.0, "nm"),
        ("packing_ratio", 0.3, 1.0, ""),
    ]
    for key, low, high, unit in checks:
        value = getattr(settings, key)
        if not low <= value <= high:
            raise InputError(
                f"{key}: {value} is out of range; give a number from {low:g} to {high:g} {unit}".strip()
            )
    return settings


def stage_table(settings: Settings) -> list[dict[str, Any]]:
    """One row a stage: name, ensemble, ps, timestep_fs, steps, temperature_K, pressure_bar, friction,
    files."""
    return [
        {
            "name": stage.name,
            "ensemble": stage.ensemble,
            "ps": stage.ps,
            "timestep_fs": stage.timestep_fs,
            "steps": stage.steps,
            "temperature_K": settings.temperature_K + stage.heat_K,
            "pressure_bar": settings.pressure_bar + stage.squeeze_bar if stage.ensemble == "NPT" else None,
            "friction_per_ps": stage.friction,
            "drude_friction_per_ps": stage.drude_friction,
            "log": stage.log,
            "trajectory": stage.trajectory,
        }
        for stage in settings.stages
    ]
