#include "server/session.h"

#include <cmath>
#include <cstring>

#include <gmock/gmock.h>

#include "tests/server/session_fixture.h"

namespace softloss {
namespace {

using ::testing::HasSubstr;

TEST_F(SessionTest, HelloGrantsCreditAndNamesTheLimits) {
  std::vector<Reply> outbox;
  session_->Hello(&outbox);
  Collect(&outbox);
  ASSERT_EQ(answers_.size(), 1u);
  const v1::Hello& hello = answers_[0].header.hello();
  EXPECT_EQ(hello.credit_bytes(), 256u << 10);
  EXPECT_EQ(hello.credit_items(), 4u);
  EXPECT_EQ(hello.max_chunk_bytes(), 64u << 10);
  EXPECT_EQ(hello.numerics_id(), backend_->numerics_id());
}

TEST_F(SessionTest, AnItemInOneChunkIsAnsweredWithItsLossAndGradient) {
  const v1::StreamRequest request = Chunk(7, 0, 3, 3);
  ASSERT_TRUE(Send(request).ok());
  EXPECT_TRUE(answers_.empty());
  Score();
  ASSERT_EQ(answers_.size(), 1u);
  const v1::ChunkResult& chunk = answers_[0].header.chunk();
  EXPECT_EQ(chunk.id(), 7u);
  EXPECT_EQ(chunk.rows(), 3);
  EXPECT_NEAR(chunk.result().loss(), ExpectedSum(3), 1e-6 * ExpectedSum(3));
  EXPECT_EQ(chunk.result().valid_count(), 3);
  float gradient[6];
  ASSERT_EQ(answers_[0].gradient.size(), sizeof(gradient));
  std::memcpy(gradient, answers_[0].gradient.data(), sizeof(gradient));
  for (int r = 0; r < 3; ++r) {
    const double p = 1 / (1 + std::exp(-static_cast<double>(Logit(r))));  // of class 0
    EXPECT_NEAR(gradient[2 * r], p, 4e-7);
    EXPECT_NEAR(gradient[2 * r + 1], -p, 4e-7);
  }
  EXPECT_TRUE(session_->idle());
}

TEST_F(SessionTest, GradientAndRowLossesTravelInTheirOwnFields) {
  v1::StreamRequest request = Chunk(1, 0, 2, 2);
  request.mutable_chunk()->mutable_item()->set_want_row_loss(true);
  ASSERT_TRUE(Send(request).ok());
  Score();
  float row_loss[2];
  ASSERT_EQ(answers_[0].row_loss.size(), sizeof(row_loss));
  std::memcpy(row_loss, answers_[0].row_loss.data(), sizeof(row_loss));
  for (int r = 0; r < 2; ++r) {
    EXPECT_NEAR(row_loss[r] / std::log1p(std::exp(static_cast<double>(Logit(r)))), 1, 1e-6);
  }
  EXPECT_EQ(answers_[0].gradient.size(), 4 * sizeof(float));
}

TEST_F(SessionTest, ChunksScoredInAnyOrderGiveTheBitsOfTheWhole) {
  constexpr std::int64_t kRows = 1800;  // eight leaves
  ASSERT_TRUE(Send(Chunk(1, 0, kRows, kRows)).ok());
  Score();
  const v1::ItemResult whole = answers_.back().header.chunk().result();
  EXPECT_NEAR(whole.loss_sum(), ExpectedSum(kRows), 1e-6 * ExpectedSum(kRows));

  for (std::int64_t begin = 0; begin < kRows; begin += 256) {
    ASSERT_TRUE(Send(Chunk(2, begin, std::min<std::int64_t>(256, kRows - begin), kRows)).ok());
  }
  // An order that meets no leaf's neighbour in its place: sums of eight unlike doubles in another
  // tree differ in their last bits.
  for (const std::size_t index : {7, 2, 4, 0, 2, 0, 1}) {
    Score(index);
    EXPECT_FALSE(answers_.back().header.chunk().has_result());
  }
  Score();
  const v1::ChunkResult& last = answers_.back().header.chunk();
  EXPECT_EQ(last.row_begin(), 768);
  EXPECT_EQ(last.result().loss_sum(), whole.loss_sum());
  EXPECT_EQ(last.result().gradient_l2_norm(), whole.gradient_l2_norm());
}

TEST_F(SessionTest, AllCreditComesBack) {
  std::int64_t sent = 0;
  for (std::uint64_t id : {1, 2}) {
    for (std::int64_t begin : {0, 256, 512}) {
      v1::StreamRequest request = Chunk(id, begin, std::min<std::int64_t>(256, 600 - begin), 600);
      if (id == 2 && begin == 256) request.mutable_label()->pop_back();  // fails midway
      sent += static_cast<std::int64_t>(request.ByteSizeLong());
      ASSERT_TRUE(Send(request).ok());
    }
  }
  while (!tasks_.empty()) Score();
  EXPECT_EQ(credit_bytes_, sent);
  EXPECT_EQ(credit_items_, 2);
  EXPECT_TRUE(session_->idle());
}

class RegionalSessionTest : public SessionTest {
 protected:
  static constexpr std::int64_t kRows = 1800;

