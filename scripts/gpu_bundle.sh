#!/usr/bin/env bash
# Builds build/gpu (release, with CUDA) and collects in build/gpu-bundle what a machine with an NVIDIA
# driver needs to run gpu_check.sh: binaries, their shared libraries, scripts. Needs nvcc, no GPU.
#
# glibc, libstdc++ and libgcc are the target machine's own (glibc ≥ this machine's); the driver's
# libcuda is too. The CUDA runtime is linked in.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/gpu
bundle=build/gpu-bundle
limit_mib=60

launchers=()
if command -v ccache > /dev/null; then
  launchers=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
fi
# GPU_BUNDLE_CMAKE_ARGS adds options, e.g. -DSOFTLOSS_SERVER=OFF.
# shellcheck disable=SC2086
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSOFTLOSS_CUDA=ON -DSOFTLOSS_TESTS=ON \
  -DSOFTLOSS_BENCH=ON "${launchers[@]}" ${GPU_BUNDLE_CMAKE_ARGS:-} -Wno-dev --log-level=WARNING > /dev/null

# The last ones exist where server and client are built.
known=$(cmake --build "$build" --target help | sed -n 's/^\([A-Za-z0-9_]*\): phony$/\1/p')
targets=()
for target in backend_test backend_family_test backend_regimes_test cuda_kernels_bench softlossd softloss_gpu_e2e; do
  if grep -qx "$target" <<< "$known"; then targets+=("$target"); fi
done
cmake --build "$build" -j "${JOBS:-2}" --target "${targets[@]}"

rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib"
for target in "${targets[@]}"; do
  install -m 755 "$build/bin/$target" "$bundle/bin/"
  strip "$bundle/bin/$target"
done
for binary in "$bundle"/bin/*; do
  ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }'
done | sort -u | while read -r library; do
  case $(basename "$library") in
    libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | \
      libstdc++.so.* | libgcc_s.so.* | ld-linux*) ;;
    *) install -m 644 "$library" "$bundle/lib/" ;;
  esac
done
install -m 755 scripts/gpu_check.sh tests/bench/cuda_torch_bench.py "$bundle/"

size_mib=$(du -sm "$bundle" | cut -f1)
echo "$bundle: $size_mib MiB: $(find "$bundle/bin" -type f -printf '%f ')"
if ((size_mib >= limit_mib)); then
  echo "gpu_bundle: must be under $limit_mib MiB" >&2
  exit 1
fi
