"""The parameter file: typed, frozen, strict; errors name the place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bmask.errors import ParamsError
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.params import Params, load_params, parse_params
from bmask.tracking.resolving import resolve

ROOT = Path(__file__).parents[2]


def refused(tree) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params(tree, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    assert "\n" not in message
    return message


def network(**options) -> dict:
    return {"models": {"m": {"network": options}}}


# What is accepted.


def test_nothing_at_all_gives_the_defaults():
    assert parse_params({}) == Params()


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.name) for p in [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]]
)
def test_the_files_that_come_with_bmask_are_accepted_and_train_something(path):
    assert load_params(path).models


def test_the_embedded_default_states_every_number_there_is():
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    expected = Params().model_dump(by_alias=True)
    for section, values in expected.items():
        if section != "models":
            assert set(tree[section]) == set(values), section


@pytest.mark.parametrize("profile", sorted(path.name for path in (ROOT / "profiles").iterdir()))
def test_a_profile_is_valid_and_goes_on_from_files_that_are_there(profile):
    params = load_params(ROOT / "profiles" / profile)
    assert params.models
    for model in params.models.values():
        assert not model.schedule.warm_start or resolve(model.schedule.warm_start).is_file()
        assert model.schedule.constant_epochs <= model.schedule.epochs


def test_the_paper_profile_holds_the_published_recipes():
    params = load_params(ROOT / "profiles/paper.yaml")
    assert params.train.image_size == 256
    assert params.ingest.test == 0.2
    of = {}
    for model in params.models.values():
        of[model.network.system, getattr(model.network, "scheme", 0)] = model
    published = {("cyclegan", 0): (1, 150, 12), ("attentiongan", 1): (4, 200, 10), ("attentiongan", 2): (4, 200, 10)}
    for key, (batch, epochs, cycle) in published.items():
        schedule, options = of[key].schedule, of[key].network
        assert (schedule.batch_size, schedule.epochs, schedule.constant_epochs) == (batch, epochs, 100)
        assert (schedule.lr, schedule.beta1, schedule.beta2) == (1e-4, 0.5, 0.999)
        assert (options.w_cycle, options.w_identity) == (cycle, 5)
        assert (options.filters, options.discriminator_filters, options.discriminator_layers) == (64, 64, 3)
    assert of["cyclegan", 0].network.blocks == of["attentiongan", 2].network.blocks == 9
    assert of["attentiongan", 1].network.blocks == 6
    assert of["attentiongan", 2].network.masks == 10
    for scheme in (1, 2):
        options = of["attentiongan", scheme].network
        assert options.guided
        assert options.w_gan == 0.5
        assert options.w_pixel == 1
        assert options.w_tv == pytest.approx(4 * 256 * 255 * 1e-6, rel=0.05)  # published: 1e-6 times the sum


def test_the_paper_profile_states_every_weight():
    tree = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text(encoding="utf-8"))
    for model in tree["models"].values():
        options = CycleGANOptions if model["network"]["system"] == "cyclegan" else AttentionGANOptions
        weights = {field.name for field in dataclasses.fields(options) if field.name.startswith("w_")}
        # These two are for pasted masks, which the paper does not have.
        assert weights - {"w_reconstruction", "w_region"} <= set(model["network"])
        assert not model["network"].get("pasted")


@given(lr=st.floats(1e-8, 1.0), epochs=st.integers(1, 500), masks=st.integers(2, 30), cycle=st.floats(0, 100))
def test_values_arrive_as_they_were_written(lr, epochs, masks, cycle):
    tree = network(system="attentiongan", masks=masks, w_cycle=cycle)
    tree["models"]["m"]["schedule"] = {"lr": lr, "epochs": epochs, "constant_epochs": epochs // 2}
    model = parse_params(yaml.safe_load(yaml.safe_dump(tree))).models["m"]
    assert (model.schedule.lr, model.schedule.epochs) == (lr, epochs)
    assert (model.network.masks, model.network.w_cycle) == (masks, cycle)


def test_the_system_chooses_the_options():
    assert isinstance(parse_params(network(system="cyclegan")).models["m"].network, CycleGANOptions)
    assert isinstance(parse_params(network(system="attentiongan")).models["m"].network, AttentionGANOptions)


def test_numbers_in_yamls_scientific_notation_are_numbers():
    """YAML 1.1 reads 1e-4 as text, YAML 1.2 as a number; whoever writes it means the number."""
    tree = {**network(system="cyclegan")}
    tree["models"]["m"]["schedule"] = yaml.safe_load("lr: 1e-4")
    assert parse_params(tree).models["m"].schedule.lr == 1e-4


# What is refused.


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"colour": 1}, "colour"),
        ({"ingest": {"colour": 1}}, "ingest.colour"),
        ({"ingest": {"drawn": {"colour": 1}}}, "ingest.drawn.colour"),
        ({"models": {"m": {"network": {"system": "cyclegan"}, "colour": 1}}}, "models.m.colour"),
        (network(system="cyclegan", colour=1), "models.m.network.colour"),
        (network(system="cyclegan", w_tv=1), "models.m.network.w_tv"),
        ({"register_": {}}, "register_"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_key_is_refused_with_its_place(tree, place):
    assert f"{place} is not a parameter; remove it or correct its name" in refused(tree)


@pytest.mark.parametrize(
    ("tree", "place", "value"),
    [
        ({"train": {"threads": "two"}}, "train.threads", "two"),
        ({"train": {"threads": 1.5}}, "train.threads", "1.5"),
        ({"train": {"threads": True}}, "train.threads", "True"),
        ({"train": {"seed": None}}, "train.seed", "None"),
        ({"train": {"precision": "fp16"}}, "train.precision", "fp16"),
        ({"train": []}, "train", "[]"),
        ({"ingest": {"fit": "squash"}}, "ingest.fit", "squash"),
        ({"ingest": {"private": "perhaps"}}, "ingest.private", "perhaps"),
        ({"evaluate": {"baselines": ["identity", "magic"]}}, "evaluate.baselines.1", "magic"),
        (network(system="dualgan"), "models.m.network", "dualgan"),
        (network(filters=8), "models.m.network", "`system` must be one of attentiongan, cyclegan"),
        (network(system="attentiongan", scheme=3), "models.m.network.scheme", "3"),
        (network(system="attentiongan", masks="ten"), "models.m.network.masks", "ten"),
        ({"models": {"m": {}}}, "models.m.network", "{}"),
        ({"models": {"My Model": {"network": {"system": "cyclegan"}}}}, "models.My Model", "My Model"),
        ([1], "top level", "[1]"),
        ("text", "top level", "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_type_is_refused_with_its_place_and_what_was_there(tree, place, value):
    message = refused(tree)
    assert f"{place}" in message
    assert value in message


IMPOSSIBLE = [
    ({"ingest": {"test": 1.5}}, "ingest.test"),
    ({"ingest": {"test": -0.1}}, "ingest.test"),
    ({"ingest": {"load_size": 2}}, "ingest.load_size"),
    ({"train": {"ema": 1.0}}, "train.ema"),
    ({"train": {"checkpoint_every": 0}}, "train.checkpoint_every"),
    ({"train": {"image_size": 8}}, "train.image_size"),
    ({"train": {"image_size": 128}, "ingest": {"load_size": 72}}, "train.image_size 128 exceeds ingest.load_size 72"),
    ({"ingest": {"revision": "v1"}}, "ingest: revision v1 needs a repository; set ingest.repository"),
    *[
        ({"ingest": {"repository": ".", "source": source}}, f"ingest: source {source} {why}")
        for source, why in [
            ("embedded", "is not a path inside a repository; correct it or remove repository"),
            ("s3://bucket/prefix", "is not a path inside a repository; correct it or remove repository"),
            ("/photos", "leads out of the repository; name a folder inside it"),
            ("a/../../photos", "leads out of the repository; name a folder inside it"),
        ]
    ],
    ({"s3": {"endpoint": "localhost:9000"}}, "s3.endpoint: is not an http:// or https:// address; write it like"),
    ({"s3": {"endpoint": "http://"}}, "s3.endpoint: is not an http:// or https:// address; write it like"),
    ({"s3": {"checksums": "never"}}, "s3.checksums"),
    ({**network(system="cyclegan"), "train": {"image_size": 66}}, "train.image_size 66 is not a multiple of 4"),
    ({"models": {"telea": {"network": {"system": "cyclegan"}}}}, "models.telea has the name of one of evaluate.base"),
    ({**network(system="inpainting"), "train": {"image_size": 68}}, "train.image_size 68 is not a multiple of 32"),
    ({"masks": {"filters": 12}}, "masks.filters"),
    ({"register": {"confidence": 1.0}}, "register.confidence"),
    ({"evaluate": {"attention_threshold": 1.0}}, "evaluate.attention_threshold"),
    *[
        ({"models": {"m": {"network": {"system": "cyclegan"}, "schedule": schedule}}}, f"models.m.schedule{key}")
        for schedule, key in [
            ({"lr": 0}, ".lr"),
            ({"lr": -1e-4}, ".lr"),
            ({"lr": float("nan")}, ".lr"),
            ({"lr": float("inf")}, ".lr"),
            ({"batch_size": 0}, ".batch_size"),
            ({"beta1": 1.0}, ".beta1"),
            ({"epochs": 10, "constant_epochs": 20}, ": constant_epochs 20 exceeds epochs 10; lower it"),
        ]
    ],
    *[
        (network(system="cyclegan", **options), "models.m.network")
        for options in [
            {"filters": 0},
            {"blocks": -1},
            {"discriminator_layers": 0},
            {"w_cycle": -1.0},
            {"w_gan": float("nan")},
        ]
    ],
    *[
        (network(system="attentiongan", **options), "models.m.network")
        for options in [
            {"masks": 1},
            {"w_tv": -0.1},
            {"curriculum_ratio": 1.5},
            {"curriculum_start": -0.5},
            {"scheme": 1, "filters": 3},  # the pixel shuffle halves the filters
        ]
    ],
]


@pytest.mark.parametrize(("tree", "place"), IMPOSSIBLE, ids=[str(tree) for tree, _ in IMPOSSIBLE])
def test_an_impossible_value_is_refused_with_its_place(tree, place):
    assert place in refused(tree)


def test_a_discriminator_too_deep_for_the_pictures_is_refused():
    """Its last norm would see one number per plane and turn it into 0."""
    tree = {**network(system="cyclegan", discriminator_layers=3), "train": {"image_size": 16}}
    message = refused(tree)
    assert "discriminator_layers" in message
    assert "16" in message
    parse_params({**tree, "train": {"image_size": 24}})
    parse_params({**network(system="cyclegan", discriminator_layers=2), "train": {"image_size": 16}})


def test_passwords_are_refused_and_not_repeated():
    for url in (
        "https://me:secret-word@host/photos.git",
        "https://secret-word@host/photos.git",
        "ssh://a:secret-word@b",
    ):
        message = refused({"ingest": {"source": "photos", "repository": url}})
        assert "ingest: repository holds a password or token; leave it to git's credential helper" in message
        assert "secret-word" not in message
    message = refused({"s3": {"endpoint": "http://me:secret-word@host:9000"}})
    assert "s3.endpoint: holds a user name or password; set AWS_ACCESS_KEY_ID" in message
    assert "secret-word" not in message


@pytest.mark.parametrize("url", ["git@host:me/p.git", "ssh://git@host/p.git", "https://host/p.git", "../p"])
def test_a_repository_may_be_named_in_every_way_of_git(url):
    assert parse_params({"ingest": {"source": "photos", "repository": url}}).ingest.repository == url


def test_every_mistake_is_told_at_once():
    message = refused({"train": {"threads": "two", "colour": 1}, "ingest": {"test": 7}})
    for place in ("train.threads", "train.colour", "ingest.test"):
        assert place in message


def test_a_file_that_is_not_there_or_not_yaml_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params\.yaml does not exist; run in the folder that holds it"):
        load_params()
    Path("broken.yaml").write_text("train: [1\nmodels: {", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"broken\.yaml is not YAML") as caught:
        load_params("broken.yaml")
    assert "\n" not in str(caught.value)
    Path("latin.yaml").write_bytes("ingest: {masked: größe}".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"latin\.yaml"):
        load_params("latin.yaml")
    Path("folder.yaml").mkdir()
    with pytest.raises(ParamsError, match=r"folder\.yaml"):
        load_params("folder.yaml")
    Path("twice.yaml").write_text("train: {seed: 1, colour: 2}", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"twice\.yaml: train\.colour"):
        load_params("twice.yaml")


def test_an_empty_file_gives_the_defaults(tmp_path):
    (tmp_path / "p.yaml").write_text("# nothing yet\n")
    assert load_params(tmp_path / "p.yaml") == Params()


# Frozen.


def test_nothing_can_be_changed_afterwards():
    params = parse_params(network(system="cyclegan"))
    for section, key in [(params, "train"), (params.train, "seed"), (params.models["m"].schedule, "lr")]:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.models["m"].network.filters = 5