  RegionalSessionTest() {
    v1::StreamRequest request;
    request.mutable_define()->set_spec_id(2);
    request.mutable_define()->mutable_spec()->set_loss(v1::SOFT_DICE);
    EXPECT_TRUE(Send(request).ok());
  }

  // Of two regions, the classes.
  v1::StreamRequest RegionalChunk(std::uint64_t id, std::int64_t begin, std::int64_t rows,
                                  bool row_loss = true) {
    v1::StreamRequest request = Chunk(id, begin, std::min(rows, kRows - begin), kRows);
    if (begin == 0) {
      request.mutable_chunk()->mutable_item()->set_spec_id(2);
      request.mutable_chunk()->mutable_item()->set_want_row_loss(row_loss);
    }
    return request;
  }
};

// A gradient depends on all of the item: nothing is scored before all of it is there.
TEST_F(RegionalSessionTest, ChunksAreScoredTogetherAndAnsweredEach) {
  ASSERT_TRUE(Send(RegionalChunk(1, 0, kRows)).ok());
  Score();
  const Answer whole = answers_.back();
  ASSERT_TRUE(whole.header.chunk().has_result());
  EXPECT_EQ(whole.header.chunk().result().valid_count(), 2);
  EXPECT_EQ(whole.row_loss.size(), 2 * sizeof(float));
  answers_.clear();
  const std::int64_t credit = credit_bytes_;

  std::int64_t sent = 0;
  for (std::int64_t begin = 0; begin < kRows; begin += 256) {
    const v1::StreamRequest request = RegionalChunk(2, begin, 256);
    sent += static_cast<std::int64_t>(request.ByteSizeLong());
    ASSERT_TRUE(Send(request).ok());
    EXPECT_EQ(tasks_.size(), begin + 256 < kRows ? 0u : 1u);
    EXPECT_EQ(credit_bytes_ - credit, sent);  // or a client might never come to send the rest
  }
  Score();
  std::string gradient;
  for (std::size_t i = 0; i < answers_.size(); ++i) {
    const v1::ChunkResult& chunk = answers_[i].header.chunk();
    EXPECT_EQ(chunk.row_begin(), static_cast<std::int64_t>(i) * 256);
    EXPECT_EQ(chunk.rows(), std::min<std::int64_t>(256, kRows - chunk.row_begin()));
    EXPECT_EQ(chunk.has_result(), i + 1 == answers_.size());
    gradient += answers_[i].gradient;
  }
  ASSERT_EQ(answers_.size(), 8u);
  EXPECT_EQ(gradient, whole.gradient);
  EXPECT_EQ(answers_.back().row_loss, whole.row_loss);
  EXPECT_EQ(answers_.back().header.chunk().result().loss_sum(),
            whole.header.chunk().result().loss_sum());
  EXPECT_EQ(credit_items_, 2);
  EXPECT_EQ(credit_bytes_ - credit, sent);
  EXPECT_TRUE(session_->idle());
}

TEST_F(RegionalSessionTest, WithoutAGradientOnlyTheEndIsAnswered) {
  for (std::int64_t begin = 0; begin < kRows; begin += 512) {
    v1::StreamRequest request = RegionalChunk(1, begin, 512);
    if (begin == 0) request.mutable_chunk()->mutable_item()->clear_gradient_dtype();
    ASSERT_TRUE(Send(request).ok());
  }
  Score();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_TRUE(answers_[0].header.chunk().has_result());
  EXPECT_EQ(answers_[0].row_loss.size(), 2 * sizeof(float));
}

// The header reserves the whole item, and all of it comes back however the item ends.
TEST_F(RegionalSessionTest, TheWholeItemIsReservedAtItsHeader) {
  const std::int64_t before = budget_.used();
  constexpr std::int64_t kTensors = kRows * 2 * (4 + 4 + 4);
  ASSERT_TRUE(Send(RegionalChunk(1, 0, 256)).ok());
  EXPECT_GE(budget_.used() - before, kTensors);
  for (std::int64_t begin = 256; begin < kRows; begin += 256) {
    ASSERT_TRUE(Send(RegionalChunk(1, begin, 256)).ok());
  }
  EXPECT_LE(budget_.used() - before, kTensors + 10 * 2048);
  Score();
  EXPECT_EQ(budget_.used(), before);

  ASSERT_TRUE(Send(RegionalChunk(2, 0, 256)).ok());
  v1::StreamRequest cancel;
  cancel.mutable_cancel()->set_id(2);
  ASSERT_TRUE(Send(cancel).ok());
  EXPECT_EQ(budget_.used(), before);

  ASSERT_TRUE(Send(RegionalChunk(3, 0, 256)).ok());
  v1::StreamRequest wrong = RegionalChunk(3, 256, 256);
  wrong.mutable_label()->pop_back();
  ASSERT_TRUE(Send(wrong).ok());
  EXPECT_EQ(LastError(3).field(), "label");
  EXPECT_EQ(budget_.used(), before);
}

TEST_F(RegionalSessionTest, AnItemThatWillNotFitIsRefusedAtItsHeader) {
  ByteBudget small(ByteBudget::Options{.global_bytes = kRows * 2 * 12});
  context_.budget = &small;
  session_ = std::make_unique<Session>(&context_, small.FindTenant("default"), sink_);
  v1::StreamRequest define;
  define.mutable_define()->set_spec_id(2);
  define.mutable_define()->mutable_spec()->set_loss(v1::SOFT_DICE);
  ASSERT_TRUE(Send(define).ok());
  ASSERT_TRUE(Send(RegionalChunk(1, 0, 256)).ok());
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  session_.reset();
}

TEST_F(SessionTest, TheBudgetIsGivenBackOnceRepliesAreGone) {
  const std::int64_t before = budget_.used();  // the spec's
  ASSERT_TRUE(Send(Chunk(1, 0, 1000, 1000)).ok());
  // 1000 rows of two classes: logits and labels that came, a gradient that will go.
  EXPECT_GE(budget_.used() - before, 1000 * 2 * (4 + 4 + 4));
  Score();
  EXPECT_EQ(budget_.used(), before);
}

TEST_F(SessionTest, AnItemOverTheBudgetIsRefusedAndTheStreamGoesOn) {
  ByteBudget small(ByteBudget::Options{.global_bytes = 4096});
  context_.budget = &small;
  session_ = std::make_unique<Session>(&context_, small.FindTenant("default"), sink_);
  Softmax(1);
  ASSERT_TRUE(Send(Chunk(1, 0, 256, 256)).ok());
  const v1::ItemError error = LastError(1);
  EXPECT_TRUE(error.retryable());
  ASSERT_TRUE(Send(Chunk(2, 0, 2, 2)).ok());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
  session_.reset();
}

TEST_F(SessionTest, AnErrorIsToldOnceAndTheRestOfTheItemIsDropped) {
  v1::StreamRequest bad = Chunk(9, 0, 256, 600);
  bad.mutable_prediction()->pop_back();
  ASSERT_TRUE(Send(bad).ok());
  const v1::ItemError error = LastError(9);
  EXPECT_EQ(error.code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(error.message(), HasSubstr("2047"));
  ASSERT_TRUE(Send(Chunk(9, 256, 256, 600)).ok());
  EXPECT_TRUE(tasks_.empty());
  EXPECT_FALSE(session_->idle());
  ASSERT_TRUE(Send(Chunk(9, 512, 88, 600)).ok());
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_TRUE(session_->idle());
  // The id is free again.
  ASSERT_TRUE(Send(Chunk(9, 0, 1, 1)).ok());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
}

TEST_F(SessionTest, ItemErrorsNameTheFieldAndTheStreamGoesOn) {
  const struct {
    const char* what;
    void (*spoil)(v1::StreamRequest&);
    absl::StatusCode code;
    const char* message;
  } cases[] = {
      {"spec never defined",
       [](v1::StreamRequest& r) { r.mutable_chunk()->mutable_item()->set_spec_id(5); },
       absl::StatusCode::kFailedPrecondition, "item.spec_id: 5"},
      {"no item", [](v1::StreamRequest& r) { r.mutable_chunk()->clear_item(); },
       absl::StatusCode::kInvalidArgument, "chunk.item"},
      {"inline spec",
       [](v1::StreamRequest& r) { r.mutable_chunk()->mutable_item()->mutable_spec(); },
       absl::StatusCode::kInvalidArgument, "item.spec"},
      {"rows beyond the end", [](v1::StreamRequest& r) { r.mutable_chunk()->set_rows(5); },
       absl::StatusCode::kInvalidArgument, "chunk.rows"},
      {"not in order", [](v1::StreamRequest& r) { r.mutable_chunk()->set_row_begin(1); },
       absl::StatusCode::kInvalidArgument, "chunk.row_begin"},
      {"last not set", [](v1::StreamRequest& r) { r.mutable_chunk()->set_last(false); },
       absl::StatusCode::kInvalidArgument, "chunk.last"},
      {"negative dimension",
       [](v1::StreamRequest& r) {
         r.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0, -4);
       },
       absl::StatusCode::kInvalidArgument, "-4"},
      {"overflow",
       [](v1::StreamRequest& r) {
         r.mutable_chunk()->mutable_item()->mutable_prediction()->set_shape(0,
                                                                            std::int64_t{1} << 62);
       },
       absl::StatusCode::kInvalidArgument, "prediction.shape"},
      {"key of 3 bytes",
       [](v1::StreamRequest& r) { r.mutable_chunk()->mutable_item()->set_request_key("abc"); },
       absl::StatusCode::kInvalidArgument, "request_key"},
      {"other numerics",
       [](v1::StreamRequest& r) {
         r.mutable_chunk()->mutable_item()->set_required_numerics_id("gpu");
       },
       absl::StatusCode::kFailedPrecondition, "required_numerics_id"},
      {"stored labels",
       [](v1::StreamRequest& r) {
         r.mutable_chunk()->mutable_item()->mutable_label()->mutable_stored();
       },
       absl::StatusCode::kUnimplemented, "stored"},
      {"shared memory",
       [](v1::StreamRequest& r) {
         r.mutable_chunk()->mutable_item()->mutable_label_memory()->set_region(1);
       },
       absl::StatusCode::kUnimplemented, "label_memory"},
      {"sparse ids", [](v1::StreamRequest& r) { r.set_label_ids("1234"); },
       absl::StatusCode::kInvalidArgument, "label_ids"},
      {"no label bytes", [](v1::StreamRequest& r) { r.clear_label(); },
       absl::StatusCode::kInvalidArgument, "label"},
  };
  std::uint64_t id = 0;
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    v1::StreamRequest request = Chunk(++id, 0, 4, 4);
    c.spoil(request);
    ASSERT_TRUE(Send(request).ok());
    const v1::ItemError error = LastError(id);
    EXPECT_EQ(error.code(), static_cast<int>(c.code)) << error.message();
    EXPECT_THAT(error.message(), HasSubstr(c.message));
    EXPECT_TRUE(tasks_.empty());
  }
  ASSERT_TRUE(Send(Chunk(100, 0, 4, 4)).ok());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
}

TEST_F(SessionTest, ANumericsChangeIsMadeAndToldIfAllowed) {
  v1::StreamRequest request = Chunk(1, 0, 4, 4);
  request.mutable_chunk()->mutable_item()->set_required_numerics_id("gpu");
  request.mutable_chunk()->mutable_item()->set_allow_numerics_change(true);
  ASSERT_TRUE(Send(request).ok());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().result().numerics_changed());
}

