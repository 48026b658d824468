// Score cases as messages of the wire.
#pragma once

#include <string>

#include "layout/tile.h"
#include "proto/wire/spec.h"
#include "softloss/v1/scorer.pb.h"
#include "tests/testing/score_case.h"

namespace softloss::testing {

// A tensor's bytes in the order of a chunk of all rows.
inline std::string ChunkBytes(const Bytes& tensor, const Geometry& g, std::size_t element_size) {
  std::string out;
  ForEachPiece(g, 0, g.rows(), [&](std::int64_t offset, std::int64_t elements) {
    out.append(reinterpret_cast<const char*>(tensor.data()) + offset * element_size,
               elements * element_size);
  });
  return out;
}

// Sets the bulk fields: all rows of the case.
template <typename Request>
void FillBulk(const ScoreCase& c, Request* request) {
  const auto plain = [](const Bytes& bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const Geometry& g = c.plan.geometry;
  request->set_prediction(ChunkBytes(c.prediction, g, SizeOf(c.item.prediction)));
  request->set_label(c.item.label.kind == LabelKind::kDense
                         ? ChunkBytes(c.label, g, SizeOf(c.item.label.dtype))
                         : plain(c.label));
  request->set_mask(plain(c.mask));
  request->set_row_weight(plain(c.row_weight));
}

inline v1::StreamRequest DefineRequest(const ScoreCase& c, std::uint32_t spec_id) {
  v1::StreamRequest request;
  request.mutable_define()->set_spec_id(spec_id);
  ToProto(c.spec, request.mutable_define()->mutable_spec());
  return request;
}

// The case as one chunk.
inline v1::StreamRequest ChunkRequest(const ScoreCase& c, std::uint32_t spec_id, std::uint64_t id) {
  v1::StreamRequest request;
  v1::Chunk& chunk = *request.mutable_chunk();
  chunk.set_id(id);
  chunk.set_rows(c.plan.geometry.rows());
  chunk.set_last(true);
  ToProto(c.item, chunk.mutable_item());
  chunk.mutable_item()->set_spec_id(spec_id);
  FillBulk(c, &request);
  return request;
}

// The case as a unary call.
inline v1::ScoreRequest UnaryRequest(const ScoreCase& c) {
  v1::ScoreRequest request;
  ToProto(c.item, request.mutable_item());
  ToProto(c.spec, request.mutable_item()->mutable_spec());
  FillBulk(c, &request);
  return request;
}

}  // namespace softloss::testing
