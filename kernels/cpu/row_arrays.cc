#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_arrays.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <limits>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/row_arrays.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <typename T>
void Sum(std::size_t n, const RowArrays<T>& rows, double tolerance, LeafSum& sum, Tally& tally) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  using M = hn::Mask<Tag<T>>;
  const V zero = hn::Zero(d);
  const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const V limit = hn::Set(d, static_cast<T>(tolerance));
  WideSum<Tag<T>> loss_sum(d), weight_sum(d), square_sum(d);
  std::size_t valid = 0, nonfinite = 0, unnormalized = 0;
  for (std::size_t r = 0; r < n; r += hn::Lanes(d)) {
    const V weight = hn::Load(d, rows.row_weight + r);
    const M active = hn::Gt(weight, zero);
    const V loss = hn::Load(d, rows.loss + r);
    loss_sum.Add(d, loss);
    const V class_weighted = hn::Load(d, rows.class_weighted + r);
    weight_sum.Add(d, hn::IfThenElseZero(active, hn::Mul(weight, class_weighted)));
    const V square = hn::Load(d, rows.gradient_square + r);
    square_sum.Add(d, hn::IfThenElseZero(active, hn::Mul(hn::Mul(weight, weight), square)));
    valid += hn::CountTrue(d, hn::Ge(weight, zero));
    nonfinite += hn::CountTrue(d, hn::Not(hn::Lt(hn::Abs(loss), infinity)));
    const V deviation = hn::Abs(hn::Sub(hn::Load(d, rows.label_sum + r), hn::Set(d, T(1))));
    unnormalized += hn::CountTrue(d, hn::And(active, hn::Gt(deviation, limit)));
  }
  sum.loss += loss_sum.Total();
  sum.weight += weight_sum.Total();
  sum.gradient_square += square_sum.Total();
  tally.valid += static_cast<std::int64_t>(valid);
  tally.nonfinite_losses += static_cast<std::int64_t>(nonfinite);
  tally.unnormalized_labels += static_cast<std::int64_t>(unnormalized);
}

template <typename T>
void Finish(std::size_t n, const RowArrays<T>& rows, const T* dot, const T* scored_sum,
            const T* others) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  for (std::size_t r = 0; r < n; r += hn::Lanes(d)) {
    const V weight = hn::Load(d, rows.row_weight + r);
    const V log_d = LogOnePlus(d, hn::Load(d, others + r));
    const V loss = hn::MulAdd(hn::Load(d, scored_sum + r), log_d, hn::Load(d, dot + r));
    hn::Store(hn::IfThenElseZero(hn::Gt(weight, hn::Zero(d)), hn::Mul(weight, loss)), d,
              rows.loss + r);
  }
}

void SumF32(std::size_t n, const RowArrays<float>& rows, double tolerance, LeafSum& sum,
            Tally& tally) {
  Sum(n, rows, tolerance, sum, tally);
}
void SumF64(std::size_t n, const RowArrays<double>& rows, double tolerance, LeafSum& sum,
            Tally& tally) {
  Sum(n, rows, tolerance, sum, tally);
}
void FinishF32(std::size_t n, const RowArrays<float>& rows, const float* dot,
               const float* scored_sum, const float* others) {
  Finish(n, rows, dot, scored_sum, others);
}
void FinishF64(std::size_t n, const RowArrays<double>& rows, const double* dot,
               const double* scored_sum, const double* others) {
  Finish(n, rows, dot, scored_sum, others);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(SumF32);
HWY_EXPORT(SumF64);
HWY_EXPORT(FinishF32);
HWY_EXPORT(FinishF64);

void SumRows(std::size_t n, const RowArrays<float>& rows, double tolerance, LeafSum& sum,
             Tally& tally) {
  HWY_DYNAMIC_DISPATCH(SumF32)(n, rows, tolerance, sum, tally);
}
void SumRows(std::size_t n, const RowArrays<double>& rows, double tolerance, LeafSum& sum,
             Tally& tally) {
  HWY_DYNAMIC_DISPATCH(SumF64)(n, rows, tolerance, sum, tally);
}
void FinishLosses(std::size_t n, const RowArrays<float>& rows, const float* dot,
                  const float* scored_sum, const float* others) {
  HWY_DYNAMIC_DISPATCH(FinishF32)(n, rows, dot, scored_sum, others);
}
void FinishLosses(std::size_t n, const RowArrays<double>& rows, const double* dot,
                  const double* scored_sum, const double* others) {
  HWY_DYNAMIC_DISPATCH(FinishF64)(n, rows, dot, scored_sum, others);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
