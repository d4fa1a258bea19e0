"""Molecular dynamics: packing, staged equilibration, density, transport; a kill loses nothing."""

from phyff.md.packing import PackedSpecies, pack
from phyff.md.protocol import PRESETS, CommitteeCheck, Settings, Stage, preset, stage_table
from phyff.md.run import simulate
from phyff.md.run_state import About, RunState

__all__ = [
    "PRESETS",
    "About",
    "CommitteeCheck",
    "PackedSpecies",
    "RunState",
    "Settings",
    "Stage",
    "pack",
    "preset",
    "simulate",
    "stage_table",
]
