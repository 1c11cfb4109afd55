# The image of raysim: `docker build -t raysim .`, then
#   docker run --rm -v "$PWD/runs:/runs" raysim run quickstart
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/runs" raysim run mnist_cnn
#
# PyPI's torch for Linux brings CUDA and also runs without a GPU, at several gigabytes. For a small image name the index
# of torch's CPU wheels: --build-arg TORCH_INDEX=URL. EXTRAS adds optional parts: --build-arg EXTRAS=[llm,dp].
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=
ARG EXTRAS=

WORKDIR /opt/raysim
COPY constraints.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY raysim raysim
COPY configs configs
RUN pip install --no-cache-dir --constraint constraints.txt ".${EXTRAS}" && rm -rf build

# Runs, shards and compiled code are in volumes; the user needs no rights elsewhere.
RUN useradd --create-home raysim && mkdir /runs && chown raysim /runs
USER raysim
WORKDIR /
VOLUME /runs
ENV RAY_USAGE_STATS_ENABLED=0
ENTRYPOINT ["raysim"]
CMD ["--help"]
