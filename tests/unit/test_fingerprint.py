"""What makes another training, and what does not."""

from __future__ import annotations

from dataclasses import asdict, make_dataclass

import pytest
from pydantic import create_model

from bmask.fingerprint import LENGTH, PLACE, WATCHED, fingerprint, identity, short
from bmask.params.sections import Schedule, Train
from bmask.reach import code_of_training
from tiny import tiny_params


def of(**changes) -> dict:
    params = tiny_params(**changes)
    return fingerprint(params, params.models["unmasker"], "the photos", {})


def test_neither_where_checkpoints_are_nor_how_long_it_trains_makes_another_training():
    same = [of(), of(train={"checkpoints": "s3://bucket/prefix"}), of(epochs=9, constant_epochs=5)]
    assert same[0] == same[1] == same[2]
    assert "s3" not in str(same[1])
    params = tiny_params()
    longer = tiny_params(epochs=9)
    recipes = (params.models["unmasker"], longer.models["unmasker"])
    assert identity(same[0], recipes[0]) != identity(same[0], recipes[1])


PLACES = [{"precision": "bf16"}, {"processes": 2}, {"processes": "auto"}, {"threads": 2}, {"device": "auto"}]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_where_and_in_which_precision_it_runs_does_not_make_another_training(place):
    recipe = tiny_params().models["unmasker"]
    assert of(train=place) == of()
    assert identity(of(train=place), recipe) == identity(of(), recipe)


def other_than(value: object) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool | str):
        return (not value) if isinstance(value, bool) else f"{value}x"
    return value / 2 if isinstance(value, float) else value + 1


@pytest.mark.parametrize("section", [Train, Schedule], ids=lambda section: section.__name__)
def test_every_option_counts_but_those_that_are_named_as_harmless(section):
    """Values bypass the checks: the test only asks whether the fingerprint looks at the field."""
    harmless = {*PLACE, *WATCHED} if section is Train else {*LENGTH}
    params = tiny_params()
    recipe = params.models["unmasker"]
    whole = params.train if section is Train else recipe.schedule
    for field, value in whole:
        other = whole.model_copy(update={field: other_than(value)})
        here = params.model_copy(update={"train": other}) if section is Train else params
        there = recipe if section is Train else recipe.model_copy(update={"schedule": other})
        same = fingerprint(here, there, "the photos", {}) == of()
        assert same == (field in harmless), field
    assert harmless <= set(section.model_fields), "a name that no field has any more"


def test_an_option_that_nobody_thought_of_makes_another_training():
    """A field that a later version adds, with its default and with another value."""
    params = tiny_params()
    recipe = params.models["unmasker"]
    found = [of()]
    for value in (0, 1):
        train = create_model("Train", __base__=Train, forgotten=(int, value))(**params.train.model_dump())
        found.append(fingerprint(params.model_copy(update={"train": train}), recipe, "the photos", {}))
        schedule = create_model("Schedule", __base__=Schedule, forgotten=(int, value))(**recipe.schedule.model_dump())
        found.append(fingerprint(params, recipe.model_copy(update={"schedule": schedule}), "the photos", {}))
        options = make_dataclass("Options", [("forgotten", int, value)], bases=(type(recipe.network),), frozen=True)
        network = options(**asdict(recipe.network))
        found.append(fingerprint(params, recipe.model_copy(update={"network": network}), "the photos", {}))
    assert len({short(each) for each in found}) == 7


@pytest.mark.parametrize("changes", [{"train": {"seed": 2}}, {"train": {"compile": True}}, {"lr": 2e-3}])
def test_what_decides_the_bits_makes_another_training(changes):
    assert short(of(**changes)) != short(of())


def test_photos_and_the_weights_to_begin_from_count(tmp_path):
    params = tiny_params()
    recipe = params.models["unmasker"]
    (tmp_path / "g").write_bytes(b"weights")
    (tmp_path / "h").write_bytes(b"other weights")
    found = [fingerprint(params, recipe, "photos", {"ab": tmp_path / name}) for name in "gh"]
    found += [fingerprint(params, recipe, data, {}) for data in ("photos", "others")]
    assert len({short(each) for each in found}) == 4


def test_the_code_of_its_own_system_counts():
    networks = {"scheme": {"system": "attentiongan"}, "cycle": {"system": "cyclegan"}}
    params = tiny_params(networks)
    for name, network in networks.items():
        found = fingerprint(params, params.models[name], "the photos", {})
        assert found["code"] == code_of_training(network["system"])


def test_how_a_generator_frames_what_it_serves_makes_another_training():
    params = tiny_params()
    padded = params.model_copy(update={"ingest": params.ingest.model_copy(update={"fit": "pad"})})
    (recipe,) = params.models.values()
    assert fingerprint(params, recipe, "photos", {}) != fingerprint(padded, recipe, "photos", {})
