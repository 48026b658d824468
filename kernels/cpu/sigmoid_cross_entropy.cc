#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sigmoid_cross_entropy.cc"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/exact.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/sigmoid_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace softloss::cpu::HWY_NAMESPACE {

// Vectors whose lanes are summed in the compute type before the sums go on in fp64.
inline constexpr std::size_t kVectorsPerFlush = 16;

template <typename T>
class SigmoidKernel {
  using D = Tag<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;
  using DI = hn::RebindToSigned<D>;

 public:
  SigmoidKernel(const SigmoidRun<T>& run, Tally& tally) : run_(run), tally_(tally) {}

  template <bool kPlain>
  HWY_NOINLINE void Run(LeafSum& sum) {
    const std::size_t lanes = hn::Lanes(d_);
    const std::size_t whole = run_.n / lanes * lanes;
    for (std::size_t i = 0; i < whole;) {
      const std::size_t end = std::min(whole, i + kVectorsPerFlush * lanes);
      if (kPlain && end == i + kVectorsPerFlush * lanes && PlainGroup(i)) {
        i = end;
        continue;
      }
      loss_sum_ = square_sum_ = weight_sum_ = hn::Zero(d_);
      for (; i < end; i += lanes) Vector<kPlain>(run_, i, lanes);
      Flush();
    }
    if (whole < run_.n) Tail<kPlain>(whole);
    sum.loss += loss_.Total();
    if (run_.gradient != nullptr) sum.gradient_square += square_.Total();
    sum.weight += kPlain ? static_cast<double>(run_.n) : weight_.Total();
    if (kPlain) tally_.valid += static_cast<std::int64_t>(run_.n);
  }

 private:
  // The last elements, padded to a vector.
  template <bool kPlain>
  void Tail(std::size_t begin) {
    const std::size_t n = run_.n - begin;
    HWY_ALIGN T in[4][16] = {};
    HWY_ALIGN T out[2][16];
    const auto copy = [&](const T* from, T* to) -> const T* {
      if (from == nullptr) return nullptr;
      std::memcpy(to, reinterpret_cast<const std::byte*>(from) + begin * sizeof(T), n * sizeof(T));
      return to;
    };
    SigmoidRun<T> run = run_;
    run.x = copy(run_.x, in[0]);
    run.t = copy(run_.t, in[1]);
    run.weight = copy(run_.weight, in[2]);
    run.pos_weight = copy(run_.pos_weight, in[3]);
    if (run.gradient != nullptr) run.gradient = out[0];
    if (run.loss != nullptr) run.loss = out[1];
    loss_sum_ = square_sum_ = weight_sum_ = hn::Zero(d_);
    Vector<kPlain>(run, 0, n);
    Flush();
    const auto copy_back = [&](const T* from, T* to) {
      if (to == nullptr) return;
      std::memcpy(reinterpret_cast<std::byte*>(to) + begin * sizeof(T), from, n * sizeof(T));
    };
    copy_back(out[0], run_.gradient);
    copy_back(out[1], run_.loss);
  }

  // e^-|x|.
  template <std::size_t N>
  static HWY_INLINE Pack<V, N> Exponentials(const Pack<V, N>& x) {
    const D d;
    return ExpNonPositive(d, Each([&](V a) HWY_ATTR { return hn::Or(a, hn::SignBit(d)); }, x));
  }

