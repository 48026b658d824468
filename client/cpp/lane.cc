#include "client/cpp/lane.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/error.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace softloss::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// How long gRPC may hold on to the tensors of a request that was given up, before its connection is.
constexpr milliseconds kReleaseGrace{250};
// How long the server may.
constexpr milliseconds kAnswerGrace{10'000};
// How often the thread looks for released slices without sleeping in between.
constexpr int kReleaseSpins = 200;

gpr_timespec ToTimespec(Clock::time_point t, Clock::time_point now) {
  if (t == Clock::time_point::max()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  if (t <= now) return gpr_time_0(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(nanoseconds(t - now).count(), GPR_TIMESPAN));
}

Clock::duration ToChrono(absl::Duration d) {
  return absl::ToChronoNanoseconds(std::min(d, absl::Hours(24)));
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);             // they buffer; the lane replays instead
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // or channels share a connection
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetMaxReceiveMessageSize(4 << 20);
  return grpc::CreateCustomChannel(
      address, options.credentials ? options.credentials : grpc::InsecureChannelCredentials(),
      arguments);
}

Lane::Lane(std::string address, ClientOptions options, std::shared_ptr<MemoryShare> share)
    : address_(std::move(address)),
      options_(std::move(options)),
      share_(std::move(share)),
      give_up_(Clock::now() + ToChrono(options_.connect_timeout)),
      backoff_(ToChrono(options_.initial_backoff)) {}

std::shared_ptr<Lane> Lane::Start(std::string address, ClientOptions options,
                                  std::shared_ptr<MemoryShare> share) {
  std::shared_ptr<Lane> lane(new Lane(std::move(address), std::move(options), std::move(share)));
  // The thread keeps the lane: it may outlive Stop() when a callback of its own calls that.
  lane->thread_ = std::thread([lane] { lane->Run(); });
  return lane;
}

void Lane::Submit(std::shared_ptr<Pending> pending) {
  LoadOf(*pending).fetch_add(pending->load(), std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    inbox_.push_back(std::move(pending));
  }
  Wake();
}

void Lane::Stop() {
  {
    // Under the lock: once the thread has seen stop_, it may close the queue that Wake() uses.
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    Wake();
  }
  if (std::this_thread::get_id() == thread_.get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void Lane::Wake() {
  mail_ = true;
  if (sleeping_ && !woken_.exchange(true)) {
    alarm_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), &on_alarm_);
  }
}

// ---- The thread's own ----

void Lane::Run() {
  void* tag;
  bool ok;
  while (true) {
    Clock::time_point now = Clock::now();
    TakeMail();
    ExpireRequests(now);
    ManageStream(now);
    Pump();
    ReleaseFinished(now);
    if (stopping_ && Drained()) break;

    sleeping_ = true;
    // In this order, or mail could come between the look and the sleep.
    const Clock::time_point wake = mail_ ? now : NextWake(now);
    const auto status = queue_.AsyncNext(&tag, &ok, ToTimespec(wake, now));
    sleeping_ = false;
    if (status == grpc::CompletionQueue::GOT_EVENT) (*static_cast<Tag*>(tag))(ok);
  }
  queue_.Shutdown();
  while (queue_.Next(&tag, &ok)) {
  }
}

Clock::time_point Lane::NextWake(Clock::time_point now) const {
  Clock::time_point wake = Clock::time_point::max();
  if (!deadlines_.empty()) wake = std::min(wake, deadlines_.begin()->first);
  if (!retries_.empty()) wake = std::min(wake, retries_.begin()->first);
  if (!borrowed_.empty()) {
    wake = std::min(wake, release_spins_ < kReleaseSpins ? now : now + milliseconds(1));
  }
  if (stream_ != nullptr && !hello_) wake = std::min(wake, give_up_);
  if (stream_ == nullptr && WantsStream()) wake = std::min(wake, reconnect_);
  return wake;
}

void Lane::TakeMail() {
  if (!mail_.exchange(false)) return;
  std::vector<std::shared_ptr<Pending>> mail;
  bool stop;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mail.swap(inbox_);
    stop = stop_;
  }
  for (std::shared_ptr<Pending>& p : mail) {
    if (p->deadline() != Clock::time_point::max()) deadlines_.emplace(p->deadline(), p);
    to_send_.push_back(std::move(p));
  }
  if (stop && !stopping_) {
    stopping_ = true;
    CancelAll();
  }
}

void Lane::CancelAll() {
  std::vector<std::shared_ptr<Pending>> all(to_send_.begin(), to_send_.end());
  for (const auto& [id, p] : in_flight_) all.push_back(p);
  for (const auto& [time, p] : retries_) all.push_back(p);
  to_send_.clear();
  retries_.clear();
  const absl::Status why =
      MakeError(absl::StatusCode::kCancelled, "the client was destroyed", false);
  for (const std::shared_ptr<Pending>& p : all) {
    if (!p->finished) Complete(p, why);
  }
  ReportConnected(why);
  BreakStream(why);
}

