// Whether wire::Parse reads from some bytes what protobuf reads.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <algorithm>
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "proto/wire/message.h"
#include "tests/testing/random.h"

namespace softloss::testing {

enum class Reading { kCanonical, kFallback, kRefused };

// The bytes, copied into pieces of random sizes with memory of their own, so that a sanitizer sees
// any step beyond one.
class ScatteredBytes {
 public:
  ScatteredBytes(const std::string& bytes, std::uint64_t seed) {
    Random random(seed);
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t left = bytes.size() - at;
      const std::size_t size =
          seed == 0 ? left : std::min<std::size_t>(left, random.Int(1, seed % 2 == 0 ? 4 : 60));
      pieces_.push_back(std::make_unique<std::byte[]>(size));
      std::memcpy(pieces_.back().get(), bytes.data() + at, size);
      fragments_.push_back({pieces_.back().get(), size});
      at += size;
    }
  }
  Fragments fragments() const { return fragments_; }

 private:
  std::vector<std::unique_ptr<std::byte[]>> pieces_;
  std::vector<Fragment> fragments_;
};

inline std::string Joined(const wire::FragmentVector& fragments) {
  std::string bytes;
  for (const Fragment& f : fragments) {
    EXPECT_GT(f.size, 0u);
    bytes.append(reinterpret_cast<const char*>(f.data), f.size);
  }
  return bytes;
}

// Reads `bytes`, scattered by `seed`, both ways; the differences are gtest failures. Bulk fields are
// fields 8 … 12 that the message type has.
template <typename Message>
Reading CheckAgreement(const std::string& bytes, std::uint64_t seed) {
  const ScatteredBytes scattered(bytes, seed);
  wire::Parsed<Message> parsed;
  const absl::Status status = wire::Parse(scattered.fragments(), &parsed);
  Message want;
  const bool ok = want.ParseFromString(bytes);
  EXPECT_EQ(status.ok(), ok) << status;
  if (!ok || !status.ok()) return Reading::kRefused;

  Message got = parsed.message;
  const auto* descriptor = Message::descriptor();
  for (int number = wire::kFirstBulkField; number < wire::kFirstBulkField + wire::kBulkFields;
       ++number) {
    const std::string bulk = Joined(parsed.bulk[static_cast<wire::BulkField>(number)]);
    const auto* field = descriptor->FindFieldByNumber(number);
    if (field == nullptr) {
      EXPECT_EQ(bulk, "") << number;
      continue;
    }
    EXPECT_EQ(bulk, want.GetReflection()->GetString(want, field)) << field->full_name();
    if (bulk.empty()) {
      got.GetReflection()->ClearField(&got, field);
    } else {
      got.GetReflection()->SetString(&got, field, bulk);
    }
  }
  // As bytes, because a NaN does not equal itself.
  EXPECT_EQ(got.SerializeAsString(), want.SerializeAsString());
  return parsed.canonical ? Reading::kCanonical : Reading::kFallback;
}

}  // namespace softloss::testing