  // Loss and gradient without weights and smoothing, given e^-|x|.
  template <std::size_t N>
  static HWY_INLINE void Plain(const Pack<V, N>& x, const Pack<V, N>& t, const Pack<V, N>& e,
                               Pack<V, N>& loss, Pack<V, N>& gradient) {
    const D d;
    const V one = hn::Set(d, T(1));
    const auto logistic = LogisticOf(d, e);
    // 1 for x ≥ 0, else 0, by the sign.
    const auto step = Each(
        [&](V a) HWY_ATTR {
          const auto negative = hn::BroadcastSignBit(hn::BitCast(DI(), a));
          return hn::AndNot(hn::BitCast(d, negative), one);
        },
        x);
    // 1 - v for x ≥ 0, else v.
    const auto flip = [&](V a, V v, V b)
                          HWY_ATTR { return hn::Xor(hn::Sub(a, v), hn::And(hn::SignBit(d), b)); };
    loss = Each([&](V a, V b, V c) HWY_ATTR { return hn::MulAdd(a, hn::Abs(b), c); },
                Each(flip, step, t, x), x, logistic.log);
    // The logistic function of -|x|, then of x.
    const auto low = Each([&](V a, V b) HWY_ATTR { return hn::Mul(a, b); }, e, logistic.inverse);
    gradient = Each([&](V a, V b) HWY_ATTR { return hn::Sub(a, b); }, Each(flip, step, low, x), t);
  }

  // kVectorsPerFlush vectors from `begin` on, as Vector<true> would score them; false, with nothing
  // counted, if one of them needs a closer look.
  HWY_INLINE bool PlainGroup(std::size_t begin) {
    const std::size_t lanes = hn::Lanes(d_), end = begin + kVectorsPerFlush * lanes;
    const T* const x_from = run_.x;
    const T* const t_from = run_.t;
    T* const gradient_to = run_.gradient;
    T* const loss_to = run_.loss;
    const hn::RebindToUnsigned<D> du;
    // As integers, NaN and infinities are the largest magnitudes.
    auto most = hn::Zero(du);
    UnitRange<D> range(d_);
    V loss_sum = hn::Zero(d_), square_sum = loss_sum;
    HWY_ALIGN T exponentials[kVectorsPerFlush * 16];
    for (std::size_t i = 0; i < kVectorsPerFlush * lanes; i += kPack * lanes) {
      const auto x = LoadPack<kPack>(d_, x_from + begin + i, lanes);
      StorePack(Exponentials(x), d_, exponentials + i, lanes);
      ForEach<kPack>([&](auto k)
                         HWY_ATTR { most = hn::Max(most, hn::BitCast(du, hn::Abs(x.v[k]))); });
    }
    for (std::size_t i = begin; i < end; i += kPack * lanes) {
      const auto x = LoadPack<kPack>(d_, x_from + i, lanes);
      const auto t = LoadPack<kPack>(d_, t_from + i, lanes);
      const auto e = LoadPack<kPack>(d_, exponentials + (i - begin), lanes);
      Pack<V, kPack> loss, gradient;
      Plain(x, t, e, loss, gradient);
      if (gradient_to != nullptr) StorePack(gradient, d_, gradient_to + i, lanes);
      if (loss_to != nullptr) StorePack(loss, d_, loss_to + i, lanes);
      ForEach<kPack>([&](auto k) HWY_ATTR {
        range.Add(t.v[k]);
        loss_sum = hn::Add(loss_sum, loss.v[k]);
        square_sum = hn::MulAdd(gradient.v[k], gradient.v[k], square_sum);
      });
    }
    const M usual = hn::Lt(hn::BitCast(d_, most), hn::Set(d_, kHugeLogit<T>));
    if (HWY_UNLIKELY(!hn::AllTrue(d_, hn::And(usual, range.Inside())))) return false;
    loss_.Add(d_, loss_sum);
    square_.Add(d_, square_sum);
    return true;
  }