void Lane::ExpireRequests(Clock::time_point now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const std::shared_ptr<Pending> p = deadlines_.begin()->second;
    if (in_flight_.contains(p->id())) cancels_.push_back(p->id());
    Complete(p, MakeError(absl::StatusCode::kDeadlineExceeded,
                          "timeout: the request was not answered in time", true));
  }
  while (!retries_.empty() && retries_.begin()->first <= now) {
    to_send_.push_back(std::move(retries_.begin()->second));
    retries_.erase(retries_.begin());
  }
}

void Lane::ReleaseFinished(Clock::time_point now) {
  if (borrowed_.empty()) {
    release_spins_ = 0;
    return;
  }
  ++release_spins_;
  std::vector<std::shared_ptr<Pending>> released;
  bool overdue = false;
  const auto keep = std::remove_if(borrowed_.begin(), borrowed_.end(), [&](const Borrowed& b) {
    if (b.pending->borrowed()) {
      overdue |= now >= b.until;
      return false;
    }
    released.push_back(b.pending);
    return true;
  });
  borrowed_.erase(keep, borrowed_.end());
  for (const std::shared_ptr<Pending>& p : released) Deliver(p);
  if (overdue) {
    BreakStream(MakeError(absl::StatusCode::kUnavailable, "the server stopped reading", true));
  }
}

bool Lane::Drained() const { return stream_ == nullptr && borrowed_.empty(); }

// ---- The stream ----

bool Lane::WantsStream() const { return !stopping_ && (!reported_ || !to_send_.empty()); }

void Lane::ManageStream(Clock::time_point now) {
  if (stream_ != nullptr && stream_->over()) StreamOver(now);
  if (stream_ != nullptr && !hello_ && now >= give_up_) {
    BreakStream(
        MakeError(absl::StatusCode::kUnavailable, "the server did not greet in time", true));
  }
  if (stream_ == nullptr && WantsStream() && now >= reconnect_) OpenStream(now);
}

void Lane::OpenStream(Clock::time_point now) {
  if (reported_) give_up_ = now + ToChrono(options_.connect_timeout);
  broken_ = absl::OkStatus();
  stream_ = std::make_unique<Stream>(
      MakeChannel(address_, options_), &queue_,
      Stream::Events{[this](grpc::ByteBuffer& bytes) { OnBytes(bytes); }, [] {}});
}

void Lane::BreakStream(absl::Status why) {
  if (stream_ == nullptr || !broken_.ok()) return;
  broken_ = std::move(why);
  stream_->Cancel();
}

void Lane::StreamOver(Clock::time_point now) {
  const absl::Status why = broken_.ok() ? FromStreamEnd(stream_->status()) : broken_;
  const bool retryable = IsRetryable(why);
  const bool greeted = hello_.has_value();
  stream_.reset();
  hello_.reset();
  specs_.clear();
  defined_ = 0;
  batching_ = false;
  cancels_.clear();
  DropNext();
  for (const auto& [id, p] : held_) p->Release();
  held_.clear();
  const Clock::duration pause = NextBackoff();
  reconnect_ = now + pause;
  if (!retryable) {
    ReportConnected(why);
  } else if (reconnect_ >= give_up_ && !reported_) {
    ReportConnected(MakeError(
        absl::StatusCode::kDeadlineExceeded,
        absl::StrCat("connect_timeout: no connection to ", address_, "; ", why.message()), true));
  }

  std::vector<std::shared_ptr<Pending>> back;
  for (const auto& [id, p] : in_flight_) back.push_back(p);
  in_flight_.clear();
  std::sort(back.begin(), back.end(), [](auto& a, auto& b) { return a->id() < b->id(); });
  // The one that was partly sent is at the front of the queue as well.
  if (!back.empty() && !to_send_.empty() && to_send_.front() == back.back()) to_send_.pop_front();
  // An error that the stream's own requests caused is not held against the ones that wait.
  std::deque<std::shared_ptr<Pending>> waiting;
  if (retryable || !greeted) {
    back.insert(back.end(), to_send_.begin(), to_send_.end());
  } else {
    waiting.swap(to_send_);
  }
  to_send_.clear();
  for (std::shared_ptr<Pending>& p : back) {
    if (p->finished) continue;
    if (retryable && options_.retry && ++p->failures < options_.max_attempts) {
      to_send_.push_back(std::move(p));
    } else {
      Complete(p, why);
    }
  }
  to_send_.insert(to_send_.end(), waiting.begin(), waiting.end());
}

void Lane::ReportConnected(absl::StatusOr<std::string> outcome) {
  if (std::exchange(reported_, true)) return;
  connected_.set_value(std::move(outcome));
}

