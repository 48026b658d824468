// Rows that a kernel over classes found unusual: looked at again from their source, one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_selection.h"
#include "kernels/cpu/label_transform.h"
#include "kernels/cpu/segment_io.h"

namespace softloss::cpu {

template <typename T>
class UnusualRows {
 public:
  // All must outlive this.
  UnusualRows(SegmentIo<T>& io, const ClassLoss<T>& loss, const ClassSelection& classes,
              const LabelTransform<T>& transform, Tally& tally)
      : io_(io),
        spec_(*io.segment().spec),
        loss_(loss),
        classes_(classes),
        transform_(transform),
        tally_(tally) {}

  struct Row {
    std::int64_t index = 0;  // in the segment
    std::int64_t id = -1;    // for class-id labels: the class
    double weight = 1;       // of the row, > 0
    bool usable = true;      // the kernel scores such rows, if their values are not too large
  };

  // Counts what the row holds. If the kernel's results stand, returns null. Otherwise sets loss()
  // (without the row weight) and gradient_square() (with it), and returns the gradient with the row
  // weight [all classes], which holds until the next call.
  const double* Examine(const Row& row);

  double loss() const { return exact_loss_; }
  double gradient_square() const { return gradient_square_; }

 private:
  void Read(const Row& row, double* x, double* t);
  double ScoreByReference(const double* t, double* x) const;
  double ScoreByLoss(double* t, double* x) const;
  void TransformLabels(double* t) const;

  SegmentIo<T>& io_;
  const LossSpec& spec_;
  const ClassLoss<T>& loss_;
  const ClassSelection& classes_;
  const LabelTransform<T>& transform_;
  Tally& tally_;
  double exact_loss_ = 0;
  double gradient_square_ = 0;
};

}  // namespace softloss::cpu
