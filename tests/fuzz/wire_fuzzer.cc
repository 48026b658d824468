// The scanner and protobuf must agree on every input: whether it is a message, and what is in it.
//
// Input: a byte that picks the message's type, a byte n, n bytes that say where the received slices
// are cut, and the message.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "proto/wire/message.h"

namespace softloss::wire {
namespace {

void Check(bool ok) {
  if (!ok) std::abort();
}

std::string Joined(const FragmentVector& fragments) {
  std::string out;
  for (const Fragment& f : fragments) {
    Check(f.size > 0);
    out.append(reinterpret_cast<const char*>(f.data), f.size);
  }
  return out;
}

// Each slice in memory of its own, so that a read past its end is seen.
class Slices {
 public:
  Slices(const std::string& bytes, const std::uint8_t* cuts, std::size_t cut_count) {
    std::size_t begin = 0;
    for (std::size_t i = 0; begin < bytes.size(); ++i) {
      const std::size_t want = i < cut_count ? cuts[i] : bytes.size();
      const std::size_t size = std::clamp<std::size_t>(want, 1, bytes.size() - begin);
      memory_.push_back(std::make_unique<std::byte[]>(size));
      std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()) + begin, size,
                  memory_.back().get());
      fragments_.push_back({memory_.back().get(), size});
      begin += size;
    }
  }
  Fragments fragments() const { return fragments_; }

 private:
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  std::vector<Fragment> fragments_;
};

void ExpectBulk(const v1::ScoreRequest& m, const Bulk& bulk) {
  Check(Joined(bulk[kPrediction]) == m.prediction());
  Check(Joined(bulk[kLabel]) == m.label());
  Check(Joined(bulk[kLabelIds]) == m.label_ids());
  Check(Joined(bulk[kMask]) == m.mask());
  Check(Joined(bulk[kRowWeight]) == m.row_weight());
}

void ExpectBulk(const v1::StreamRequest& m, const Bulk& bulk) {
  Check(Joined(bulk[kPrediction]) == m.prediction());
  Check(Joined(bulk[kLabel]) == m.label());
  Check(Joined(bulk[kLabelIds]) == m.label_ids());
  Check(Joined(bulk[kMask]) == m.mask());
  Check(Joined(bulk[kRowWeight]) == m.row_weight());
}

template <typename Reply>
void ExpectBulk(const Reply& m, const Bulk& bulk) {
  Check(Joined(bulk[kGradient]) == m.gradient());
  Check(Joined(bulk[kRowLoss]) == m.row_loss());
  Check(Joined(bulk[kGradientRowScale]) == m.gradient_row_scale());
}

void ClearBulk(google::protobuf::Message* message) {
  const auto* reflection = message->GetReflection();
  for (int i = kFirstBulkField; i < kFirstBulkField + kBulkFields; ++i) {
    const auto* field = message->GetDescriptor()->FindFieldByNumber(i);
    if (field != nullptr) reflection->ClearField(message, field);
  }
}

template <typename Message>
void Compare(const std::string& bytes, const Slices& slices) {
  Message expected;
  const bool valid = expected.ParseFromString(bytes);
  Parsed<Message> parsed;
  Check(Parse(slices.fragments(), &parsed).ok() == valid);
  if (!valid) return;
  ExpectBulk(expected, parsed.bulk);
  ClearBulk(&expected);
  ClearBulk(&parsed.message);
  Check(expected.SerializeAsString() == parsed.message.SerializeAsString());
}

}  // namespace
}  // namespace softloss::wire

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace softloss;
  if (size < 2) return 0;
  const std::size_t cuts = std::min<std::size_t>(data[1], size - 2);
  const std::string bytes(reinterpret_cast<const char*>(data) + 2 + cuts, size - 2 - cuts);
  const wire::Slices slices(bytes, data + 2, cuts);
  switch (data[0] % 4) {
    case 0: wire::Compare<v1::ScoreRequest>(bytes, slices); break;
    case 1: wire::Compare<v1::StreamRequest>(bytes, slices); break;
    case 2: wire::Compare<v1::ScoreResponse>(bytes, slices); break;
    case 3: wire::Compare<v1::StreamResponse>(bytes, slices); break;
  }
  return 0;
}
