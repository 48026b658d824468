// The backend "reference": bytes in, kernels/reference.h, bytes out.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "kernels/fragment_cursor.h"
#include "kernels/reference.h"
#include "kernels/reference_regions.h"
#include "kernels/reference_sparse.h"
#include "kernels/row_semantics.h"

namespace softloss {
namespace {

using reference::Real;
using reference::Row;

constexpr std::string_view kTarget =
#if defined(__x86_64__)
    "x86_64";
#elif defined(__aarch64__)
    "aarch64";
#else
    "generic";
#endif

std::vector<std::byte> Gather(Fragments fragments) {
  std::vector<std::byte> bytes(TotalSize(fragments));
  FragmentCursor(fragments).Copy(bytes.size(), bytes.data());
  return bytes;
}

// A segment whose tensors have been gathered.
class SegmentScorer {
 public:
  SegmentScorer(const ScoreKey& key, Segment& segment)
      : key_(key),
        segment_(segment),
        row_loss_dtype_(key.prediction == DType::kF64 ? DType::kF64 : DType::kF32),
        prediction_(Gather(segment.prediction)),
        label_(Gather(segment.label)),
        label_ids_(Gather(segment.label_ids)),
        mask_(Gather(segment.mask)),
        row_weight_(Gather(segment.row_weight)),
        gradient_(TotalSize(segment.gradient)),
        row_loss_(TotalSize(segment.row_loss)),
        x_(static_cast<std::size_t>(key.classes)),
        t_(static_cast<std::size_t>(key.classes)) {}

  void Run() {
    segment_.tally = Tally();
    segment_.status = absl::OkStatus();
    IsRegional(key_.loss) ? RunImages() : RunLeaves();
    if (!segment_.status.ok()) return;
    FragmentWriter(segment_.gradient).Write(gradient_.data(), gradient_.size());
    FragmentWriter(segment_.row_loss).Write(row_loss_.data(), row_loss_.size());
  }

 private:
  void RunLeaves() {
    const std::int64_t leaf_rows = LeafRows(key_.classes);
    for (std::int64_t begin = 0; begin < segment_.rows; begin += leaf_rows) {
      const std::int64_t end = std::min(begin + leaf_rows, segment_.rows);
      Real loss = 0, weight = 0, gradient_square = 0;
      for (std::int64_t r = begin; r < end; ++r) {
        const Row row = ScoreRow(r);
        if (!segment_.status.ok()) return;
        for (Real v : row.loss) loss += v;
        weight += row.weight;
        if (key_.gradient.has_value()) {
          for (Real v : row.gradient) gradient_square += v * v;
        }
        segment_.tally += row.tally;
        StoreRow(r, row);
      }
      LeafSum& leaf = segment_.leaves[static_cast<std::size_t>(begin / leaf_rows)];
      leaf.loss = static_cast<double>(loss);
      leaf.weight = static_cast<double>(weight);
      leaf.gradient_square = static_cast<double>(gradient_square);
    }
  }

  void RunImages() {
    const std::int64_t rows = segment_.rows / static_cast<std::int64_t>(segment_.leaves.size());
    std::vector<reference::Position> positions(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < segment_.leaves.size(); ++i) {
      const std::int64_t begin = static_cast<std::int64_t>(i) * rows;
      for (std::int64_t r = 0; r < rows; ++r) {
        reference::Position& position = positions[static_cast<std::size_t>(r)];
        position.weight = 1;
        position.counts = ReadRow(begin + r, &position.weight);
        if (!segment_.status.ok()) return;
        position.x = x_;
        position.t = t_;
      }
      const reference::Image image = reference::ScoreImage(key_, *segment_.spec, positions);
      StoreImage(begin, image, &segment_.leaves[i]);
      segment_.tally += image.tally;
    }
  }

  void StoreImage(std::int64_t begin, const reference::Image& image, LeafSum* leaf) {
    Real loss = 0, square = 0;
    for (std::int64_t c = 0; c < key_.classes; ++c) {
      loss += image.loss[static_cast<std::size_t>(c)];
      if (row_loss_.empty()) continue;
      reference::StoreFloat(
          row_loss_dtype_, image.loss[static_cast<std::size_t>(c)], row_loss_.data(),
          begin / static_cast<std::int64_t>(image.gradient.size()) * key_.classes + c);
    }
    std::int64_t r = begin;
    for (const std::vector<Real>& row : image.gradient) {
      if (!key_.gradient.has_value()) break;
      for (std::int64_t c = 0; c < key_.classes; ++c) {
        const Real g = row[static_cast<std::size_t>(c)];
        square += g * g;
        reference::StoreFloat(*key_.gradient, g, gradient_.data(), Index(r, c));
      }
      ++r;
    }
    *leaf = {static_cast<double>(loss), static_cast<double>(image.weight),
             static_cast<double>(square)};
  }