  // Scores the vector at `i`, of which the first `count` lanes exist.
  template <bool kPlain>
  HWY_INLINE void Vector(const SigmoidRun<T>& run, std::size_t i, std::size_t count) {
    const V one = hn::Set(d_, T(1));
    const V x = hn::LoadU(d_, run.x + i);
    V t = hn::LoadU(d_, run.t + i);
    const V magnitude = hn::Abs(x);
    // False for NaN. Labels in [0, 1] need no further look.
    const M usual = hn::And(hn::Lt(magnitude, hn::Set(d_, kHugeLogit<T>)),
                            hn::And(hn::Ge(t, hn::Zero(d_)), hn::Le(t, one)));
    if constexpr (!kPlain)
      t = hn::MulAdd(hn::Set(d_, T(1) - run.smoothing), t, hn::Set(d_, run.smoothing / 2));

    const M positive_x = hn::Ge(x, hn::Zero(d_));
    V loss, gradient;
    if constexpr (kPlain) {
      Pack<V, 1> losses, gradients;
      const Pack<V, 1> logits{{x}};
      Plain(logits, Pack<V, 1>{{t}}, Exponentials(logits), losses, gradients);
      loss = losses.v[0];
      gradient = gradients.v[0];
      if (HWY_UNLIKELY(!hn::AllTrue(d_, usual))) {
        V weight = one;
        Unusual<kPlain>(run, i, count, weight, loss, gradient);
      }
    } else {
      const auto e = ExpNonPositive(d_, Pack<V, 1>{{hn::Neg(magnitude)}});
      const auto logistic = LogisticOf(d_, e);
      const V log_term = logistic.log.v[0];
      const V sigmoid = hn::Mul(hn::IfThenElse(positive_x, one, e.v[0]), logistic.inverse.v[0]);
      const V pos_weight = run.pos_weight ? hn::LoadU(d_, run.pos_weight + i) : one;
      const V positive = hn::Mul(pos_weight, t);
      const V all = hn::MulAdd(hn::Sub(pos_weight, one), t, one);  // positive + negative
      const V coefficient = hn::IfThenElse(positive_x, hn::Sub(one, t), positive);
      V weight = run.weight ? hn::LoadU(d_, run.weight + i) : one;
      loss = hn::Mul(weight, hn::MulAdd(coefficient, magnitude, hn::Mul(all, log_term)));
      gradient = hn::Mul(weight, hn::MulSub(all, sigmoid, positive));
      // Weights may be codes, and a product may overflow.
      const M plain_weight =
          hn::And(hn::Gt(weight, hn::Zero(d_)), hn::Lt(hn::Abs(loss), hn::Set(d_, HugeLoss())));
      if (HWY_LIKELY(hn::AllTrue(d_, hn::And(usual, plain_weight)) && !run.ignore &&
                     count == hn::Lanes(d_))) {
        tally_.valid += static_cast<std::int64_t>(count);
      } else {
        Unusual<kPlain>(run, i, count, weight, loss, gradient);
      }
      weight_sum_ = hn::Add(weight_sum_, weight);
    }
    if (run.gradient != nullptr) {
      hn::StoreU(gradient, d_, run.gradient + i);
      if (count < hn::Lanes(d_)) gradient = hn::IfThenElseZero(hn::FirstN(d_, count), gradient);
      square_sum_ = hn::MulAdd(gradient, gradient, square_sum_);
    }
    if (run.loss != nullptr) hn::StoreU(loss, d_, run.loss + i);
    if (count < hn::Lanes(d_)) loss = hn::IfThenElseZero(hn::FirstN(d_, count), loss);
    loss_sum_ = hn::Add(loss_sum_, loss);
  }

  static T HugeLoss() { return sizeof(T) == 4 ? T(1e38) : T(1e300); }

