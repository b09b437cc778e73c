"""params.yaml as typed, frozen sections. Unknown keys, wrong types and impossible values are refused with their place.

One section per stage, named like the stage. `models` names the trainings: each is a recipe of one translation system,
and one more line there is one more training in the pipeline.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bmask.errors import ParamsError
from bmask.gan.options import AttentionGANOptions, CycleGANOptions

Positive = Annotated[int, Field(strict=True, ge=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Faces(Section):
    """The embedded set of drawn faces, used when ingest.source is `embedded`."""

    masked: Positive = 600
    unmasked: Positive = 600
    size: Annotated[int, Field(strict=True, ge=32, le=1024)] = 96
    hard: Share = 0.15  # share of the masked pictures that show a labelled failure case
    seed: Count = 7


class Ingest(Section):
    source: str = "embedded"  # a folder with the two domain folders, s3://bucket/prefix, or `embedded`
    repository: str = ""  # a git repository, DVC-tracked or not, as path or URL: then source is a folder inside it
    revision: str = ""  # its commit, tag or branch; HEAD when empty
    masked: str = "masked"  # the folders' names
    unmasked: str = "unmasked"
    faces: Faces = Faces()
    load_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 72  # side of the stored squares, px
    fit: Literal["crop", "pad"] = "crop"  # a square from the middle, or the whole photo with borders; never squashed
    match_resolution: bool = True  # give both domains the same distribution of effective resolution
    jpeg_quality: Annotated[int, Field(strict=True, ge=0, le=100)] = 0  # above 0: every photo is re-compressed alike
    test: Share = 0.2
    validation: Share = 0.1  # of what is not test
    near_duplicates: Annotated[int, Field(strict=True, ge=0, le=32)] = (
        4  # Hamming distance of 64-bit perceptual hashes within a group
    )
    max_rejected: Share = 0.05  # more refused photos than this fail the stage
    private: bool = False  # keeps every picture of a person out of MLflow and reports

    @model_validator(mode="after")
    def _one_origin(self) -> Ingest:
        if self.revision and not self.repository:
            raise ValueError(f"revision {self.revision} is of no repository; set ingest.repository or remove it")
        if not self.repository:
            return self
        if self.source == "embedded" or self.source.startswith("s3://"):
            raise ValueError(f"source {self.source} is no folder of a repository; correct it or remove repository")
        inside = PurePosixPath(self.source)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"source {self.source} leads out of the repository; name a folder inside it")
        address = urlsplit(self.repository)
        if address.password or (address.scheme in ("http", "https") and address.username):
            raise ValueError("repository holds a password or token; leave it to git's credential helper")
        return self


class Augment(Section):
    copies: Positive = 2  # stored arrays per photo, the photo itself first
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.08  # random zoom in and out, share of the side
    crop: Annotated[float, Field(gt=0, le=1)] = 0.85  # smallest share of the area kept by the random resized crop
    rotate: Annotated[float, Field(ge=0, le=45)] = 6.0  # degrees either way
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.1
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.1
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    seed: Count = 11


class Train(Section):
    """What all trainings share."""

    image_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 64  # side of the random crops, px
    seed: Count = 1
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: Count = 2  # CPU threads; part of the fingerprint, since sums depend on it; 0 takes what torch takes
    pool: Count = 50
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the generators' moving average; 0 switches it off
    samples: Positive = 8  # photos whose translation is shown through time
    sample_every: Positive = 5  # epochs
    checkpoint_every: Positive = 2  # epochs
    log_every: Positive = 20  # steps
    # Outside DVC's outputs: survives a re-run, a kill and a changed epoch count. A folder, or s3://bucket/prefix, which
    # outlives the disk too; the folder `checkpoints` is then the working copy.
    checkpoints: str = "checkpoints"


class Schedule(Section):
    """How long and how fast one model trains."""

    epochs: Positive = 200
    constant_epochs: Count = 100  # then the rate falls linearly to 0 at the end
    batch_size: Positive = 4
    lr: Annotated[float, Field(gt=0)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epoch_photos: Count = 0  # photos in an epoch; 0: as many as the larger domain has
    warm_start: str = ""  # a generator file or a models:/ address to begin from

    @model_validator(mode="after")
    def _decay_fits(self) -> Schedule:
        if self.constant_epochs > self.epochs:
            raise ValueError(f"constant_epochs {self.constant_epochs} exceeds epochs {self.epochs}; lower it")
        return self


class Model(Section):
    """One training: a system with its options, and its schedule."""

    network: Annotated[CycleGANOptions | AttentionGANOptions, Field(discriminator="system")]
    schedule: Schedule = Schedule()


class Judge(Section):
    """The classifier masked/unmasked that scores the systems; trained once per split."""

    filters: Positive = 24
    epochs: Positive = 8
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 2e-3
    seed: Count = 3
    min_accuracy: Share = 0.95  # on validation photos
    min_pasted: Share = 0.9  # unmasked photos with pasted masks that must be called masked
    max_fooled: Share = 0.1  # masked photos with blurred or grey lower faces that may be called unmasked


class Evaluate(Section):
    baselines: tuple[Literal["identity", "mean_face", "inpainting"], ...] = ("identity", "mean_face", "inpainting")
    attention_floor: Annotated[float, Field(ge=0, lt=1)] = 0.1  # below it the photo's own pixel is kept, bit for bit
    bootstrap: Positive = 500  # resamples of groups
    seed: Count = 5
    pictures: Positive = 24  # rows in the report


class Register(Section):
    name: str = "bmask-unmasker"
    min_unmask_rate: Share = 0.5  # lower bound of the interval
    min_upper_ssim: Share = 0.8  # lower bound: the upper face stays as it was
    primary: Literal["kid", "unmask_rate", "upper_ssim"] = "kid"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9  # of the paired bootstrap against the champion


class S3(Section):
    """Where the object storage is. What is empty comes from boto3's own chain, and so do credentials, always."""

    endpoint: str = ""  # http(s)://host:port; empty: AWS_ENDPOINT_URL, else AWS itself
    region: str = ""  # empty: AWS_REGION or the profile's
    path_style: bool = False  # true puts the bucket behind the host: http://host/bucket
    # Some S3-compatible servers refuse the checksum headers that boto3 sends by default.
    checksums: Literal["when_required", "when_supported"] = "when_required"

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str) -> str:
        address = urlsplit(endpoint)
        if endpoint and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("is no http:// or https:// address; write it like http://host:port")
        if "@" in address.netloc:
            raise ValueError("holds a user or password; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        return endpoint


class Params(Section):
    ingest: Ingest = Ingest()
    augment: Augment = Augment()
    train: Train = Train()
    models: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Model] = {}
    judge: Judge = Judge()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(default=Register(), alias="register")
    s3: S3 = S3()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Params:
        if self.train.image_size > self.ingest.load_size:
            raise ValueError(
                f"train.image_size {self.train.image_size} exceeds ingest.load_size {self.ingest.load_size}"
            )
        if self.train.image_size % 4:
            raise ValueError(
                f"train.image_size {self.train.image_size} is not a multiple of 4; the generators halve it twice"
            )
        for name, model in self.models.items():
            layers = model.network.discriminator_layers
            if self.train.image_size < 3 * 2**layers:  # else its last norm sees one number a plane and makes 0 of it
                raise ValueError(
                    f"models.{name}.network.discriminator_layers {layers} needs pictures of {3 * 2**layers} px,"
                    f" train.image_size is {self.train.image_size}; lower the one or raise the other"
                )
        return self


def load_params(path: Path | str = "params.yaml") -> Params:
    """Reads and checks a parameter file.

    Raises:
        ParamsError: the file is missing, not YAML, or a field is unknown, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; run in the folder that holds it or name it with --params") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return parse_params(tree, str(path))


def parse_params(tree: Any, origin: str = "params") -> Params:
    """Checks a tree of plain values. `origin` is named in errors. Raises ParamsError."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError(f"{origin}: " + "; ".join(_sentence(e) for e in error.errors())) from None


def _sentence(error: dict) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "top level"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is not a parameter; remove it or correct its name"
    if error["type"] == "value_error":  # ours: it names what it should and leaves passwords out
        return f"{place}: {error['msg'].removeprefix('Value error, ')}"
    return f"{place}: {error['msg']} (got {error['input']!r})"[:300]
