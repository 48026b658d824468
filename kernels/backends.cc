#include "kernels/backends.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace softloss {

std::vector<std::string_view> BackendNames() {
  std::vector<std::string_view> names = {"reference"};
#ifdef SOFTLOSS_HAVE_CPU
  names.push_back("cpu");
#endif
#ifdef SOFTLOSS_HAVE_CUDA
  names.push_back("cuda");
#endif
  return names;
}

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(std::string_view name) {
  if (name == "reference") return MakeReferenceBackend();
#ifdef SOFTLOSS_HAVE_CPU
  if (name == "cpu") return MakeCpuBackend();
#endif
#ifdef SOFTLOSS_HAVE_CUDA
  if (name == "cuda") return MakeCudaBackend(0);
#endif
  const std::vector<std::string_view> known = BackendNames();
  const std::vector<std::string> names(known.begin(), known.end());
  return absl::NotFoundError(absl::StrCat("backend: must be one of [", absl::StrJoin(names, ", "),
                                          "]; was \"", std::string(name), "\""));
}

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> MakeBackends(std::string_view name) {
  absl::StatusOr<std::unique_ptr<Backend>> first = MakeBackend(name);
  if (!first.ok()) return first.status();
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(*std::move(first));
#ifdef SOFTLOSS_HAVE_CUDA
  for (int device = 1; name == "cuda"; ++device) {
    absl::StatusOr<std::unique_ptr<Backend>> next = MakeCudaBackend(device);
    if (!next.ok()) break;
    if ((*next)->numerics_id() == backends[0]->numerics_id()) backends.push_back(*std::move(next));
  }
#endif
  return backends;
}

}  // namespace softloss
