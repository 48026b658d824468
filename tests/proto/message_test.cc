#include "proto/wire/message.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "gtest/gtest.h"

namespace softloss::wire {
namespace {

std::string Joined(const FragmentVector& fragments) {
  std::string out;
  for (const Fragment& f : fragments) {
    out.append(reinterpret_cast<const char*>(f.data), f.size);
  }
  return out;
}

// `bytes` in slices of at most `size`, each in memory of its own.
struct Cut {
  Cut(const std::string& bytes, std::size_t size) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += size) {
      pieces.push_back(std::make_unique<std::string>(bytes.substr(begin, size)));
      fragments.push_back(
          {reinterpret_cast<const std::byte*>(pieces.back()->data()), pieces.back()->size()});
    }
  }
  std::vector<std::unique_ptr<std::string>> pieces;
  std::vector<Fragment> fragments;
};

v1::StreamRequest Request() {
  v1::StreamRequest request;
  request.mutable_chunk()->set_id(7);
  request.mutable_chunk()->set_rows(300);
  request.mutable_chunk()->set_last(true);
  request.set_prediction(std::string(300, 'p'));
  request.set_label(std::string(3, 'l'));
  request.set_row_weight("weight");
  return request;
}

std::string Tagged(int field, const std::string& bytes) {
  std::string out(1, static_cast<char>(field << 3 | 2));
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream(&stream).WriteVarint32(
      static_cast<std::uint32_t>(bytes.size()));
  return out + bytes;
}

// Whether the bytes parse, by the scanner or not, to what protobuf says.
void ExpectLikeProtobuf(const std::string& bytes, bool canonical) {
  v1::StreamRequest expected;
  ASSERT_TRUE(expected.ParseFromString(bytes));
  for (const std::size_t size : {bytes.size(), std::size_t{5}, std::size_t{1}}) {
    const Cut cut(bytes, std::max<std::size_t>(size, 1));
    Parsed<v1::StreamRequest> parsed;
    ASSERT_TRUE(Parse(cut.fragments, &parsed).ok());
    EXPECT_EQ(parsed.canonical, canonical);
    EXPECT_EQ(Joined(parsed.bulk[kPrediction]), expected.prediction());
    EXPECT_EQ(Joined(parsed.bulk[kLabel]), expected.label());
    EXPECT_EQ(Joined(parsed.bulk[kLabelIds]), expected.label_ids());
    EXPECT_EQ(Joined(parsed.bulk[kMask]), expected.mask());
    EXPECT_EQ(Joined(parsed.bulk[kRowWeight]), expected.row_weight());
    EXPECT_EQ(parsed.message.chunk().SerializeAsString(), expected.chunk().SerializeAsString());
    EXPECT_EQ(parsed.message.has_cancel(), expected.has_cancel());
  }
}

TEST(Message, CanonicalBytesArePointedAtWhereTheyLie) {
  const std::string bytes = Request().SerializeAsString();
  const Cut cut(bytes, 100);
  Parsed<v1::StreamRequest> parsed;
  ASSERT_TRUE(Parse(cut.fragments, &parsed).ok());
  ASSERT_TRUE(parsed.canonical);
  EXPECT_EQ(parsed.message.prediction(), "");  // not copied
  for (const FragmentVector& field : parsed.bulk.fields) {
    for (const Fragment& f : field) {
      bool inside = false;
      for (const Fragment& piece : cut.fragments) {
        inside |= f.data >= piece.data && f.data + f.size <= piece.data + piece.size;
      }
      EXPECT_TRUE(inside);
    }
  }
  ExpectLikeProtobuf(bytes, true);
}

TEST(Message, EveryCutGivesTheSame) {
  const std::string bytes = Request().SerializeAsString();
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    const Cut cut(bytes, size);
    Parsed<v1::StreamRequest> parsed;
    ASSERT_TRUE(Parse(cut.fragments, &parsed).ok()) << size;
    EXPECT_TRUE(parsed.canonical);
    EXPECT_EQ(Joined(parsed.bulk[kPrediction]), Request().prediction());
    EXPECT_EQ(Joined(parsed.bulk[kRowWeight]), "weight");
  }
}

TEST(Message, OtherEncodingsGoToProtobuf) {
  const std::string header = Tagged(1, Request().chunk().SerializeAsString());
  const std::string label = Tagged(9, "label"), prediction = Tagged(8, "logits");
  ExpectLikeProtobuf(header + prediction + label, true);
  // Out of order, twice, before the header, and with a length in more bytes than it needs.
  ExpectLikeProtobuf(header + label + prediction, false);
  ExpectLikeProtobuf(header + prediction + Tagged(8, "again") + label, false);
  ExpectLikeProtobuf(prediction + header, false);
  ExpectLikeProtobuf(header + std::string("\x42\x81\x80\x00", 4) + "x", false);
  ExpectLikeProtobuf(header + header, false);
  // A field that nobody knows, and one of another kind of message.
  ExpectLikeProtobuf(header + Tagged(13, "unknown"), false);
  v1::StreamRequest cancel;
  cancel.mutable_cancel()->set_id(3);
  ExpectLikeProtobuf(cancel.SerializeAsString(), false);
  ExpectLikeProtobuf("", false);
}

