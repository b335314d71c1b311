# The gateway's image: serves the folder mounted at /models, as a user without rights, on a root that may be read-only.
#
#   DIGEST=$(docker buildx imagetools inspect python:3.13-slim-bookworm --format '{{.Manifest.Digest}}')
#   docker build --build-arg DIGEST="$DIGEST" -t penstock .
#   docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges -p 8000:8000 -p 8001:8001 -p 8003:8003 \
#       -v "$PWD/models:/models:ro" -v penstock:/var/lib/penstock \
#       -v "$PWD/penstock.yaml:/penstock.yaml:ro" -e PENSTOCK_CONFIG=/penstock.yaml penstock
#
# The base is pinned by its digest: a build without DIGEST ends at the first line. Keep the digest with your release, and
# build from it again to get the same base; the first command finds the newest one, with its security fixes.
#
# The configuration has `auth` and `tls`. Without them, the gateway does not start, because it would serve everyone who
# reaches the container. On a network that you trust, end the command with: serve /models --insecure-no-auth
# The ops port stays inside the container (docker exec ... penstock models list); probes use 8003.
#
# What the processes share lies in /dev/shm, about 9 MB for each worker; beyond six workers give --shm-size.
# /opt/penstock/sbom.cdx.json lists the Python packages (CycloneDX). For one of the whole image, with a statement of how
# it was built, use: docker buildx build --sbom=true --provenance=mode=max
ARG PYTHON=3.13-slim-bookworm
ARG DIGEST

FROM python:${PYTHON}@${DIGEST} AS build
WORKDIR /build
# A C compiler, for the modules that pyproject.toml has compiled; it stays out of the image that is shipped. Text pipelines
# of scikit-learn need the locale en_US.UTF-8; only what the C library reads of it gets into the image.
# hadolint ignore=DL3008 # Debian keeps no older versions, and nothing of these packages is shipped
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev locales && rm -rf /var/lib/apt/lists/* \
    && localedef --inputfile=en_US --charmap=UTF-8 en_US.UTF-8
RUN python -m venv /opt/penstock && python -m venv /opt/sbom
COPY requirements.lock deploy/extras.lock deploy/sbom.lock ./
# The section [run] and what a fleet needs: neither the demo's libraries nor the tests' belong into an image.
RUN sed '/^# \[demo\]/,$d' requirements.lock > run.txt \
    && /opt/penstock/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r run.txt -r extras.lock \
    && /opt/sbom/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r sbom.lock
COPY pyproject.toml README.md LICENSE ./
COPY deploy/backend.py deploy/
COPY src src
# A compiler that fails would leave the modules interpreted without a word; penstock says what they are.
RUN /opt/penstock/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/penstock/bin/pip uninstall --yes librt mypy mypy_extensions pathspec setuptools \
    && /opt/penstock/bin/python -m penstock.engine.method_cache \
    && case "$(/opt/penstock/bin/penstock version)" in *"request path compiled") ;; *) exit 1 ;; esac \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /opt/penstock/sbom.cdx.json \
        /opt/penstock/bin/python \
    && install --directory --group=0 --mode=0770 /state

FROM python:${PYTHON}@${DIGEST}
ARG PYTHON
ARG DIGEST
LABEL org.opencontainers.image.title=penstock \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=docker.io/library/python:${PYTHON} \
      org.opencontainers.image.base.digest=${DIGEST}
COPY --from=build /opt/penstock /opt/penstock
COPY --from=build /usr/lib/locale /usr/lib/locale
# The group may write there too: some platforms run containers as any user, in the group 0.
COPY --from=build --chown=10001:0 /state /var/lib/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PENSTOCK_HOME=/var/lib/penstock \
    PENSTOCK_HOST=0.0.0.0 \
    PENSTOCK_OPS_HOST=127.0.0.1 \
    PENSTOCK_HEALTH_HOST=0.0.0.0 \
    PENSTOCK_HEALTH_PORT=8003
# A number, so that an orchestrator can see that it is not root without looking into the image.
USER 10001:0
VOLUME /var/lib/penstock
EXPOSE 8000 8001 8003
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["penstock", "health", "--url", "127.0.0.1:8003"]
ENTRYPOINT ["penstock"]
CMD ["serve", "/models"]
