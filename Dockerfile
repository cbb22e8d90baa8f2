# One image for every process; the command chooses which. The classic builder builds it as well as BuildKit.
#   docker build -t training-snapshots .
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Where packages come from, if not from PyPI: --build-arg PIP_INDEX_URL=... (nothing of it stays in the image)
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Without pip, which installs into it from outside.
RUN python -m venv --without-pip /opt/snapshots
WORKDIR /build
COPY requirements.runtime.lock ./
RUN pip --python /opt/snapshots/bin/python install --require-hashes -r requirements.runtime.lock
COPY pyproject.toml README.md celeryconfig.py ./
COPY worker worker
COPY tasks tasks
RUN pip --python /opt/snapshots/bin/python install --no-deps .

FROM ${PYTHON_IMAGE}
# A number, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin snapshots \
    && install -d -o 10001 -g 10001 /var/lib/snapshots
COPY --from=build /opt/snapshots /opt/snapshots
WORKDIR /app
COPY flowerconfig.py ./
COPY worker/local/samples samples
# REMAP_SIGTERM: what a container is stopped with begins Celery's soft shutdown. The API has to be reachable from
# outside the container; which addresses it is published on is docker-compose.yml's to say.
ENV PATH=/opt/snapshots/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REMAP_SIGTERM=SIGQUIT \
    SNAPSHOTS_API_HOST=0.0.0.0
USER 10001:10001
# Of the default command; other commands bring their own.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "worker.liveness", "api"]
CMD ["snapshots", "api"]
