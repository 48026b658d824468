#include "client/load/load_generator.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace softloss::load {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Ticks of all cores since the machine's start, and those that nothing ran in.
struct MachineTicks {
  double all = 0, idle = 0;
};

MachineTicks ReadMachineTicks() {
  std::ifstream file("/proc/stat");
  std::string line, word;
  std::getline(file, line);
  std::istringstream fields(line);
  fields >> word;
  MachineTicks out;
  double ticks = 0;
  for (int field = 0; fields >> ticks && field < 8; ++field) {
    out.all += ticks;
    if (field == 3 || field == 4) out.idle += ticks;  // idle, iowait
  }
  return out;
}

// What the client's threads hand to the one that sends.
struct Completion {
  Sent sent;
  absl::Duration at;
  absl::StatusOr<ScoreResult> result;
};

class Mailbox {
 public:
  void Put(Completion completion) {
    bool first = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      first = completions_.empty();
      completions_.push_back(std::move(completion));
    }
    if (first) changed_.notify_one();
  }
  // All there are; waits until there is one, or `until`.
  std::vector<Completion> Take(SteadyClock::time_point until) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_until(lock, until, [this] { return !completions_.empty(); });
    return std::exchange(completions_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Completion> completions_;
};

void Add(const StageTimes& times, StageSums& sums) {
  sums.decode += absl::ToDoubleSeconds(times.decode);
  sums.queue += absl::ToDoubleSeconds(times.queue);
  sums.host_to_device += absl::ToDoubleSeconds(times.host_to_device);
  sums.compute += absl::ToDoubleSeconds(times.compute);
  sums.device_to_host += absl::ToDoubleSeconds(times.device_to_host);
  sums.encode += absl::ToDoubleSeconds(times.encode);
}

class Generator {
 public:
  Generator(const Client& client, absl::Span<const std::unique_ptr<PreparedItem>> items,
            absl::Span<const double> weights, const LoadOptions& options, int check_every)
      : client_(client),
        items_(items),
        options_(options),
        check_every_(check_every),
        run_(options, weights) {}

  absl::Status Run(const Progress& progress) {
    absl::Duration next_progress;
    bool measuring = false, measured = false;
    absl::Status cancelled;
    for (;;) {
      const absl::Duration now = Now();
      if (!measuring && now >= options_.warmup) {
        measuring = true;
        cpu_ = ProcessCpuSeconds();
        ticks_ = ReadMachineTicks();
      }
      if (measuring && !measured && now >= run_.end()) {
        measured = true;
        TakeStock(now);
      }
      if (run_.Done(now)) return cancelled;
      if (now >= next_progress) {
        next_progress = now + kProgressInterval;
        if (progress && !progress(absl::ToDoubleSeconds(now), completed_)) {
          cancelled = absl::CancelledError("the run was ended");
          run_.Stop();
        }
      }
      while (const std::optional<Sent> sent = run_.NextSend(Now())) Send(*sent);
      absl::Duration wake = std::min(next_progress, now < run_.end() ? run_.end() : next_progress);
      if (const auto due = run_.NextDue()) wake = std::min(wake, *due);
      for (Completion& completion : mailbox_->Take(start_ + absl::ToChronoNanoseconds(wake))) {
        Receive(completion);
      }
    }
  }

  LoadResult Result() && {
    result_.kinds = run_.kinds();
    result_.lag = run_.lag();
    result_.unsent = run_.Unsent();
    result_.numerics_id = client_.numerics_id();
    return std::move(result_);
  }

 private:
  absl::Duration Now() const { return absl::FromChrono(SteadyClock::now() - start_); }

  void Send(const Sent& sent) {
    ScoreRequest request = items_[sent.kind]->Request();
    request.timeout = options_.timeout;
    client_.Submit(std::move(request),
                   [mailbox = mailbox_, start = start_, sent](absl::StatusOr<ScoreResult> result) {
                     const absl::Duration at = absl::FromChrono(SteadyClock::now() - start);
                     mailbox->Put({sent, at, std::move(result)});
                   });
  }

  void Receive(Completion& completion) {
    ++completed_;
    const Sent& sent = completion.sent;
    if (!completion.result.ok()) {
      const absl::Status& status = completion.result.status();
      Note(status);
      run_.Complete(sent, completion.at, LoadRun::Outcome::kFailed, status.code());
      return;
    }
    const bool whole = check_every_ > 0 && completed_ % check_every_ == 0;
    if (auto s = items_[sent.kind]->Check(*completion.result, whole); !s.ok()) {
      Note(s);
      run_.Complete(sent, completion.at, LoadRun::Outcome::kWrong);
      return;
    }
    if (sent.due >= options_.warmup) Add(completion.result->times, result_.stages);
    run_.Complete(sent, completion.at, LoadRun::Outcome::kRight);
  }

  void Note(const absl::Status& status) {
    if (result_.first_error.empty()) result_.first_error = status.ToString();
  }

  void TakeStock(absl::Duration now) {
    result_.seconds = absl::ToDoubleSeconds(now - options_.warmup);
    result_.client_cores = (ProcessCpuSeconds() - cpu_) / result_.seconds;
    const MachineTicks ticks = ReadMachineTicks();
    const double all = ticks.all - ticks_.all;
    result_.machine_busy = all > 0 ? 1 - (ticks.idle - ticks_.idle) / all : 0;
  }

  const Client& client_;
  const absl::Span<const std::unique_ptr<PreparedItem>> items_;
  const LoadOptions& options_;
  const int check_every_;
  const SteadyClock::time_point start_ = SteadyClock::now();
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  LoadRun run_;
  LoadResult result_;
  std::int64_t completed_ = 0;
  double cpu_ = 0;
  MachineTicks ticks_;
};

}  // namespace

std::string LoadResult::ClientLimit(const LoadOptions& options) const {
  if (client_cores >= 0.9 * client_threads) {
    return absl::StrCat("this process is busy: ", client_cores, " cores of ", client_threads,
                        " threads");
  }
  LatencyHistogram latency;
  for (const KindResult& kind : kinds) latency += kind.latency;
  const std::int64_t late = lag.Quantile(0.99);
  const bool held_back = unsent > 0;  // by requests in flight: the server's doing
  if (options.arrivals != ArrivalKind::kClosed && !held_back && late > 1'000'000 &&
      static_cast<double>(late) > 0.1 * static_cast<double>(latency.Quantile(0.5))) {
    return absl::StrCat("this process sends late: by ", static_cast<double>(late) * 1e-6,
                        " ms at the 99th percentile");
  }
  return "";
}

absl::StatusOr<LoadResult> RunLoad(const Client& client,
                                   absl::Span<const std::unique_ptr<PreparedItem>> items,
                                   absl::Span<const double> weights, const LoadOptions& options,
                                   int check_every, const Progress& progress) {
  if (auto s = Validate(options); !s.ok()) return s;
  if (items.empty() || items.size() != weights.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("items: must be at least one, with a weight each; ", items.size(), " and ",
                     weights.size()));
  }
  double sum = 0;
  for (const double weight : weights) {
    if (!(weight >= 0 && weight <= 1e9)) {
      return absl::InvalidArgumentError(
          absl::StrCat("weight: must be from 0 to 1e9; was ", weight));
    }
    sum += weight;
  }
  if (sum <= 0) return absl::InvalidArgumentError("weight: one must be above 0");
  Generator generator(client, items, weights, options, check_every);
  if (auto s = generator.Run(progress); !s.ok()) return s;
  LoadResult result = std::move(generator).Result();
  result.client_threads = client.channels() + 1;
  return result;
}

}  // namespace softloss::load
