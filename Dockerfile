# The gateway's image: serves the folder mounted at /models, as a user without rights, on a root that may be read-only.
#
#   docker build -t penstock .
#   docker run --rm --read-only -p 8000:8000 -p 8001:8001 -p 8003:8003 -v "$PWD/models:/models:ro" \
#       -v "$PWD/penstock.yaml:/penstock.yaml:ro" -e PENSTOCK_CONFIG=/penstock.yaml penstock
#
# The configuration has `auth` and `tls`. Without them, the gateway does not start, because it would serve everyone who
# reaches the container. On a network that you trust, end the command with: serve /models --insecure-no-auth
# The ops port stays inside the container (docker exec ... penstock models list); probes use 8003.
#
# What the processes share lies in /dev/shm, about 9 MB for each worker; beyond six workers give --shm-size.
# The base is pinned by tag; whoever publishes an image should pin it by digest as well (--build-arg PYTHON=...@sha256:...).
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /build
# A C compiler, for the modules that pyproject.toml has compiled; it stays out of the image that is shipped.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
# Text pipelines of scikit-learn need the locale en_US.UTF-8; only what the C library reads of it gets into the image.
RUN apt-get update && apt-get install --yes --no-install-recommends locales && rm -rf /var/lib/apt/lists/* \
    && localedef --inputfile=en_US --charmap=UTF-8 en_US.UTF-8
RUN python -m venv /opt/penstock
COPY requirements.lock ./
# Only the section [run]: neither the demo's libraries nor the tests' belong into an image.
RUN sed '/^# \[demo\]/,$d' requirements.lock > run.txt \
    && /opt/penstock/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r run.txt
COPY pyproject.toml README.md LICENSE ./
COPY deploy/backend.py deploy/
COPY src src
RUN /opt/penstock/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/penstock/bin/pip uninstall --yes librt mypy mypy_extensions pathspec setuptools

FROM python:${PYTHON}
COPY --from=build /opt/penstock /opt/penstock
COPY --from=build /usr/lib/locale /usr/lib/locale
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PENSTOCK_HOST=0.0.0.0 \
    PENSTOCK_OPS_HOST=127.0.0.1 \
    PENSTOCK_HEALTH_HOST=0.0.0.0 \
    PENSTOCK_HEALTH_PORT=8003
# A number, so that an orchestrator can see that it is not root without looking into the image.
USER 10001:10001
EXPOSE 8000 8001 8003
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["penstock", "health", "--url", "127.0.0.1:8003"]
ENTRYPOINT ["penstock"]
CMD ["serve", "/models"]
