"""The sections of params.yaml, one for each stage, named like it: types, defaults, and what values make sense."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    field_validator,
    model_validator,
)

from bmask.gan.options import SystemOptions

Positive = Annotated[int, Field(strict=True, ge=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


def _auto_or_count(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"{value!r} is neither auto nor a whole number from 1 on")


AutoOrCount = Annotated[int | Literal["auto"], PlainValidator(_auto_or_count)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Drawn(Section):
    """The embedded set of drawn faces, used when ingest.source is `embedded`."""

    masked: Positive = 600
    unmasked: Positive = 600
    size: Annotated[int, Field(strict=True, ge=32, le=1024)] = 96
    hard: Share = 0.15  # share of the masked pictures that show a labelled failure case
    seed: Count = 7


class Ingest(Section):
    source: str = (
        "embedded"  # a folder with the two domain folders, a .zip or .tar of one, s3://bucket/prefix, `embedded`
    )
    repository: str = ""  # a git repository, DVC-tracked or not, as path or URL: then source lies inside it
    revision: str = ""  # its commit, tag or branch; HEAD when empty
    masked: str = "masked"  # the folders' names
    unmasked: str = "unmasked"
    drawn: Drawn = Drawn()
    load_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 72  # side of the stored squares, px
    # Never squashed. crop: the square in the middle; pad: the whole photo with borders; face: its most prominent face,
    # eyes and mouth always in one place; aligned: the photo is such a face already.
    fit: Literal["crop", "pad", "face", "aligned"] = "crop"
    faces: Literal["largest", "all"] = "largest"  # all: every face of a photo, with fit: face
    match_resolution: bool = True  # give both domains the same distribution of effective resolution
    jpeg_quality: Annotated[int, Field(strict=True, ge=0, le=100)] = 0  # above 0: every photo is re-compressed alike
    test: Share = 0.2
    validation: Share = 0.1  # of what is not test
    near_duplicates: Annotated[int, Field(strict=True, ge=0, le=32)] = (
        4  # Hamming distance of 64-bit perceptual hashes within a group
    )
    max_rejected: Share = 0.05  # more refused photos than this fail the stage
    max_faceless: Share = 0.06  # more photos of a domain without a face than this fail the stage, with fit: face
    private: bool = False  # keeps every picture of a person out of MLflow and reports

    @model_validator(mode="after")
    def _faces_are_found(self) -> Ingest:
        if self.faces == "all" and self.fit != "face":
            raise ValueError(f"faces all needs fit face, which finds them, and fit is {self.fit}; change one of them")
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> Ingest:
        if self.revision and not self.repository:
            raise ValueError(f"revision {self.revision} is of no repository; set ingest.repository or remove it")
        if not self.repository:
            return self
        if self.source == "embedded" or self.source.startswith("s3://"):
            raise ValueError(f"source {self.source} is nothing inside a repository; correct it or remove repository")
        inside = PurePosixPath(self.source)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"source {self.source} leads out of the repository; name a folder inside it")
        address = urlsplit(self.repository)
        if address.password or (address.scheme in ("http", "https") and address.username):
            raise ValueError("repository holds a password or token; leave it to git's credential helper")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether the photos are the same whenever they are read: drawn ones, or those of a full commit."""
        return bool(re.fullmatch("[0-9a-f]{40}", self.revision)) if self.repository else self.source == "embedded"


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


class Masks(Section):
    """Masks to paste on unmasked photos, for systems that learn from them."""

    count: Positive = 4000
    cut_out: Share = 0.55  # share of them that is lifted off masked training photos; the rest is drawn
    bare: Share = 0.08  # share of pastings without a mask: a face that wears none stays as it is
    filters: Annotated[int, Field(strict=True, ge=8, multiple_of=8)] = 48  # of the mask finder
    steps: Positive = 600  # of the mask finder
    batch_size: Positive = 16
    lr: Annotated[float, Field(gt=0)] = 2e-3
    seed: Count = 13


class Train(Section):
    """What all trainings share."""

    image_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 64  # side of the random crops, px
    seed: Count = 1
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False  # torch.compile: a minute at the start, then faster steps; needs a C++ compiler
    processes: AutoOrCount = "auto"  # on this machine, each with its share of every batch; auto: one a GPU, or a core
    threads: AutoOrCount = "auto"  # CPU threads of each process; auto shares the cores among the processes
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
    batch_size: Positive = 4  # photos of each domain in a step, over all processes
    accumulate_steps: Positive = 1  # parts that a step's batch is worked through in: less memory, the same gradients
    lr: Annotated[float, Field(gt=0)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epoch_photos: Count = 0  # photos in an epoch; 0: as many as the larger domain has
    warm_start: str = ""  # a training's folder, a generator file, models:/... or the shipped photos-128, to begin from

    @model_validator(mode="after")
    def _decay_fits(self) -> Schedule:
        if self.constant_epochs > self.epochs:
            raise ValueError(f"constant_epochs {self.constant_epochs} exceeds epochs {self.epochs}; lower it")
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of accumulate_steps {self.accumulate_steps}; make it one"
            )
        return self