  // Counts what a vector holds and rescores those of its lanes that the vector code does not serve.
  // Leaves in `weight` what they add to the sum of weights.
  template <bool kPlain>
  HWY_NOINLINE void Unusual(const SigmoidRun<T>& run, std::size_t i, std::size_t count, V& weight,
                            V& loss, V& gradient) {
    HWY_ALIGN T x[16], t[16], w[16], pi[16], l[16], g[16];
    hn::Store(hn::LoadU(d_, run.x + i), d_, x);
    hn::Store(hn::LoadU(d_, run.t + i), d_, t);
    hn::Store(run.pos_weight ? hn::LoadU(d_, run.pos_weight + i) : hn::Set(d_, T(1)), d_, pi);
    hn::Store(weight, d_, w);
    hn::Store(loss, d_, l);
    hn::Store(gradient, d_, g);
    for (std::size_t j = 0; j < hn::Lanes(d_); ++j) {
      const bool ignored = IsIgnored(t[j]);
      if (j >= count || ignored || w[j] < 0) {
        if constexpr (!kPlain) tally_.valid += j < count && !ignored && w[j] == T(kZeroRowWeight);
        w[j] = l[j] = g[j] = 0;
        continue;
      }
      if constexpr (!kPlain) ++tally_.valid;
      const bool finite_x = std::isfinite(x[j]), finite_t = std::isfinite(t[j]);
      tally_.nonfinite_predictions += !finite_x;
      tally_.nonfinite_labels += !finite_t;
      tally_.out_of_range_labels += finite_t && (t[j] < 0 || t[j] > 1);
      if (!(std::abs(x[j]) < kHugeLogit<T> && std::abs(t[j]) < kHugeLabel<T> &&
            std::abs(l[j]) < HugeLoss())) {
        const ExactElement exact =
            ExactSigmoid(static_cast<double>(x[j]), Smoothed(t[j]), static_cast<double>(pi[j]));
        l[j] = static_cast<T>(static_cast<double>(w[j]) * exact.loss);
        g[j] = static_cast<T>(static_cast<double>(w[j]) * exact.gradient);
      }
      tally_.nonfinite_losses += !std::isfinite(l[j]);
    }
    weight = hn::Load(d_, w);
    loss = hn::Load(d_, l);
    gradient = hn::Load(d_, g);
  }

  bool IsIgnored(T t) const {
    return run_.ignore.has_value() &&
           (t == *run_.ignore || (std::isnan(t) && std::isnan(*run_.ignore)));
  }

  double Smoothed(T t) const {
    const double smoothing = static_cast<double>(run_.smoothing);
    const double target = static_cast<double>(t);
    return smoothing > 0 ? (1 - smoothing) * target + smoothing / 2 : target;
  }

  void Flush() {
    loss_.Add(d_, loss_sum_);
    square_.Add(d_, square_sum_);
    weight_.Add(d_, weight_sum_);
  }

  const D d_;
  const SigmoidRun<T>& run_;
  Tally& tally_;
  V loss_sum_, square_sum_, weight_sum_;
  WideSum<D> loss_{d_}, square_{d_}, weight_{d_};
};

template <typename T>
void Score(const SigmoidRun<T>& run, LeafSum& sum, Tally& tally) {
  SigmoidKernel<T> kernel(run, tally);
  if (run.weight == nullptr && run.pos_weight == nullptr && run.smoothing == 0 && !run.ignore) {
    kernel.template Run<true>(sum);
  } else {
    kernel.template Run<false>(sum);
  }
}

void SigmoidF32(const SigmoidRun<float>& run, LeafSum& sum, Tally& tally) {
  Score(run, sum, tally);
}
void SigmoidF64(const SigmoidRun<double>& run, LeafSum& sum, Tally& tally) {
  Score(run, sum, tally);
}

}  // namespace softloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace softloss::cpu {

HWY_EXPORT(SigmoidF32);
HWY_EXPORT(SigmoidF64);

void ScoreSigmoid(const SigmoidRun<float>& run, LeafSum& sum, Tally& tally) {
  HWY_DYNAMIC_DISPATCH(SigmoidF32)(run, sum, tally);
}
void ScoreSigmoid(const SigmoidRun<double>& run, LeafSum& sum, Tally& tally) {
  HWY_DYNAMIC_DISPATCH(SigmoidF64)(run, sum, tally);
}

}  // namespace softloss::cpu
#endif  // HWY_ONCE
