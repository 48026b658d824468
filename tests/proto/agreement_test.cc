// The scanner and protobuf read the same from any bytes: random, damaged, cut short, nested deep.
#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "proto/wire/message.h"
#include "tests/testing/random.h"
#include "tests/testing/wire_agreement.h"

namespace softloss::wire {
namespace {

using testing::CheckAgreement;
using testing::Random;
using testing::Reading;

v1::StreamRequest RandomRequest(Random& random) {
  v1::StreamRequest m;
  v1::Chunk* chunk = m.mutable_chunk();
  chunk->set_id(random.Bits() >> random.Int(0, 64));
  chunk->set_row_begin(random.Int(0, 1000));
  chunk->set_rows(random.Int(1, 1000));
  chunk->set_last(random.Chance(0.5));
  if (random.Chance(0.5)) {
    v1::Item* item = chunk->mutable_item();
    item->set_spec_id(7);
    item->mutable_prediction()->add_shape(random.Int(0, 1 << 20));
    item->mutable_prediction()->set_class_axis(-1);
    item->mutable_label()->mutable_dense()->set_dtype(v1::UINT8);
    item->set_request_key(std::string(16, 'k'));
  }
  const auto bytes = [&] {
    std::string s(random.Chance(0.2) ? 0 : random.Int(1, 400), '\0');
    for (char& c : s) c = static_cast<char>(random.Bits());
    return s;
  };
  if (random.Chance(0.8)) m.set_prediction(bytes());
  if (random.Chance(0.8)) m.set_label(bytes());
  if (random.Chance(0.2)) m.set_label_ids(bytes());
  if (random.Chance(0.4)) m.set_mask(bytes());
  if (random.Chance(0.4)) m.set_row_weight(bytes());
  return m;
}

TEST(AgreementTest, WhatProtobufWritesIsCanonical) {
  Random random(1);
  for (int n = 0; n < 300; ++n) {
    EXPECT_EQ(CheckAgreement<v1::StreamRequest>(RandomRequest(random).SerializeAsString(), n),
              Reading::kCanonical);
  }
}

TEST(AgreementTest, TruncatedAndDamagedMessages) {
  Random random(2);
  int refused = 0;
  for (int n = 0; n < 20; ++n) {
    const std::string bytes = RandomRequest(random).SerializeAsString();
    for (std::size_t size = 0; size <= bytes.size(); size += size < 60 ? 1 : 37) {
      CheckAgreement<v1::StreamRequest>(bytes.substr(0, size), size);
    }
    for (int k = 0; k < 100; ++k) {
      std::string damaged = bytes;
      const auto end = static_cast<std::int64_t>(std::min<std::size_t>(80, bytes.size()));
      damaged[random.Int(0, end)] = static_cast<char>(random.Bits());
      refused += CheckAgreement<v1::StreamRequest>(damaged, k) == Reading::kRefused;
    }
  }
  EXPECT_GT(refused, 100);
}

// Unknown groups may nest in the header as deep as protobuf allows in the whole message, no deeper.
TEST(AgreementTest, DeepNesting) {
  int refused = 0, read = 0;
  for (std::size_t depth = 95; depth < 105; ++depth) {
    std::string bytes("\x0a");
    AppendBulkTag(kPrediction, 2 * depth, &bytes);
    bytes.erase(1, 1);  // its tag; the length stays
    bytes += std::string(depth, '\x7b') + std::string(depth, '\x7c');
    (CheckAgreement<v1::StreamRequest>(bytes, 0) == Reading::kRefused ? refused : read)++;
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(read, 0);
}

}  // namespace
}  // namespace softloss::wire
