// Backends to run the conformance suite over.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "kernels/loss.h"

namespace softloss::testing {

// Those of this build whose device is here. SOFTLOSS_CONFORMANCE_BACKENDS=cpu,cuda restricts them.
inline std::vector<std::string> UsableBackends() {
  const char* only = std::getenv("SOFTLOSS_CONFORMANCE_BACKENDS");
  std::vector<std::string> wanted;
  if (only != nullptr) wanted = absl::StrSplit(only, ',', absl::SkipEmpty());
  std::vector<std::string> names;
  for (std::string_view name : BackendNames()) {
    const bool listed =
        only == nullptr || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    if (listed && MakeBackend(name).ok()) names.emplace_back(name);
  }
  return names;
}

// The same without the reference.
inline std::vector<std::string> FastBackends() {
  std::vector<std::string> names = UsableBackends();
  names.erase(std::remove(names.begin(), names.end(), "reference"), names.end());
  return names;
}

class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend(GetParam());
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
  }
  Backend& backend() { return *backend_; }

  // The losses that the backend serves, of all there are. The reference, which is compared with
  // itself, has two: enough to test the tests.
  std::vector<Loss> losses() const {
    if (GetParam() == "reference") return {Loss::kSigmoidCrossEntropy, Loss::kSoftmaxCrossEntropy};
    std::vector<Loss> served;
    for (Loss loss : AllLosses()) {
      if (backend_->Supports({.loss = loss}).ok()) served.push_back(loss);
    }
    return served;
  }

 private:
  std::unique_ptr<Backend> backend_;
};

inline std::string ParamName(const ::testing::TestParamInfo<std::string>& info) {
  return info.param;
}

#define SOFTLOSS_FOR_ALL_BACKENDS(suite)                                                           \
  INSTANTIATE_TEST_SUITE_P(All, suite, ::testing::ValuesIn(::softloss::testing::UsableBackends()), \
                           ::softloss::testing::ParamName)

}  // namespace softloss::testing