Clock::duration Lane::NextBackoff() {
  const Clock::duration base = backoff_;
  backoff_ = std::min(base * 2, ToChrono(options_.max_backoff));
  // Spread, so that the clients of a server that comes back do not all come at once.
  return Clock::duration(static_cast<Clock::rep>(base.count() * absl::Uniform(random_, 0.5, 1.0)));
}

// ---- Replies ----

void Lane::OnBytes(grpc::ByteBuffer& bytes) {
  if (!broken_.ok()) return;
  std::vector<grpc::Slice> slices;
  if (!bytes.Dump(&slices).ok()) {
    return BreakStream(MakeError(absl::StatusCode::kInternal, "a reply could not be read", false));
  }
  wire::FragmentVector fragments;
  for (const grpc::Slice& s : slices) {
    if (s.size() > 0) {
      fragments.push_back({reinterpret_cast<const std::byte*>(s.begin()), s.size()});
    }
  }
  const auto on_message = [this](const wire::FragmentVector& m) { return OnMessage(m); };
  const absl::Status read =
      wire::IsBatch(fragments) ? wire::ForEachInBatch(fragments, on_message) : OnMessage(fragments);
  if (!read.ok()) {
    BreakStream(MakeError(absl::StatusCode::kInternal,
                          absl::StrCat("the server's reply: ", read.message()), false));
  }
}

absl::Status Lane::OnMessage(Fragments bytes) {
  wire::Parsed<v1::StreamResponse> reply;
  if (absl::Status s = wire::Parse(bytes, &reply); !s.ok()) return s;
  if (reply.message.has_hello()) {
    hello_ = reply.message.hello();
    greeted_ = true;
    outgoing_.set_most_messages(hello_->max_batch_messages());
    credit_bytes_ = hello_->credit_bytes();
    credit_items_ = hello_->credit_items();
    share_->Greeted(hello_->shared_memory_socket());
    ReportConnected(hello_->numerics_id());
  }
  if (reply.message.has_credit()) Grant(reply.message.credit());
  if (reply.message.has_chunk()) OnChunk(reply);
  return absl::OkStatus();
}

void Lane::Grant(const v1::Credit& credit) {
  credit_bytes_ += credit.bytes();
  credit_items_ += credit.items();
}

void Lane::OnChunk(const wire::Parsed<v1::StreamResponse>& reply) {
  const v1::ChunkResult& chunk = reply.message.chunk();
  Grant(chunk.returned());
  if (chunk.has_error() || chunk.has_result()) ReleaseHeld(chunk.id());
  const auto it = in_flight_.find(chunk.id());
  if (it == in_flight_.end()) return;  // given up in the meantime
  const std::shared_ptr<Pending> p = it->second;
  const Clock::time_point now = Clock::now();
  backoff_ = ToChrono(options_.initial_backoff);

  if (chunk.has_error() && p->shared() && chunk.error().code() == grpc::StatusCode::NOT_FOUND) {
    return SendOnTheWire(p, now);
  }
  if (chunk.has_error()) {
    // The server need not remember an item whose other chunks never come.
    if (!p->sent_all() || next_of_ == p) cancels_.push_back(p->id());
    return Retry(p, FromItemError(chunk.error()), now);
  }
  if (absl::Status s = p->Store(chunk, reply.bulk); !s.ok()) {
    cancels_.push_back(p->id());
    return Complete(p, FromCheck(s));
  }
  if (chunk.has_result()) Complete(p, p->TakeResult(chunk.result(), now));
}

void Lane::ReleaseHeld(std::uint64_t id) {
  const auto it = held_.find(id);
  if (it == held_.end()) return;
  it->second->Release();
  held_.erase(it);
}

// The server does not know the region, or the session: it has lost the side connection.
void Lane::SendOnTheWire(const std::shared_ptr<Pending>& p, Clock::time_point now) {
  share_->Greeted(hello_->shared_memory_socket());
  p->StopSharing();
  in_flight_.erase(p->id());
  retries_.emplace(now, p);
}

void Lane::Retry(const std::shared_ptr<Pending>& p, absl::Status why, Clock::time_point now) {
  if (!options_.retry || !IsRetryable(why) || ++p->failures >= options_.max_attempts) {
    return Complete(p, std::move(why));
  }
  in_flight_.erase(p->id());
  if (next_of_ == p) DropNext();
  if (!to_send_.empty() && to_send_.front() == p) to_send_.pop_front();
  retries_.emplace(now + NextBackoff(), p);
}

