// The backends of this build, by name.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace softloss {

// "reference", "cpu", and "cuda" where it was built.
std::vector<std::string_view> BackendNames();

// NOT_FOUND for a name that this build does not have (listing those it has); UNAVAILABLE, with the
// driver's words, for a device that is not there.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(std::string_view name);

// One for each device that computes as the first one does (equal numerics_id); one for "reference" and
// "cpu". Fails as MakeBackend, which gives the first of them.
absl::StatusOr<std::vector<std::unique_ptr<Backend>>> MakeBackends(std::string_view name);

std::unique_ptr<Backend> MakeReferenceBackend();
std::unique_ptr<Backend> MakeCpuBackend();
// Only where CUDA was built; of a device, from 0. UNAVAILABLE if there is no such device, or it is of no
// use.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device);

}  // namespace softloss
