# softlossd in a container.
#
#   docker build --target cpu -t softloss:cpu .
#   docker build --target cuda -t softloss:cuda .      (run with --gpus all)
#
# Pin the base by digest when you build for production: docker build --build-arg BASE=debian@sha256:…
ARG BASE=debian:12-slim

FROM ${BASE} AS toolchain
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY scripts/packages.txt scripts/
# Versions are those of the Debian release that the base names.
# hadolint ignore=DL3008
RUN apt-get update \
 && sed '/^# Testing/,$d; /^#/d' scripts/packages.txt \
  | xargs apt-get install -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/*
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake/ cmake/
COPY layout/ layout/
COPY kernels/ kernels/
COPY proto/ proto/
COPY server/ server/
COPY store/ store/

FROM toolchain AS build-cpu
RUN cmake --preset release -DSOFTLOSS_BENCH=OFF -DSOFTLOSS_CLIENT=OFF -DSOFTLOSS_CUDA=OFF \
 && cmake --build --preset release \
 && cmake --install build/release --prefix /opt/softloss --strip

FROM toolchain AS build-cuda
RUN python3 -m venv /opt/nvcc \
 && /opt/nvcc/bin/pip install --no-cache-dir \
      nvidia-cuda-cccl==13.0.85 nvidia-cuda-crt==13.0.88 nvidia-cuda-nvcc==13.0.88 \
      nvidia-cuda-runtime==13.0.96 nvidia-nvvm==13.0.88 \
 && ln -s /opt/nvcc/lib/python3*/site-packages/nvidia/cu13 /opt/cuda \
 && ln -s lib /opt/cuda/lib64 \
 && ln -s libcudart.so.13 /opt/cuda/lib/libcudart.so
ENV CUDACXX=/opt/cuda/bin/nvcc
RUN cmake --preset cuda -DSOFTLOSS_BENCH=OFF -DSOFTLOSS_CLIENT=OFF -DSOFTLOSS_TESTS=OFF \
 && cmake --build --preset cuda \
 && cmake --install build/cuda --prefix /opt/softloss --strip

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="softloss" \
      org.opencontainers.image.description="Scores soft labels: losses and gradients over gRPC" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      libabsl20220623 libcivetweb1 libgrpc++1.51 libhwy1 libprometheus-cpp-core1.0 libprotobuf32 \
      libsqlite3-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin softloss \
 && install -d -o softloss -g softloss /var/lib/softloss
# Campaigns, with --quality_dir=/var/lib/softloss.
VOLUME /var/lib/softloss
USER 10001:10001
EXPOSE 50051 9464
ENTRYPOINT ["/opt/softloss/bin/softlossd"]
# Reachable from outside of the container, and so from wherever its ports are published: keep that to
# loopback or a trusted network, or give it certificates (SECURITY.md).
CMD ["--listen=0.0.0.0:50051", "--insecure_listen", "--metrics_listen=0.0.0.0:9464"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/softloss /opt/softloss
COPY LICENSE /opt/softloss/LICENSE

FROM runtime AS cpu
COPY --from=build-cpu /opt/softloss /opt/softloss
COPY LICENSE /opt/softloss/LICENSE