void Lane::Complete(const std::shared_ptr<Pending>& p, absl::StatusOr<ScoreResult> outcome) {
  const std::shared_ptr<Pending> keep = p;  // `p` may be an element of what is changed here
  keep->finished = true;
  keep->outcome = std::move(outcome);
  in_flight_.erase(keep->id());
  if (next_of_ == keep) DropNext();
  LoadOf(*keep).fetch_sub(keep->load(), std::memory_order_relaxed);
  const auto [first, last] = deadlines_.equal_range(keep->deadline());
  const auto entry = std::find_if(first, last, [&](auto& e) { return e.second == keep; });
  if (entry != last) deadlines_.erase(entry);
  if (keep->borrowed()) {
    borrowed_.push_back(
        {keep, Clock::now() + (held_.contains(keep->id()) ? kAnswerGrace : kReleaseGrace)});
  } else {
    Deliver(keep);
  }
}

void Lane::Deliver(const std::shared_ptr<Pending>& p) {
  const Client::Callback done = std::move(p->done);
  done(*std::move(p->outcome));
}

// ---- Sending ----

void Lane::Pump() {
  if (stream_ == nullptr || !hello_ || !broken_.ok() || !stream_->idle()) return;
  while (outgoing_.Fits(1)) {
    if (!cancels_.empty()) {
      SendCancel();
    } else if (next_of_ == nullptr) {
      if (!PrepareNext()) break;
    } else if (MaySendNext()) {
      SendNext();
    } else {
      break;
    }
  }
  if (outgoing_.empty()) return;
  // The first write is a batch, even of one message: it tells the server to answer with batches.
  const bool batch = outgoing_.messages() > 1 || (hello_->max_batch_messages() > 0 && !batching_);
  batching_ |= batch;
  stream_->Write(outgoing_.Take(batch));
}

void Lane::SendCancel() {
  v1::StreamRequest message;
  message.mutable_cancel()->set_id(cancels_.front());
  cancels_.pop_front();
  SendControl(message);
}

void Lane::SendControl(const v1::StreamRequest& message) {
  const std::string bytes = message.SerializeAsString();
  outgoing_.Add({{grpc::Slice(bytes)}, bytes.size()});
}

// Builds the next chunk, or sends the definition that it needs. False if there is nothing to do.
bool Lane::PrepareNext() {
  while (!to_send_.empty() && to_send_.front()->finished) to_send_.pop_front();
  if (to_send_.empty()) return false;
  const std::shared_ptr<Pending> p = to_send_.front();

  if (!in_flight_.contains(p->id())) {
    const auto [spec, added] = specs_.try_emplace(p->spec(), 0);
    if (added) {
      // The slots go round: what held this one will be defined anew if it is wanted again.
      std::string& slot = spec_slots_[defined_ % kMaxSpecs];
      if (defined_ >= kMaxSpecs) specs_.erase(slot);
      slot = p->spec();
      const std::uint32_t id = 1 + defined_++ % kMaxSpecs;
      specs_[slot] = id;
      v1::StreamRequest message;
      message.mutable_define()->set_spec_id(id);
      message.mutable_define()->mutable_spec()->ParseFromString(p->spec());
      SendControl(message);
      return true;
    }
    const std::uint64_t drawn[] = {random_(), random_()};
    const std::string key(reinterpret_cast<const char*>(drawn), sizeof(drawn));
    std::int64_t max_chunk_bytes = options_.max_chunk_bytes;
    if (hello_->max_chunk_bytes() > 0) {
      max_chunk_bytes = std::min<std::uint64_t>(max_chunk_bytes, hello_->max_chunk_bytes());
    }
    const absl::Status begun = p->Begin(
        {next_id_++, spec->second, max_chunk_bytes, key, hello_->numerics_id()}, Clock::now());
    if (!begun.ok()) {
      Complete(p, FromCheck(begun));
      return true;
    }
    in_flight_.emplace(p->id(), p);
  }
  next_is_first_ = !p->sent_any();
  next_ = p->NextChunk();
  next_of_ = p;
  if (p->sent_all()) to_send_.pop_front();
  return true;
}

// A message that is larger than all the credit there is goes when nothing else is outstanding.
bool Lane::MaySendNext() const {
  const auto size = static_cast<std::int64_t>(next_.size);
  const auto all_bytes = static_cast<std::int64_t>(hello_->credit_bytes());
  const auto all_items = static_cast<std::int64_t>(hello_->credit_items());
  return outgoing_.Fits(next_.size) && (credit_bytes_ >= size || credit_bytes_ >= all_bytes) &&
         (!next_is_first_ || credit_items_ > 0 || credit_items_ >= all_items);
}

void Lane::SendNext() {
  credit_bytes_ -= next_.size;
  credit_items_ -= next_is_first_ ? 1 : 0;
  if (next_of_->shared()) {
    next_of_->Hold();
    held_.emplace(next_of_->id(), next_of_);
  }
  outgoing_.Add(std::move(next_));
  DropNext();
}

void Lane::DropNext() {
  next_ = Message();
  next_of_.reset();
}

}  // namespace softloss::internal
