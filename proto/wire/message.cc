#include "proto/wire/message.h"

#include <algorithm>
#include <cstring>

#include "google/protobuf/io/coded_stream.h"

namespace softloss::wire {
namespace {

constexpr int kBatchField = 4;

constexpr std::uint8_t LengthDelimitedTag(int field) {
  return static_cast<std::uint8_t>(field << 3 | 2);
}

void AppendLength(std::size_t size, std::string* out) {
  for (; size >= 0x80; size >>= 7) out->push_back(static_cast<char>(size | 0x80));
  out->push_back(static_cast<char>(size));
}

// Walks over fragments without joining them.
class Cursor {
 public:
  explicit Cursor(Fragments fragments) : fragments_(fragments), left_(TotalSize(fragments)) {}

  std::size_t left() const { return left_; }

  bool ReadByte(std::uint8_t* byte) {
    if (left_ == 0) return false;
    Skip();
    *byte = static_cast<std::uint8_t>(fragments_[index_].data[offset_]);
    ++offset_;
    --left_;
    return true;
  }

  // A length in its shortest encoding, within what is left.
  bool ReadLength(std::size_t* length) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      std::uint8_t byte;
      if (!ReadByte(&byte)) return false;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte == 0 && shift > 0) return false;
        *length = value;
        return value <= left_;
      }
    }
    return false;
  }

  template <typename Visit>
  void Take(std::size_t size, Visit visit) {
    left_ -= size;
    while (size > 0) {
      Skip();
      const Fragment& f = fragments_[index_];
      const std::size_t n = std::min(size, f.size - offset_);
      visit(Fragment{f.data + offset_, n});
      offset_ += n;
      size -= n;
    }
  }

 private:
  void Skip() {
    while (offset_ == fragments_[index_].size) {
      ++index_;
      offset_ = 0;
    }
  }

  Fragments fragments_;
  std::size_t index_ = 0;
  std::size_t offset_ = 0;
  std::size_t left_;
};

std::string Flatten(Fragments fragments) {
  std::string flat;
  flat.reserve(TotalSize(fragments));
  for (const Fragment& f : fragments) {
    flat.append(reinterpret_cast<const char*>(f.data), f.size);
  }
  return flat;
}

