# One image for every component, the MLflow server and `bmask` by hand. Built by `make image`.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# Packages (gigabytes, rarely changed) and bmask (36 MB with its networks) have a layer each: nodes pull what is new.
# setuptools is installed first, also from the lock, since packages that are published only as source are built with it.
# The build host's pip settings (mirror, proxy, certificate) are a secret, so that they are in no layer.
FROM ${BASE} AS packages
COPY requirements.txt /opt/bmask/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    python -m venv --without-pip /opt/venv \
    && awk '/^[^ ]/ {on = /^setuptools==/} on' /opt/bmask/requirements.txt >/tmp/setuptools.txt \
    && pip="python -m pip --python /opt/venv/bin/python --no-cache-dir --disable-pip-version-check install --quiet \
        --root-user-action=ignore --use-pep517 --no-build-isolation --no-deps --require-hashes" \
    && $pip -r /tmp/setuptools.txt \
    && $pip -r /opt/bmask/requirements.txt \
    && rm /tmp/setuptools.txt

FROM packages AS wheel
COPY . /build/
RUN python -m pip --python /opt/venv/bin/python wheel --no-deps --no-build-isolation --no-index -w /wheel /build

FROM packages
# With a numeric user, Kubernetes can check that it is not root; any other number works as well.
# safe.directory lets libgit2 read repositories of other users, such as those on volumes.
RUN groupadd --gid 10001 bmask \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bmask \
    && install -d -m 1777 /work \
    && printf '[safe]\n\tdirectory = *\n' >/etc/gitconfig
COPY components /opt/bmask/components
COPY pipelines /opt/bmask/pipelines
COPY --from=wheel /wheel /wheel
# Declared before this RUN: some engines take an ENV from the cache although its argument changed, but not a RUN.
ARG GIT_SHA=unknown
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl && rm -r /wheel

# Programs write their own files to /tmp, so that the root file system can be mounted read-only.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp TMPDIR=/tmp USER=bmask LOGNAME=bmask \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NO_ALBUMENTATIONS_UPDATE=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
    DVC_NO_ANALYTICS=1 DVC_SITE_CACHE_DIR=/tmp/dvc GIT_PYTHON_REFRESH=quiet
WORKDIR /work
USER 10001:10001
CMD ["bmask", "--help"]

ENV BMASK_GIT_SHA=${GIT_SHA}
LABEL org.opencontainers.image.title="bmask" \
      org.opencontainers.image.description="Takes face masks off photos: every stage of the pipeline and the MLflow server" \
      org.opencontainers.image.revision="${GIT_SHA}"