TEST_F(SessionTest, AnInvalidSpecIsToldToTheItemsThatUseIt) {
  v1::StreamRequest request;
  request.mutable_define()->set_spec_id(2);
  request.mutable_define()->mutable_spec()->set_loss(v1::BRIER);
  request.mutable_define()->mutable_spec()->set_gamma(2);
  ASSERT_TRUE(Send(request).ok());
  v1::StreamRequest item = Chunk(1, 0, 4, 4);
  item.mutable_chunk()->mutable_item()->set_spec_id(2);
  ASSERT_TRUE(Send(item).ok());
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(LastError(1).field(), "gamma");
}

TEST_F(SessionTest, ALaterDefinitionCountsForTheItemsThatBeginAfterIt) {
  ASSERT_TRUE(Send(Chunk(1, 0, 256, 300)).ok());
  v1::StreamRequest mean;
  mean.mutable_define()->set_spec_id(1);
  mean.mutable_define()->mutable_spec()->set_loss(v1::SOFTMAX_CROSS_ENTROPY);
  ASSERT_TRUE(Send(mean).ok());
  ASSERT_TRUE(Send(Chunk(2, 0, 4, 4)).ok());
  ASSERT_TRUE(Send(Chunk(1, 256, 44, 300)).ok());
  Score(1);
  EXPECT_EQ(answers_.back().header.chunk().result().gradient_scale(), 0.25);
  Score();
  Score();
  EXPECT_EQ(answers_.back().header.chunk().result().gradient_scale(), 1);
  EXPECT_NEAR(answers_.back().header.chunk().result().loss(), ExpectedSum(300),
              1e-6 * ExpectedSum(300));
}

