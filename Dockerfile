# lmf with everything that it runs on: `docker build -t lmf .` for processors, with `--build-arg TORCH=cu130` for NVIDIA
# GPUs. docker-compose.yml builds it by itself.

FROM python:3.11.15-slim-bookworm AS build
# Which build of PyTorch: cpu, or cu126, cu128, cu130 ... for the CUDA version that the machine's driver knows.
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl
RUN python -m venv --without-pip /opt/lmf
RUN pip --python /opt/lmf/bin/python install --no-cache-dir --index-url "${TORCH_INDEX}/${TORCH}" "torch>=2.6" torchvision
WORKDIR /src
COPY pyproject.toml ./
COPY storage ./storage
COPY trainer ./trainer
COPY study ./study
RUN pip --python /opt/lmf/bin/python install --no-cache-dir ".[postgresql,s3,medmnist]"

FROM python:3.11.15-slim-bookworm
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin lmf \
    && install -d -o lmf -g lmf /data /data/lmf-home /data/artifacts
COPY --from=build /opt/lmf /opt/lmf
ENV PATH=/opt/lmf/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    LMF_HOME=/data/lmf-home \
    LMF_ARTIFACTS=/data/artifacts \
    HF_HOME=/data/lmf-home/hub
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["lmf"]
CMD ["--help"]
