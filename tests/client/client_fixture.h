// A client, a fake server, and requests whose answers are known.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "kernels/engine.h"
#include "softloss/client.h"
#include "tests/testing/fake_scorer.h"
#include "tests/testing/score_case.h"
#include "tests/testing/status_matchers.h"

namespace softloss::testing {

using Outcome = absl::StatusOr<ScoreResult>;

// A folder for a Unix socket, removed in the end.
class SocketFolder {
 public:
  SocketFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "softloss.XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~SocketFolder() { std::filesystem::remove_all(path_); }
  std::string address() const { return "unix:" + path_ + "/s"; }

 private:
  std::string path_;
};

// Short pauses, so that a failure to connect costs a test nothing.
inline ClientOptions QuickOptions() {
  ClientOptions options;
  options.initial_backoff = absl::Milliseconds(1);
  options.max_backoff = absl::Milliseconds(4);
  return options;
}

// Softmax cross entropy with the gradient over [rows, classes].
inline ScoreCase MatrixCase(std::int64_t rows, std::int64_t classes, std::uint64_t seed) {
  ItemShape item;
  item.shape = {rows, classes};
  item.class_axis = -1;
  item.gradient = DType::kF32;
  LossSpec spec;
  spec.loss = Loss::kSoftmaxCrossEntropy;
  Random random(seed);
  return RandomCase(item, spec, {}, random);
}

inline ScoreRequest RequestOf(const ScoreCase& c) {
  ScoreRequest request;
  request.spec = c.spec;
  request.item = c.item;
  const EngineInputs inputs = c.inputs();
  request.prediction = inputs.prediction;
  request.label = inputs.label;
  request.mask = inputs.mask;
  request.row_weight = inputs.row_weight;
  request.label_ids = inputs.label_ids;
  return request;
}

// The same case, scored whole and in process: bit for bit, that is what must come back.
inline void ExpectAnswer(const ScoreCase& c, const Outcome& outcome, const void* gradient = nullptr,
                         const void* row_loss = nullptr) {
  ASSERT_THAT(outcome, IsOk()) << c.Describe();
  const std::int64_t rows = c.plan.geometry.rows();
  Bytes want_gradient(rows * c.plan.gradient_row_bytes);
  Bytes want_row_loss(rows * c.plan.row_loss_row_bytes);
  EngineOutputs outputs;
  if (c.item.gradient) outputs.gradient = want_gradient.data();
  if (c.item.want_row_loss) outputs.row_loss = want_row_loss.data();
  InlineExecutor executor;
  const std::unique_ptr<Backend> backend = MakeReferenceBackend();
  const absl::StatusOr<ItemTotals> want =
      ScoreItem(*backend, executor, c.spec, c.item, c.inputs(), outputs);
  ASSERT_THAT(want, IsOk());

  const ScoreResult& got = *outcome;
  EXPECT_EQ(got.loss, want->loss) << c.Describe();
  EXPECT_EQ(got.loss_sum, want->loss_sum);
  EXPECT_EQ(got.denominator, want->denominator);
  EXPECT_EQ(got.gradient_scale, want->gradient_scale);
  EXPECT_EQ(got.gradient_l2_norm, want->gradient_l2_norm);
  EXPECT_EQ(got.valid_count, want->tally.valid);
  EXPECT_EQ(got.conditions.nonfinite_predictions, want->tally.nonfinite_predictions);
  EXPECT_EQ(got.conditions.out_of_range_labels, want->tally.out_of_range_labels);
  EXPECT_EQ(got.conditions.unnormalized_labels, want->tally.unnormalized_labels);
  EXPECT_EQ(got.conditions.empty, want->empty);

  const auto same = [](const Bytes& want_bytes, const Buffer& own, const void* given) {
    if (given != nullptr) {
      return own.empty() && std::memcmp(given, want_bytes.data(), want_bytes.size()) == 0;
    }
    return own.size() == want_bytes.size() &&
           (own.empty() || std::memcmp(own.data(), want_bytes.data(), own.size()) == 0);
  };
  EXPECT_TRUE(same(want_gradient, got.gradient, gradient)) << "gradient of " << c.Describe();
  EXPECT_TRUE(same(want_row_loss, got.row_loss, row_loss)) << "row_loss of " << c.Describe();
}

class ClientTest : public ::testing::Test {
 protected:
  void StartServer(FakeLimits limits = {}, std::vector<FakeScorer::Script> scripts = {}) {
    server_.reset();  // or it would take the new one's socket with it
    server_ =
        std::make_unique<FakeScorer>(folder_.address(), std::move(limits), std::move(scripts));
  }
  void Connect(ClientOptions options = QuickOptions()) {
    absl::StatusOr<Client> client = Client::Connect(folder_.address(), std::move(options));
    // The test cannot go on; gtest reports the exception.
    if (!client.ok()) throw std::runtime_error(client.status().ToString());
    client_ = std::make_unique<Client>(*std::move(client));
  }
  // Every test ends with a server that found nothing wrong.
  void TearDown() override {
    client_.reset();
    if (server_ == nullptr) return;
    server_->Shutdown();
    EXPECT_THAT(server_->problems(), ::testing::IsEmpty());
  }

  SocketFolder folder_;
  std::unique_ptr<FakeScorer> server_;
  std::unique_ptr<Client> client_;
};

}  // namespace softloss::testing
