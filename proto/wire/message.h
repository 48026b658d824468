// Messages with bulk bytes, read where they lie.
//
// A message in canonical form (scorer.proto: fields ascending, each at most once, shortest
// encodings) is `header` (field 1) and then bulk fields 8…12. A small scanner finds them without
// copying the bulk bytes; anything else goes to protobuf, which gives the same answer more slowly.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "layout/fragments.h"
#include "softloss/v1/scorer.pb.h"

namespace softloss::wire {

using FragmentVector = absl::InlinedVector<Fragment, 4>;

// Field numbers of the bulk fields; requests use all five, replies the first three.
enum BulkField : int {
  kPrediction = 8,
  kLabel = 9,
  kLabelIds = 10,
  kMask = 11,
  kRowWeight = 12,

  kGradient = 8,
  kRowLoss = 9,
  kGradientRowScale = 10,
};
inline constexpr int kFirstBulkField = 8;
inline constexpr int kBulkFields = 5;

struct Bulk {
  std::array<FragmentVector, kBulkFields> fields;
  FragmentVector& operator[](BulkField f) { return fields[f - kFirstBulkField]; }
  const FragmentVector& operator[](BulkField f) const { return fields[f - kFirstBulkField]; }
};

// True if `message` is canonical: then `header` holds field 1's bytes (a copy; headers are small) and
// `bulk` points into `message`. False: ask protobuf; the outputs are unspecified.
bool ScanCanonical(Fragments message, std::string* header, Bulk* bulk);

// A parsed message. `bulk` points into the received bytes, which the caller keeps, or (after the
// fallback) into `message`, so a Parsed neither moves nor is copied.
template <typename Message>
struct Parsed {
  Message message;  // its own bulk fields are empty in canonical form: read `bulk`
  Bulk bulk;
  bool canonical = false;

  Parsed() = default;
  Parsed(const Parsed&) = delete;
  Parsed& operator=(const Parsed&) = delete;
};

// Parses ScoreRequest, StreamRequest, ScoreResponse or StreamResponse. INVALID_ARGUMENT if the bytes
// are no such message.
absl::Status Parse(Fragments bytes, Parsed<v1::ScoreRequest>* out);
absl::Status Parse(Fragments bytes, Parsed<v1::StreamRequest>* out);
absl::Status Parse(Fragments bytes, Parsed<v1::ScoreResponse>* out);
absl::Status Parse(Fragments bytes, Parsed<v1::StreamResponse>* out);

// Whether these are the bytes of a batch (StreamRequest.batch, StreamResponse.batch), which goes to
// ForEachInBatch and not to Parse.
bool IsBatch(Fragments bytes);
// Visits the messages of a batch in order; their fragments point into `bytes`. Ends with the first
// status of `visit` that is not OK, or with INVALID_ARGUMENT at the first thing that is no field
// `batch` in its shortest encoding.
absl::Status ForEachInBatch(Fragments bytes,
                            absl::FunctionRef<absl::Status(const FragmentVector&)> visit);
// Appends what comes before a message of `size` bytes in a batch.
void AppendBatchTag(std::size_t size, std::string* out);

// Appends the tag and length of a bulk field of `size` bytes; the bytes themselves follow.
void AppendBulkTag(BulkField field, std::size_t size, std::string* out);
// Appends field 1 with the serialised `header`.
void AppendHeader(const google::protobuf::MessageLite& header, std::string* out);

}  // namespace softloss::wire
