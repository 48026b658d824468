// Messages cut at each of their bytes, as a network may cut them: every answer has the bits of the
// uncut message's.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include "server/byte_buffer.h"
#include "tests/server/server_fixture.h"
#include "tests/server/session_fixture.h"
#include "tests/testing/http2_connection.h"
#include "tests/testing/score_messages.h"

namespace softloss {
namespace {

using testing::Http2Connection;
using testing::Random;
using testing::ScoreCase;

struct CutCase {
  std::vector<std::int64_t> shape;
  std::optional<int> class_axis;
  Loss loss;
  DType prediction;
  LabelFormat label;
  DType gradient;
};

const CutCase kCases[] = {
    // All in the lanes of f32; then more than one leaf.
    {{23, 5}, -1, Loss::kSoftmaxCrossEntropy, DType::kF32, {}, DType::kF32},
    {{300, 2}, -1, Loss::kSoftmaxCrossEntropy, DType::kF32, {}, DType::kF16},
    // Tiles that cross images.
    {{2, 5, 9},
     1,
     Loss::kSoftmaxCrossEntropy,
     DType::kBF16,
     {LabelKind::kDense, DType::kU8, LabelScale::kRowSum},
     DType::kBF16},
    {{2, 3, 6},
     1,
     Loss::kSoftmaxCrossEntropy,
     DType::kF64,
     {LabelKind::kDense, DType::kF64},
     DType::kF64},
    {{9, 21},
     -1,
     Loss::kSoftmaxCrossEntropy,
     DType::kF16,
     {LabelKind::kDense, DType::kF16},
     DType::kF16},
    // A row fills vectors.
    {{3, 150},
     -1,
     Loss::kSoftmaxCrossEntropy,
     DType::kF32,
     {LabelKind::kDense, DType::kU8},
     DType::kBF16},
    {{17, 6},
     -1,
     Loss::kSoftmaxCrossEntropy,
     DType::kF32,
     {LabelKind::kClassId, DType::kI64},
     DType::kF32},
    {{2, 4, 11},
     1,
     Loss::kSoftmaxCrossEntropy,
     DType::kBF16,
     {LabelKind::kClassId, DType::kI32},
     DType::kF32},
    {{3, 17},
     std::nullopt,
     Loss::kSigmoidCrossEntropy,
     DType::kF32,
     {LabelKind::kDense, DType::kU8},
     DType::kF32},
    {{11, 4},
     -1,
     Loss::kJensenShannonDivergence,
     DType::kF32,
     {LabelKind::kDense, DType::kBF16},
     DType::kF32},
};

ScoreCase MakeCase(const CutCase& c) {
  ItemShape item;
  item.shape = c.shape;
  item.class_axis = c.class_axis;
  item.prediction = c.prediction;
  item.label = c.label;
  item.gradient = c.gradient;
  item.has_mask = item.has_row_weight = item.want_row_loss = true;
  LossSpec spec;
  spec.loss = c.loss;
  Random random(7);
  return RandomCase(item, spec, {}, random);
}

// Cut at `cut`, and at random elsewhere. Some slices own their memory, which is exactly as large;
// some are copies, which gRPC keeps inside the slice when they are short; some are empty.
grpc::ByteBuffer Cut(const std::string& bytes, std::size_t cut, Random& random) {
  const std::int64_t most = random.Chance(0.5) ? 400 : 8;  // bytes a slice
  std::vector<grpc::Slice> slices;
  for (std::size_t begin = 0; begin < bytes.size();) {
    const std::size_t limit = begin < cut ? cut : bytes.size();
    const std::size_t end = std::min<std::size_t>(limit, begin + random.Int(1, most));
    if (random.Chance(0.5)) {
      char* const memory = new char[end - begin];
      std::memcpy(memory, &bytes[begin], end - begin);
      slices.emplace_back(memory, end - begin, [](void* p) { delete[] static_cast<char*>(p); });
    } else {
      slices.emplace_back(&bytes[begin], end - begin);
    }
    if (random.Chance(0.1)) slices.emplace_back();
    begin = end;
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

class SlicesTest : public SessionTest, public ::testing::WithParamInterface<CutCase> {
 protected:
  SlicesTest() {
    backend_ = MakeCpuBackend();
    context_.backend = backend_.get();
  }

  // All that the stream answers to a message, or to a batch of them; or what was wrong with it.
  std::string ScoreOnStream(grpc::ByteBuffer bytes) {
    answers_.clear();
    canonical_ = true;
    {
      ReceivedBytes received;
      absl::Status status = received.Take(&bytes);
      const auto hand = [&](const wire::FragmentVector& fragments) {
        auto message = std::make_shared<Received<v1::StreamRequest>>();
        if (absl::Status s = message->Parse(&received, fragments); !s.ok()) return s;
        canonical_ &= message->parsed.canonical;
        return Hand(message->parsed, message->bytes, message);
      };
      if (status.ok()) {
        status = wire::IsBatch(received.fragments) ? wire::ForEachInBatch(received.fragments, hand)
                                                   : hand(received.fragments);
      }
      if (!status.ok()) return status.ToString();
    }
    while (!tasks_.empty()) Score();
    std::string all;
    for (const Answer& answer : answers_) {
      all += answer.header.SerializeAsString() + answer.gradient + answer.row_loss;
    }
    return all;
  }

  // Cut at each byte, the bytes are answered as they are uncut, with `items` results.
  void ExpectTheSameHoweverCut(const std::string& bytes, std::size_t items) {
    const grpc::Slice whole(bytes);
    const std::string want = ScoreOnStream(grpc::ByteBuffer(&whole, 1));
    ASSERT_EQ(answers_.size(), items) << want;
    for (const Answer& answer : answers_) {
      ASSERT_TRUE(answer.header.chunk().has_result()) << answer.header.ShortDebugString();
      ASSERT_FALSE(answer.gradient.empty());
      ASSERT_FALSE(answer.row_loss.empty());
    }
    Random random(1);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      ASSERT_EQ(ScoreOnStream(Cut(bytes, cut, random)), want) << "cut at " << cut;
      ASSERT_TRUE(canonical_) << "cut at " << cut;
    }
  }

  bool canonical_ = true;
};

TEST_P(SlicesTest, AStreamsMessageCutAtAnyByteGivesTheSameBits) {
  const ScoreCase c = MakeCase(GetParam());
  ASSERT_TRUE(Send(testing::DefineRequest(c, 2)).ok());
  ExpectTheSameHoweverCut(testing::ChunkRequest(c, 2, 7).SerializeAsString(), 1);
}

TEST_P(SlicesTest, ABatchCutAtAnyByteGivesTheSameBits) {
  const ScoreCase c = MakeCase(GetParam());
  ASSERT_TRUE(Send(testing::DefineRequest(c, 2)).ok());
  v1::StreamRequest batch;
  batch.add_batch(testing::ChunkRequest(c, 2, 7).SerializeAsString());
  batch.add_batch(testing::ChunkRequest(c, 2, 8).SerializeAsString());
  ExpectTheSameHoweverCut(batch.SerializeAsString(), 2);
}

INSTANTIATE_TEST_SUITE_P(Layouts, SlicesTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::to_string(info.index); });

// The whole way: DATA frames end at each byte of the message, gRPC's prefix included.
class CutCallsTest : public ServerTest, public ::testing::WithParamInterface<CutCase> {};

// Without times, which differ.
std::string Comparable(v1::ScoreResponse response) {
  response.mutable_result()->clear_times();
  return response.SerializeAsString();
}

TEST_P(CutCallsTest, AUnaryCallCutAtAnyByteGivesTheSameBits) {
  const ScoreCase c = MakeCase(GetParam());
  const v1::ScoreRequest request = testing::UnaryRequest(c);
  grpc::ClientContext context;
  v1::ScoreResponse whole;
  const grpc::Status status = stub_->Score(&context, request, &whole);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_FALSE(whole.gradient().empty());
  const std::string want = Comparable(whole);

  Http2Connection connection(server_->addresses()[0]);
  const std::string bytes = Http2Connection::Framed(request.SerializeAsString());
  Random random(2);
  // At each byte of messages up to 1000 bytes, and at a thousand of a longer one.
  const std::size_t step = 1 + bytes.size() / 1000;
  for (std::size_t cut = 1; cut < bytes.size(); cut += step) {
    const std::uint32_t call = connection.Begin("/softloss.v1.Scorer/Score");
    for (std::size_t begin = 0; begin < bytes.size();) {
      const std::size_t limit = begin < cut ? cut : bytes.size();
      const std::size_t end = std::min<std::size_t>(limit, begin + random.Int(1, 400));
      connection.Send(call, std::string_view(bytes).substr(begin, end - begin),
                      end == bytes.size());
      begin = end;
    }
    v1::ScoreResponse got;
    ASSERT_TRUE(got.ParseFromString(connection.Message(call)));
    ASSERT_EQ(Comparable(got), want) << "cut at " << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, CutCallsTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::to_string(info.index); });

}  // namespace
}  // namespace softloss
