"""The sections of params.yaml, one for each stage, named like it: types, defaults and allowed values."""

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
    raise ValueError(f"{value!r} is neither auto nor a whole number above 0")


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
    repository: str = ""  # a git repository, DVC-tracked or not, as path or URL; source is then a path inside it
    revision: str = ""  # its commit, tag or branch; HEAD when empty
    masked: str = "masked"  # the folders' names
    unmasked: str = "unmasked"
    drawn: Drawn = Drawn()
    load_size: Annotated[int, Field(strict=True, ge=16, le=1024)] = 72  # side of the stored squares, px
    # Never stretched. crop: the square in the middle; pad: the whole photo with borders; face: its most prominent face,
    # eyes and mouth always in the same place; aligned: the photo is such a face already.
    fit: Literal["crop", "pad", "face", "aligned"] = "crop"
    faces: Literal["largest", "all"] = "largest"  # all: every face found in a look at the whole photo
    match_resolution: bool = True  # give both domains the same distribution of effective resolution
    jpeg_quality: Annotated[int, Field(strict=True, ge=0, le=100)] = 0  # above 0: every photo is compressed again alike
    test: Share = 0.2
    validation: Share = 0.1  # share of the photos that are not test
    near_duplicates: Annotated[int, Field(strict=True, ge=0, le=32)] = (
        4  # largest Hamming distance of 64-bit perceptual hashes between near-duplicates
    )
    max_rejected: Share = 0.05  # the stage fails if more photos are refused
    max_faceless: Share = 0.06  # the stage fails if more photos of a domain have no face, with fit: face
    private: bool = False  # keeps every picture of a person out of MLflow and reports

    @model_validator(mode="after")
    def _faces_are_found(self) -> Ingest:
        if self.faces == "all" and self.fit != "face":
            raise ValueError(f"faces: all needs fit: face, but fit is {self.fit}; change one of them")
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> Ingest:
        if self.revision and not self.repository:
            raise ValueError(f"revision {self.revision} needs a repository; set ingest.repository or remove revision")
        if not self.repository:
            return self
        if self.source == "embedded" or self.source.startswith("s3://"):
            raise ValueError(f"source {self.source} is not a path inside a repository; correct it or remove repository")
        inside = PurePosixPath(self.source)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"source {self.source} leads out of the repository; name a folder inside it")
        address = urlsplit(self.repository)
        if address.password or (address.scheme in ("http", "https") and address.username):
            raise ValueError("repository holds a password or token; leave it to git's credential helper")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether every read gives the same photos: those that are drawn, or those of a full commit hash."""
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
    bare: Share = 0.08  # share of pastings that add no mask: they teach to leave unmasked faces alone
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
    processes: AutoOrCount = "auto"  # on this machine, each with its share of every batch; auto: one per GPU, or core
    threads: AutoOrCount = "auto"  # CPU threads of each process; auto shares the cores among the processes
    pool: Count = 50
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the generators' moving average; 0 switches it off
    samples: Positive = 8  # photos whose translation is shown during the training
    sample_every: Positive = 5  # epochs
    checkpoint_every: Positive = 2  # epochs
    log_every: Positive = 20  # steps
    # A folder, or s3://bucket/prefix, which also survives the loss of the disk (the folder `checkpoints` is then the
    # working copy). It is no output of DVC, so it survives a re-run, a kill and a changed epoch count.
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
    warm_start: str = ""  # begin from a training's folder, a generator file, models:/... or the shipped photos-128

    @model_validator(mode="after")
    def _decay_fits(self) -> Schedule:
        if self.constant_epochs > self.epochs:
            raise ValueError(f"constant_epochs {self.constant_epochs} exceeds epochs {self.epochs}; lower it")
        if self.batch_size % self.accumulate_steps:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate_steps {self.accumulate_steps}; change it"
            )
        return self


def _options(value: Any) -> SystemOptions:
    """The options of the named system, checked by its own dataclass."""
    from bmask.gan import lookup

    if isinstance(value, SystemOptions):
        return value
    name = value.get("system") if isinstance(value, dict) else None
    kind = lookup.system_class(name).Options
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
    min_clean: Share = 0.93  # of the unmasked validation photos: those in which it finds no mask
    min_found: Share = 0.9  # of the masks at half opacity, in styles that training never saw: those that it finds
    max_fooled: Share = 0.05  # share of smears of such masks that it takes for faces


class Evaluate(Section):
    baselines: tuple[Literal["identity", "mean_face", "telea"], ...] = ("identity", "mean_face", "telea")
    attention_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1  # at or below it the photo's own pixel is kept
    bootstrap: Positive = 500  # resamples of groups
    seed: Count = 5
    # A measure that orders neighbouring rungs in fewer photos than this share decides nothing; 0: no such condition.
    min_told: Share = 0.8
    pictures: Positive = 24  # rows in the report


class Register(Section):
    name: str = "bmask-unmasker"
    # auto: what passes the gate becomes champion, except in DVC's experiments; always: in experiments too; manual: a
    # version is registered and `bmask champion set` promotes it; never: trainings are logged, nothing is registered.
    promote: Literal["auto", "always", "manual", "never"] = "auto"
    # Upper ends of 95 % intervals must not be above these. A score that is missing, or whose measure failed the ladder,
    # fails; only those of cut-outs may be missing.
    max_residue_rate: Share = 0.25  # share of masked photos in which a mask still shows
    max_paste_outside: Weight = 2.0  # grey levels: change outside of masks pasted on unmasked photos
    max_cutout_outside: Weight = 3.0  # grey levels: change beyond the masks of real masked photos
    max_cutout_area: Weight = 1.5  # area of the attention, divided by that of those masks
    # How unlike real photos the masks' areas are. On drawn faces, by four judges: true faces 0.03, blurred 0.10, the
    # mean face 0.16, Telea's inpainting 0.17, one distorted face for everybody 0.13 to 0.28, a trained system 0.04.
    max_grade: Share = 0.12
    primary: Literal["paste_distance", "residue", "kid", "unmask_rate", "upper_ssim"] = "paste_distance"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9  # of the paired bootstrap against the champion


class Toleration(Section):
    """Lets training pods run on nodes with a taint; the fields are those of Kubernetes."""

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

    image: str = ""  # its name in the registry, without a tag: `bmask pipeline submit` adds the git SHA
    gpu: str = "nvidia.com/gpu"  # resource name
    gpus: Count = 1  # per training, with one process each; 0 trains on CPUs
    node_selector: dict[str, str] = {}  # labels of the nodes for trainings
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
    """Where the object storage is. Empty fields, and always credentials, come from boto3's own configuration."""

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
            raise ValueError("is not an http:// or https:// address; write it like http://host:port")
        if "@" in address.netloc:
            raise ValueError("holds a user name or password; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        return endpoint
