# Two images, one recipe: what `make install` and `make monailabel-test` install here is what they install in a checkout.
#     docker build --tag ultrarefiner .
#     docker build --tag ultrarefiner-monailabel --target monailabel .
# The base brings the driver's hooks only: PyPI's torch brings the CUDA libraries it was built with. Its tag is one release;
# for a build that stays the same to the byte give a digest: --build-arg BASE=nvidia/cuda@sha256:...
ARG BASE=nvidia/cuda:13.0.0-base-ubuntu24.04

FROM ${BASE} AS python
# The distribution's security updates are wanted, so packages are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*


FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends make python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_CACHE_DIR=/pip
WORKDIR /source
COPY . .


FROM build AS build-ultrarefiner
RUN --mount=type=cache,target=/pip make install PYTHON=python3 VENV=/opt/venv PACKAGE=".[all]"


FROM build AS build-monailabel
RUN --mount=type=cache,target=/pip make monailabel-install PYTHON=python3 LABEL_VENV=/opt/venv


# HOME and USER are for any --user: such a one has no entry in /etc/passwd, where MONAI would look up the name.
# All that is written lies in /app, /studies and /tmp: --read-only --tmpfs /tmp does no harm.
FROM python AS monailabel
COPY --from=build-monailabel /opt/venv /opt/venv
# A container's server is asked from outside, so it wants a password. There is none in here: the empty one is refused.
# hadolint ignore=DL3064
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=ultrarefiner PYTHONDONTWRITEBYTECODE=1 ULTRAREFINER_TOKEN=
WORKDIR /tmp
USER 1000:1000
EXPOSE 8000
ENTRYPOINT ["python", "-m", "monailabel.main", "start_server", "--app", "/app", "--studies", "/studies", \
    "--host", "0.0.0.0", "--port", "8000"]


# Holds bundles, manifests and example settings; a folder of the user's mounted at /workspace takes their place.
FROM python AS ultrarefiner
COPY --from=build-ultrarefiner /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=ultrarefiner PYTHONDONTWRITEBYTECODE=1
WORKDIR /workspace
RUN ultrarefiner bundles --out . && chmod --recursive a+rwX .
USER 1000:1000
CMD ["ultrarefiner", "doctor"]