TEST_F(SessionTest, FramingErrorsEndTheStream) {
  EXPECT_EQ(SendBytes("\xff\xff\xff garbage").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Send(v1::StreamRequest()).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(Send(Chunk(3, 0, 4, 4)).ok());
  EXPECT_EQ(Send(Chunk(3, 0, 4, 4)).code(), absl::StatusCode::kAlreadyExists);
  Score();
}

TEST_F(SessionTest, CancelAnswersAtOnceAndWhatIsScoredIsDropped) {
  ASSERT_TRUE(Send(Chunk(5, 0, 256, 600)).ok());
  v1::StreamRequest cancel;
  cancel.mutable_cancel()->set_id(5);
  ASSERT_TRUE(Send(cancel).ok());
  EXPECT_EQ(LastError(5).code(), static_cast<int>(absl::StatusCode::kCancelled));
  EXPECT_TRUE(tasks_[0]->cancelled);
  ASSERT_TRUE(Send(Chunk(5, 0, 1, 1)).ok());  // the id is free
  Score();
  EXPECT_EQ(answers_.size(), 1u);
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
  EXPECT_TRUE(session_->idle());
  ASSERT_TRUE(Send(cancel).ok());  // nothing to cancel
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(SessionTest, HalfCloseFinishesWhatIsWholeAndFailsWhatIsNot) {
  ASSERT_TRUE(Send(Chunk(1, 0, 4, 4)).ok());
  ASSERT_TRUE(Send(Chunk(2, 0, 256, 600)).ok());
  std::vector<Reply> outbox;
  session_->OnHalfClose(&outbox);
  Collect(&outbox);
  EXPECT_THAT(LastError(2).message(), HasSubstr("256 of 600 rows"));
  EXPECT_FALSE(session_->idle());
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
  EXPECT_EQ(answers_.back().header.chunk().id(), 1u);
  Score();
  EXPECT_TRUE(session_->idle());
}

TEST_F(SessionTest, DrainRefusesNewItemsAndFinishesOldOnes) {
  ASSERT_TRUE(Send(Chunk(1, 0, 256, 300)).ok());
  session_->Drain();
  ASSERT_TRUE(Send(Chunk(2, 0, 4, 4)).ok());
  EXPECT_EQ(LastError(2).code(), static_cast<int>(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(LastError(2).retryable());
  ASSERT_TRUE(Send(Chunk(1, 256, 44, 300)).ok());
  Score();
  Score();
  EXPECT_TRUE(answers_.back().header.chunk().has_result());
  EXPECT_TRUE(session_->idle());
}

TEST_F(SessionTest, ItemsWhoseChunksStopComingExpire) {
  ASSERT_TRUE(Send(Chunk(1, 0, 256, 600)).ok());
  Score();
  clock_.Advance(std::chrono::seconds(59));
  std::vector<Reply> outbox;
  session_->OnTick(clock_.Now(), &outbox);
  EXPECT_TRUE(outbox.empty());
  clock_.Advance(std::chrono::seconds(1));
  session_->OnTick(clock_.Now(), &outbox);
  Collect(&outbox);
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(session_->idle());
}

TEST_F(SessionTest, ClientsBeyondTheirCreditAreNotReadFrom) {
  context_.stream_credit_items = 1000;  // so that it is the bytes that run out
  std::uint64_t id = 0;
  std::int64_t sent = 0;
  while (session_->MayRead()) {
    const v1::StreamRequest request = Chunk(++id, 0, 2048, 2048);
    sent += static_cast<std::int64_t>(request.ByteSizeLong());
    ASSERT_TRUE(Send(request).ok());
    ASSERT_LE(sent, 512 << 10);
  }
  EXPECT_GE(sent, 32 << 10);
  while (!tasks_.empty()) Score();
  EXPECT_TRUE(session_->MayRead());
}

TEST_F(SessionTest, ItemsThatWereRefusedAndDoNotEndAreLimited) {
  const auto refused = [&](std::uint64_t id) {
    v1::StreamRequest request = Chunk(id, 0, 256, 600);
    request.mutable_chunk()->clear_item();
    return request;
  };
  v1::StreamRequest end = Chunk(2, 256, 344, 600), cancel;
  cancel.mutable_cancel()->set_id(1);
  // What ends or is cancelled does not count, nor what is in flight.
  ASSERT_TRUE(Send(Chunk(100, 0, 256, 600)).ok());
  for (std::uint64_t id = 1; id <= 5; ++id) ASSERT_TRUE(Send(refused(id)).ok());
  ASSERT_TRUE(Send(cancel).ok());
  ASSERT_TRUE(Send(end).ok());
  for (std::uint64_t id = 6; id <= 7; ++id) ASSERT_TRUE(Send(refused(id)).ok());
  EXPECT_EQ(Send(refused(8)).code(), absl::StatusCode::kResourceExhausted);
  Score();
}

TEST_F(SessionTest, AnEmptyItemIsAnsweredAndFlagged) {
  ASSERT_TRUE(Send(Chunk(1, 0, 0, 0)).ok());
  Score();
  const v1::ItemResult& result = answers_.back().header.chunk().result();
  EXPECT_EQ(result.loss(), 0);
  EXPECT_TRUE(result.conditions().empty());
}

TEST_F(SessionTest, AClassIdOutOfRangeIsAnItemError) {
  v1::StreamRequest request = Chunk(1, 0, 2, 2);
  request.mutable_chunk()->mutable_item()->mutable_label()->mutable_class_id()->set_dtype(
      v1::INT32);
  const std::int32_t ids[2] = {1, 2};
  request.set_label(std::string(reinterpret_cast<const char*>(ids), sizeof(ids)));
  ASSERT_TRUE(Send(request).ok());
  Score();
  EXPECT_EQ(LastError(1).code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(LastError(1).field(), "label");
}

}  // namespace
}  // namespace softloss
