// Who runs a parallel loop: arithmetic owns no threads.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace softloss {

// Runs body(0) … body(n-1), in any order, perhaps on several threads, and returns when all are done.
// Results never depend on which. Thread-safe.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual int concurrency() const = 0;
  virtual void ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) = 0;
};

// The calling thread only.
class InlineExecutor final : public Executor {
 public:
  int concurrency() const override { return 1; }
  void ParallelFor(std::int64_t n, absl::FunctionRef<void(std::int64_t)> body) override {
    for (std::int64_t i = 0; i < n; ++i) body(i);
  }
};

}  // namespace softloss
