// From a term (class_terms-inl.h) to a ClassLoss, a copy a SIMD target. A loss's file is
//
//   foreach_target's lines, HWY_BEFORE_NAMESPACE(), namespace softloss::cpu::HWY_NAMESPACE,
//   template <typename T> class Brier : public ClassTerm<T> { … };
//   SOFTLOSS_CLASS_LOSS_ON_TARGET(Brier)
//   and, once, in namespace softloss::cpu: SOFTLOSS_CLASS_LOSS(Brier)
//
// which defines FindBrier<float> and FindBrier<double>.
#if defined(SOFTLOSS_KERNELS_CPU_CLASS_FAMILY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOFTLOSS_KERNELS_CPU_CLASS_FAMILY_INL_H_
#undef SOFTLOSS_KERNELS_CPU_CLASS_FAMILY_INL_H_
#else
#define SOFTLOSS_KERNELS_CPU_CLASS_FAMILY_INL_H_
#endif

#include "hwy/highway.h"

#include "kernels/cpu/class_columns-inl.h"
#include "kernels/cpu/class_family.h"
#include "kernels/cpu/class_loss.h"
#include "kernels/cpu/class_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

template <template <typename> class Term, typename T>
const ClassLoss<T>& FamilyLoss(const LossSpec& spec) {
  static constexpr ClassLoss<T> kLogits = {.weighs_labels = false,
                                           .columns = &ScoreColumns<Term, true, T>,
                                           .row = &ScoreRow<Term, true, T>};
  static constexpr ClassLoss<T> kProbabilities = {.weighs_labels = false,
                                                  .columns = &ScoreColumns<Term, false, T>,
                                                  .row = &ScoreRow<Term, false, T>};
  return spec.prediction_kind == PredictionKind::kProbabilities ? kProbabilities : kLogits;
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#define SOFTLOSS_CLASS_LOSS_ON_TARGET(Term)                  \
  const ClassLoss<float>& Term##F32(const LossSpec& spec) {  \
    return FamilyLoss<Term, float>(spec);                    \
  }                                                          \
  const ClassLoss<double>& Term##F64(const LossSpec& spec) { \
    return FamilyLoss<Term, double>(spec);                   \
  }

#define SOFTLOSS_CLASS_LOSS(Term)                                     \
  HWY_EXPORT(Term##F32);                                              \
  HWY_EXPORT(Term##F64);                                              \
  template <>                                                         \
  const ClassLoss<float>& Find##Term<float>(const LossSpec& spec) {   \
    return HWY_DYNAMIC_DISPATCH(Term##F32)(spec);                     \
  }                                                                   \
  template <>                                                         \
  const ClassLoss<double>& Find##Term<double>(const LossSpec& spec) { \
    return HWY_DYNAMIC_DISPATCH(Term##F64)(spec);                     \
  }

#endif  // SOFTLOSS_KERNELS_CPU_CLASS_FAMILY_INL_H_