  std::int64_t Index(std::int64_t r, std::int64_t c) const {
    return key_.class_last ? r * key_.classes + c : c * segment_.rows + r;
  }

  Row ScoreRow(std::int64_t r) {
    Real row_weight = 1;
    if (!ReadRow(r, &row_weight)) return reference::SkippedRow(key_);
    if (key_.label.kind != LabelKind::kSparse) {
      return reference::ScoreRow(key_, *segment_.spec, x_, t_, row_weight);
    }
    const reference::SparseLabel label = ReadSparse(r);
    if (!segment_.status.ok()) return {};
    return reference::ScoreSparse(key_, *segment_.spec, x_, label, row_weight);
  }

  // Fills x_ and, if labels are not sparse, t_. False for a row that does not count, or is wrong.
  bool ReadRow(std::int64_t r, Real* row_weight) {
    if (!mask_.empty() && mask_[static_cast<std::size_t>(r)] == std::byte{0}) return false;
    if (!row_weight_.empty()) {
      *row_weight = reference::LoadFloat(DType::kF32, row_weight_.data(), r);
    }
    if (!IsRowWeight(static_cast<float>(*row_weight))) {
      segment_.status = BadRowWeight(segment_, r, static_cast<float>(*row_weight));
      return false;
    }
    for (std::int64_t c = 0; c < key_.classes; ++c) {
      x_[static_cast<std::size_t>(c)] =
          reference::LoadFloat(key_.prediction, prediction_.data(), Index(r, c));
    }
    if (key_.label.kind == LabelKind::kClassId) {
      const std::int64_t id = reference::LoadInteger(key_.label.dtype, label_.data(), r);
      if (segment_.spec->ignore_index == id) return false;
      if (id < 0 || id >= key_.classes) {
        segment_.status = BadClassId(segment_, r, id, key_.classes);
        return false;
      }
      std::fill(t_.begin(), t_.end(), 0);
      t_[static_cast<std::size_t>(id)] = 1;
    } else if (key_.label.kind == LabelKind::kDense) {
      for (std::int64_t c = 0; c < key_.classes; ++c) {
        t_[static_cast<std::size_t>(c)] =
            reference::LoadFloat(key_.label.dtype, label_.data(), Index(r, c));
      }
      t_ = reference::DecodeLabels(key_, t_, segment_.spec->class_mask);
    }
    return true;
  }

  reference::SparseLabel ReadSparse(std::int64_t r) {
    reference::SparseLabel label;
    std::vector<Real> stored;
    for (std::int64_t i = r * key_.label.k; i < (r + 1) * key_.label.k; ++i) {
      const std::int64_t id = reference::LoadInteger(key_.label.id_dtype, label_ids_.data(), i);
      if (id < 0 || id >= key_.classes ||
          std::find(label.ids.begin(), label.ids.end(), id) != label.ids.end()) {
        segment_.status = BadSparseId(segment_, r, id, key_.classes);
        return {};
      }
      label.ids.push_back(id);
      stored.push_back(reference::LoadFloat(key_.label.dtype, label_.data(), i));
    }
    label.values = reference::DecodeLabels(key_, stored);
    return label;
  }

  void StoreRow(std::int64_t r, const Row& row) {
    if (!gradient_.empty()) {
      for (std::int64_t c = 0; c < key_.classes; ++c) {
        reference::StoreFloat(*key_.gradient, row.gradient[static_cast<std::size_t>(c)],
                              gradient_.data(), Index(r, c));
      }
    }
    if (row_loss_.empty()) return;
    if (!IsElementwise(key_.loss)) {
      reference::StoreFloat(row_loss_dtype_, row.loss[0], row_loss_.data(), r);
      return;
    }
    for (std::int64_t c = 0; c < key_.classes; ++c) {
      reference::StoreFloat(row_loss_dtype_, row.loss[static_cast<std::size_t>(c)],
                            row_loss_.data(), Index(r, c));
    }
  }

  const ScoreKey& key_;
  Segment& segment_;
  const DType row_loss_dtype_;
  const std::vector<std::byte> prediction_, label_, label_ids_, mask_, row_weight_;
  std::vector<std::byte> gradient_, row_loss_;
  std::vector<Real> x_, t_;
};

class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  std::string numerics_id() const override { return NumericsId(name(), kTarget); }
  absl::Status Supports(const ScoreKey&) const override { return absl::OkStatus(); }

  absl::Status Score(const ScoreKey& key, absl::Span<Segment> batch, Executor& executor) override {
    executor.ParallelFor(static_cast<std::int64_t>(batch.size()), [&](std::int64_t i) {
      SegmentScorer(key, batch[static_cast<std::size_t>(i)]).Run();
    });
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace softloss
