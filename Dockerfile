# One image for every process; the command selects which. Works with the classic builder and with BuildKit.
#   docker build -t training-snapshots .
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# For a package index other than PyPI: --build-arg PIP_INDEX_URL=... (it does not stay in the image)
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The environment has no pip; the pip outside installs into it.
RUN python -m venv --without-pip /opt/snapshots
WORKDIR /build
COPY requirements.runtime.lock ./
RUN pip --python /opt/snapshots/bin/python install --require-hashes -r requirements.runtime.lock
COPY pyproject.toml README.md LICENSE celeryconfig.py flowerconfig.py ./
COPY worker worker
COPY tasks tasks
RUN pip --python /opt/snapshots/bin/python install --no-deps .

FROM ${PYTHON_IMAGE}
# A numeric user, so that Kubernetes can check that it is not root.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin snapshots \
    && install -d -o 10001 -g 10001 /var/lib/snapshots
COPY --from=build /opt/snapshots /opt/snapshots
WORKDIR /app
COPY worker/local/samples samples
# REMAP_SIGTERM: SIGTERM, which stops a container, starts Celery's soft shutdown. SNAPSHOTS_API_HOST: the API must be
# reachable from outside the container; docker-compose.yml limits where it is published.
ENV PATH=/opt/snapshots/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REMAP_SIGTERM=SIGQUIT \
    SNAPSHOTS_API_HOST=0.0.0.0
USER 10001:10001
# For the default command; docker-compose.yml sets those of the other commands.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "worker.doctor.liveness", "api"]
CMD ["snapshots", "api"]
