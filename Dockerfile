# docker build -t aeflow . && docker run --rm -v "$PWD/results:/opt/aeflow/results" aeflow
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/aeflow
COPY . .
# cpu, pypi (CUDA), or another folder of PyTorch's index: docs/install.md
ARG TORCH=auto
RUN PIP_NO_CACHE_DIR=1 make .venv/installed TORCH=${TORCH}
ENV PATH=/opt/aeflow/.venv/bin:$PATH
CMD ["make", "demo"]