TEST(Message, LengthsBeyondTheEndAreMalformed) {
  const std::string whole = Request().SerializeAsString();
  int refused = 0;
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const std::string bytes = whole.substr(0, size);
    v1::StreamRequest expected;
    const Cut cut(bytes, 16);
    Parsed<v1::StreamRequest> parsed;
    const absl::Status status = Parse(cut.fragments, &parsed);
    EXPECT_EQ(status.ok(), expected.ParseFromString(bytes)) << size;
    if (status.ok()) continue;
    ++refused;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_GT(refused, 300);
  // A length of 2^35 - 1.
  const Cut cut(std::string("\x0a\xff\xff\xff\xff\x7f", 6), 6);
  Parsed<v1::StreamRequest> parsed;
  EXPECT_EQ(Parse(cut.fragments, &parsed).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Message, ABatchIsWalkedWhereItLies) {
  const std::vector<std::string> messages = {Request().SerializeAsString(), "", "x",
                                             std::string(200, 'y')};
  v1::StreamRequest batch;
  std::string by_hand;
  for (const std::string& m : messages) {
    batch.add_batch(m);
    AppendBatchTag(m.size(), &by_hand);
    by_hand += m;
  }
  const std::string bytes = batch.SerializeAsString();
  EXPECT_EQ(by_hand, bytes);
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    const Cut cut(bytes, size);
    ASSERT_TRUE(IsBatch(cut.fragments));
    std::vector<std::string> seen;
    const absl::Status status = ForEachInBatch(cut.fragments, [&](const FragmentVector& m) {
      seen.push_back(Joined(m));
      return absl::OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(seen, messages) << size;
  }
  EXPECT_FALSE(IsBatch({}));
  EXPECT_FALSE(IsBatch(Cut(messages[0], 10).fragments));
}

TEST(Message, ABatchEndsAtTheFirstThingThatIsNone) {
  v1::StreamRequest batch;
  batch.add_batch("one");
  batch.add_batch("two");
  const std::string whole = batch.SerializeAsString();
  int visited = 0;
  const auto walk = [&](const std::string& bytes) {
    visited = 0;
    const Cut cut(bytes, 2);
    return ForEachInBatch(cut.fragments, [&](const FragmentVector&) {
      ++visited;
      return absl::OkStatus();
    });
  };
  for (std::size_t size = 1; size < whole.size(); ++size) {
    if (size == whole.size() / 2) continue;  // a batch of one
    EXPECT_EQ(walk(whole.substr(0, size)).code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(visited, size > whole.size() / 2 ? 1 : 0);
  }
  EXPECT_EQ(walk(whole + Tagged(8, "prediction")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(visited, 2);
  // A length in more bytes than it needs, and one beyond the end.
  EXPECT_FALSE(walk(std::string("\x22\x81\x00x", 4)).ok());
  EXPECT_FALSE(walk(std::string("\x22\xff\xff\xff\xff\x7f", 6)).ok());
  const Cut cut(whole, 3);
  EXPECT_EQ(ForEachInBatch(cut.fragments,
                           [&](const FragmentVector&) { return absl::CancelledError("enough"); }),
            absl::CancelledError("enough"));
}

TEST(Message, RepliesLackTheLastBulkFields) {
  v1::StreamResponse reply;
  reply.mutable_chunk()->set_id(1);
  reply.set_gradient("gradient");
  reply.set_row_loss("loss");
  // For a reply, field 11 is unknown: kept by protobuf, and no bulk.
  const std::string bytes = reply.SerializeAsString() + Tagged(11, "mask");
  const Cut cut(bytes, 4);
  Parsed<v1::StreamResponse> parsed;
  ASSERT_TRUE(Parse(cut.fragments, &parsed).ok());
  EXPECT_FALSE(parsed.canonical);
  EXPECT_EQ(Joined(parsed.bulk[kGradient]), "gradient");
  EXPECT_EQ(Joined(parsed.bulk[kRowLoss]), "loss");
  EXPECT_EQ(Joined(parsed.bulk[kMask]), "");
}

TEST(Message, WhatIsWrittenByHandIsCanonical) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{127}, std::size_t{128},
                                 std::size_t{16384}, std::size_t{2} << 20}) {
    v1::StreamRequest request = Request();
    request.clear_label();
    request.clear_row_weight();
    request.set_prediction(std::string(size, 'x'));
    std::string bytes;
    AppendHeader(request.chunk(), &bytes);
    AppendBulkTag(kPrediction, size, &bytes);
    bytes += request.prediction();
    EXPECT_EQ(bytes, request.SerializeAsString());
  }
}

}  // namespace
}  // namespace softloss::wire
