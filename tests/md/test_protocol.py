import pytest

from phyff.errors import InputError
from phyff.md import PRESETS, preset, stage_table


def test_every_preset_ends_in_transport_or_density_and_names_its_stages_once():
    for settings in PRESETS.values():
        names = [stage.name for stage in settings.stages]
        assert len(set(names)) == len(names)
        last = "density" if settings.preset == "density" else "transport"
        assert names[-1].startswith(last)
        assert ({"npt.csv"} if last == "density" else {"npt.csv", "nvt.csv"}) <= {
            s.log for s in settings.stages
        }
        for stage in settings.stages:
            assert stage.steps % settings.interval(settings.log_ps, stage) == 0
            assert stage.steps % settings.interval(settings.frame_ps, stage) == 0


def test_quick_fits_nine_minutes_at_eight_milliseconds_a_step():
    assert sum(stage.steps for stage in PRESETS["quick"].stages) * 0.008 < 9 * 60


def test_production_has_three_replicas_with_their_own_files():
    files = [stage.trajectory for stage in PRESETS["production"].stages if stage.trajectory]
    assert files == ["nvt.dcd", "nvt-2.dcd", "nvt-3.dcd"]


def test_the_stage_table_is_explicit():
    rows = {row["name"]: row for row in stage_table(preset("quick", temperature_K=313.15))}
    assert rows["mix"]["temperature_K"] > 313.15 and rows["mix"]["pressure_bar"] > 1.0
    assert rows["density"]["temperature_K"] == 313.15 and rows["density"]["pressure_bar"] == 1.0
    assert rows["transport"]["pressure_bar"] is None


@pytest.mark.parametrize("changes", [{"temperature_K": -3.0}, {"pressure_bar": 0.0}, {"cutoff_nm": 8.0}])
def test_senseless_settings_name_the_field(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        preset("quick", **changes)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match="quick, density, short, standard, production"):
        preset("fast")


def test_longer_lengthens_transport_or_where_there_is_none_the_density():
    for name, stages in (
        ("density", {"density"}),
        ("quick", {"transport"}),
        ("production", {"transport", "transport-2", "transport-3"}),
    ):
        before = preset(name)
        ratio = {a.name: b.ps / a.ps for a, b in zip(before.stages, before.longer(5.0).stages, strict=True)}
        assert ratio == {stage.name: 5.0 if stage.name in stages else 1.0 for stage in before.stages}
    assert preset("quick").longer(1.0) == preset("quick")
    with pytest.raises(InputError, match=r"longer: 0\.5 would shorten"):
        preset("quick").longer(0.5)