void Point(const std::string& bytes, FragmentVector* fragments) {
  if (bytes.empty()) return;
  fragments->push_back({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
}

void PointBulk(const v1::ScoreRequest& m, Bulk* bulk) {
  Point(m.prediction(), &(*bulk)[kPrediction]);
  Point(m.label(), &(*bulk)[kLabel]);
  Point(m.label_ids(), &(*bulk)[kLabelIds]);
  Point(m.mask(), &(*bulk)[kMask]);
  Point(m.row_weight(), &(*bulk)[kRowWeight]);
}
void PointBulk(const v1::StreamRequest& m, Bulk* bulk) {
  Point(m.prediction(), &(*bulk)[kPrediction]);
  Point(m.label(), &(*bulk)[kLabel]);
  Point(m.label_ids(), &(*bulk)[kLabelIds]);
  Point(m.mask(), &(*bulk)[kMask]);
  Point(m.row_weight(), &(*bulk)[kRowWeight]);
}
void PointBulk(const v1::ScoreResponse& m, Bulk* bulk) {
  Point(m.gradient(), &(*bulk)[kGradient]);
  Point(m.row_loss(), &(*bulk)[kRowLoss]);
  Point(m.gradient_row_scale(), &(*bulk)[kGradientRowScale]);
}
void PointBulk(const v1::StreamResponse& m, Bulk* bulk) {
  Point(m.gradient(), &(*bulk)[kGradient]);
  Point(m.row_loss(), &(*bulk)[kRowLoss]);
  Point(m.gradient_row_scale(), &(*bulk)[kGradientRowScale]);
}

// As deep as protobuf would go, for which the header is a level down already.
bool ParseHeader(const std::string& bytes, google::protobuf::MessageLite* header) {
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  input.SetRecursionLimit(google::protobuf::io::CodedInputStream::GetDefaultRecursionLimit() - 1);
  return header->ParseFromCodedStream(&input) && input.ConsumedEntireMessage();
}

google::protobuf::MessageLite* Header(v1::ScoreRequest* m) { return m->mutable_item(); }
google::protobuf::MessageLite* Header(v1::StreamRequest* m) { return m->mutable_chunk(); }
google::protobuf::MessageLite* Header(v1::ScoreResponse* m) { return m->mutable_result(); }
google::protobuf::MessageLite* Header(v1::StreamResponse* m) { return m->mutable_chunk(); }

// The highest bulk field that the message type has: beyond it a field is unknown, for protobuf.
template <typename Message>
constexpr int kLastBulkField = kRowWeight;
template <>
constexpr int kLastBulkField<v1::ScoreResponse> = kGradientRowScale;
template <>
constexpr int kLastBulkField<v1::StreamResponse> = kGradientRowScale;

template <typename Message>
absl::Status ParseMessage(Fragments bytes, Parsed<Message>* out) {
  out->message.Clear();
  for (FragmentVector& field : out->bulk.fields) field.clear();
  std::string header;
  out->canonical = ScanCanonical(bytes, &header, &out->bulk);
  for (int f = kLastBulkField<Message> + 1; f < kFirstBulkField + kBulkFields; ++f) {
    out->canonical &= out->bulk.fields[f - kFirstBulkField].empty();
  }
  if (out->canonical) {
    if (ParseHeader(header, Header(&out->message))) return absl::OkStatus();
  } else {
    for (FragmentVector& field : out->bulk.fields) field.clear();
    if (out->message.ParseFromString(Flatten(bytes))) {
      PointBulk(out->message, &out->bulk);
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("malformed message: ", TotalSize(bytes),
                                                 " bytes are not a ", out->message.GetTypeName()));
}

}  // namespace

bool ScanCanonical(Fragments message, std::string* header, Bulk* bulk) {
  Cursor cursor(message);
  std::uint8_t tag;
  std::size_t size;
  if (!cursor.ReadByte(&tag) || tag != LengthDelimitedTag(1) || !cursor.ReadLength(&size)) {
    return false;
  }
  header->clear();
  header->reserve(size);
  cursor.Take(size,
              [&](Fragment f) { header->append(reinterpret_cast<const char*>(f.data), f.size); });
  for (int previous = kFirstBulkField - 1; cursor.left() > 0;) {
    if (!cursor.ReadByte(&tag)) return false;
    const int field = tag >> 3;
    if (tag != LengthDelimitedTag(field) || field <= previous ||
        field >= kFirstBulkField + kBulkFields || !cursor.ReadLength(&size)) {
      return false;
    }
    FragmentVector& fragments = bulk->fields[field - kFirstBulkField];
    fragments.clear();
    cursor.Take(size, [&](Fragment f) { fragments.push_back(f); });
    previous = field;
  }
  return true;
}

absl::Status Parse(Fragments bytes, Parsed<v1::ScoreRequest>* out) {
  return ParseMessage(bytes, out);
}
absl::Status Parse(Fragments bytes, Parsed<v1::StreamRequest>* out) {
  return ParseMessage(bytes, out);
}
absl::Status Parse(Fragments bytes, Parsed<v1::ScoreResponse>* out) {
  return ParseMessage(bytes, out);
}
absl::Status Parse(Fragments bytes, Parsed<v1::StreamResponse>* out) {
  return ParseMessage(bytes, out);
}

bool IsBatch(Fragments bytes) {
  std::uint8_t tag;
  return Cursor(bytes).ReadByte(&tag) && tag == LengthDelimitedTag(kBatchField);
}

absl::Status ForEachInBatch(Fragments bytes,
                            absl::FunctionRef<absl::Status(const FragmentVector&)> visit) {
  Cursor cursor(bytes);
  FragmentVector message;
  while (cursor.left() > 0) {
    std::uint8_t tag;
    std::size_t size;
    if (!cursor.ReadByte(&tag) || tag != LengthDelimitedTag(kBatchField) ||
        !cursor.ReadLength(&size)) {
      return absl::InvalidArgumentError(
          absl::StrCat("malformed message: batch must be the only field, and not be cut short; at ",
                       TotalSize(bytes) - cursor.left(), " of ", TotalSize(bytes),
                       " bytes there is something else"));
    }
    message.clear();
    cursor.Take(size, [&](Fragment f) { message.push_back(f); });
    if (absl::Status s = visit(message); !s.ok()) return s;
  }
  return absl::OkStatus();
}

void AppendBatchTag(std::size_t size, std::string* out) {
  out->push_back(static_cast<char>(LengthDelimitedTag(kBatchField)));
  AppendLength(size, out);
}

void AppendBulkTag(BulkField field, std::size_t size, std::string* out) {
  out->push_back(static_cast<char>(LengthDelimitedTag(field)));
  AppendLength(size, out);
}

void AppendHeader(const google::protobuf::MessageLite& header, std::string* out) {
  const std::size_t size = header.ByteSizeLong();
  out->push_back(static_cast<char>(LengthDelimitedTag(1)));
  AppendLength(size, out);
  const std::size_t at = out->size();
  out->resize(at + size);
  header.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(&(*out)[at]));
}

}  // namespace softloss::wire