def _options(value: Any) -> SystemOptions:
    """The options of the system that is named: its own dataclass says what there is and checks it."""
    from bmask.gan import registry

    if isinstance(value, SystemOptions):
        return value
    name = value.get("system") if isinstance(value, dict) else None
    kind = registry.system_class(name).Options
    return TypeAdapter(kind).validate_python(value)


class Model(Section):
    """One training: a system with its options, and its schedule."""

    network: Annotated[SystemOptions, PlainValidator(_options), PlainSerializer(asdict)]
    schedule: Schedule = Schedule()


class Judge(Section):
    """The network that says how much of a mask still shows; trained once per dataset, and checked before it judges."""

    filters: Positive = 16
    specimens: Annotated[int, Field(strict=True, ge=2, multiple_of=2)] = 12000  # pictures that it learns from
    steps: Positive = 2000
    batch_size: Annotated[int, Field(strict=True, ge=2, multiple_of=2)] = 32  # half of them without a trace of a mask
    lr: Annotated[float, Field(gt=0)] = 4e-3
    seed: Count = 3
    min_clean: Share = 0.93  # unmasked validation photos in which it finds no mask
    min_found: Share = 0.9  # masks at half opacity, of styles that training never saw, that it finds
    max_fooled: Share = 0.05  # smears of such masks that it calls unmasked


class Evaluate(Section):
    baselines: tuple[Literal["identity", "mean_face", "telea"], ...] = ("identity", "mean_face", "telea")
    attention_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1  # at or below it the photo's own pixel is kept
    bootstrap: Positive = 500  # resamples of groups
    seed: Count = 5
    min_told: Share = 0.8  # photos in which a measure must tell each rung of the ladder from the next, or it decides
    # nothing; 0 holds none of them to it
    pictures: Positive = 24  # rows in the report


class Register(Section):
    name: str = "bmask-unmasker"
    # auto: who passes the gate is champion, outside of DVC's experiments; always: inside of them too; manual: a version
    # is registered and `bmask champion set` promotes it; never: trainings are logged and nothing is registered.
    promote: Literal["auto", "always", "manual", "never"] = "auto"
    # Upper ends of intervals. What was not measured, or by what failed the ladder, misses; cut-outs may be missing.
    max_residue_rate: Share = 0.25  # masked photos in which a mask still shows
    max_paste_outside: Weight = 2.0  # grey levels: change outside of masks pasted on unmasked photos
    max_cutout_outside: Weight = 3.0  # grey levels: change beyond the masks of real masked photos
    max_cutout_area: Weight = 1.5  # attention over the area of those masks
    # How far from any photo the masks' areas are. On drawn faces, by four judges: true faces 0.03, blurred 0.10, the
    # mean face 0.16, Telea's inpainting 0.17, one distorted face for everybody 0.13 to 0.28, a trained system 0.04.
    max_grade: Share = 0.12
    primary: Literal["paste_distance", "residue", "kid", "unmask_rate", "upper_ssim"] = "paste_distance"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9  # of the paired bootstrap against the champion


class Toleration(Section):
    """Lets training pods onto nodes with a taint; the fields are those of Kubernetes."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?$")
]  # of CPU or memory, as Kubernetes writes it
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


class Cluster(Section):
    """Where and how the tasks run on Kubernetes. `dvc repro` does not look at it."""

    image: str = ""  # the registry's name for it, without a tag: `bmask pipeline submit` adds the git SHA
    gpu: str = "nvidia.com/gpu"  # resource name
    gpus: Count = 1  # of each training, which starts a process for each; 0 trains on CPUs
    node_selector: dict[str, str] = {}  # labels of the nodes that train
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),)
    cpu: Quantity = "4"  # of each training
    memory: Quantity = "16Gi"
    shared_memory: Quantity = "2Gi"  # /dev/shm, counts as memory
    stage_cpu: Quantity = "2"  # of every other task
    stage_memory: Quantity = "8Gi"
    hours: Positive = 48  # then a training is stopped
    stage_hours: Positive = 4  # then any other task is stopped
    retries: Count = 3  # of a task whose pod was lost, with 1, 2, 4 ... minutes between
    config_map: KubernetesName = "bmask"  # addresses: MLflow, object storage
    secret: KubernetesName = "bmask"  # credentials
    claim: Literal[""] | KubernetesName = ""  # a persistent volume claim for photos and checkpoints, if there is one
    mount: str = "/volume"  # where that volume appears in the tasks


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
