#include "store/campaign.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/campaign_reader.h"
#include "store/campaign_schema.h"
#include "store/sqlite.h"

namespace softloss {
namespace {

absl::Status CheckName(const char* field, std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError(absl::StrCat(field, ": must not be empty"));
  if (name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": at most ", kMaxNameBytes, " bytes; was ", name.size()));
  }
  return absl::OkStatus();
}

absl::Status CheckDistribution(absl::Span<const double> q, std::size_t classes) {
  if (q.size() != classes) {
    return absl::InvalidArgumentError(
        absl::StrCat("probabilities: must have ", classes, " values, one a class; has ", q.size()));
  }
  double sum = 0;
  for (std::size_t k = 0; k < q.size(); ++k) {
    if (!(q[k] >= 0) || std::isinf(q[k])) {
      return absl::InvalidArgumentError(
          absl::StrCat("probabilities[", k, "]: must be finite and not negative; was ", q[k]));
    }
    sum += q[k];
  }
  if (std::abs(sum - 1) > annotation::kProbabilityTolerance) {
    return absl::InvalidArgumentError(absl::StrCat("probabilities: must sum to 1 within ",
                                                   annotation::kProbabilityTolerance, "; sum to ",
                                                   sum));
  }
  return absl::OkStatus();
}

// What of a vote decides which of two counts: the later, then the greater id, then the contents.
struct VoteRank {
  double time;
  std::string_view vote_id;
  std::int64_t label;  // -1 with a distribution
  std::string_view probability;
  double weight;

  friend auto operator<=>(const VoteRank&, const VoteRank&) = default;
};

std::string_view BytesOf(absl::Span<const double> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}

}  // namespace

absl::Status Validate(const CampaignOptions& options) {
  if (options.classes.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("classes: a campaign has at least 2; were ", options.classes.size()));
  }
  if (options.classes.size() > kMaxClasses) {
    return absl::InvalidArgumentError(absl::StrCat("classes: a campaign has at most ", kMaxClasses,
                                                   "; were ", options.classes.size()));
  }
  std::set<std::string_view> seen;
  for (const std::string& name : options.classes) {
    if (auto s = CheckName("classes", name); !s.ok()) return s;
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat("classes: \"", name, "\" is there twice"));
    }
  }
  if (options.close_after_votes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("close_after_votes: must not be negative; was ", options.close_after_votes));
  }
  if (!(options.close_after_seconds >= 0) || std::isinf(options.close_after_seconds)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "close_after_seconds: must be finite and not negative; was ", options.close_after_seconds));
  }
  return absl::OkStatus();
}

struct Campaign::Impl {
  CampaignOptions options;
  SqlDatabase database;
  SqlStatement find_item, add_item, count_vote, find_annotator, add_annotator, find_vote, put_vote,
      find_id, set_prediction, set_gold, close_item, close_all, close_due;
  // Numbers do not change, so they may be remembered; not those of a transaction that failed.
  std::unordered_map<std::string, std::int64_t> annotators;

  absl::Status Prepare();
  absl::StatusOr<std::int64_t> AnnotatorNumber(std::string_view name);
  struct Item {
    std::int64_t number;
    bool closed;
  };
  absl::StatusOr<Item> ItemOf(std::string_view name);
  absl::Status CheckVote(const VoteRow& vote) const;
  absl::Status AddVote(const VoteRow& vote, double now, FeedResult* result);
  absl::StatusOr<FeedResult> SetItems(absl::Span<const ItemRow> rows, SqlStatement& statement);
};

Campaign::Campaign(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Campaign::Campaign(Campaign&&) noexcept = default;
Campaign& Campaign::operator=(Campaign&&) noexcept = default;
Campaign::~Campaign() = default;

const CampaignOptions& Campaign::options() const { return impl_->options; }

absl::StatusOr<Campaign> Campaign::Create(const std::string& path, const CampaignOptions& options) {
  if (auto s = Validate(options); !s.ok()) return s;
  if (std::filesystem::exists(path)) {
    return absl::AlreadyExistsError(absl::StrCat("campaign: there is a file already: ", path));
  }
  absl::StatusOr<SqlDatabase> database = SqlDatabase::Open(path);
  if (!database.ok()) return database.status();
  if (auto s = CreateCampaignSchema(*database, options); !s.ok()) return s;
  return Open(path);
}

absl::StatusOr<Campaign> Campaign::Open(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    return absl::NotFoundError(absl::StrCat("campaign: no file ", path));
  }
  absl::StatusOr<SqlDatabase> database = SqlDatabase::Open(path);
  if (!database.ok()) return database.status();
  absl::StatusOr<CampaignOptions> options = ReadCampaignOptions(*database);
  if (!options.ok()) return options.status();
  auto impl = std::make_unique<Impl>();
  impl->options = *std::move(options);
  impl->database = *std::move(database);
  if (auto s = impl->Prepare(); !s.ok()) return s;
  return Campaign(std::move(impl));
}

absl::Status Campaign::Impl::Prepare() {
  const struct {
    SqlStatement* statement;
    const char* sql;
  } all[] = {
      {&find_item, "SELECT id, closed FROM item WHERE name = ?1"},
      {&add_item, "INSERT INTO item (name) VALUES (?1)"},
      {&count_vote,
       "UPDATE item SET votes = votes + 1, first_vote = ifnull(first_vote, ?2),"
       " closed = closed OR (?3 > 0 AND votes + 1 >= ?3) WHERE id = ?1"},
      {&find_annotator, "SELECT id FROM annotator WHERE name = ?1"},
      {&add_annotator, "INSERT INTO annotator (name) VALUES (?1)"},
      {&find_vote,
       "SELECT time, vote_id, label, probability, weight FROM vote"
       " WHERE item = ?1 AND annotator = ?2"},
      {&put_vote,
       "INSERT OR REPLACE INTO vote (item, annotator, time, vote_id, label, probability, weight)"
       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"},
      {&find_id, "SELECT item, annotator FROM vote WHERE vote_id = ?1 AND vote_id <> x''"},
      {&set_prediction, "UPDATE item SET prediction = ?2 WHERE id = ?1"},
      {&set_gold, "UPDATE item SET gold = ?2 WHERE id = ?1"},
      {&close_item, "UPDATE item SET closed = 1 WHERE id = ?1 AND NOT closed"},
      {&close_all, "UPDATE item SET closed = 1 WHERE votes > 0 AND NOT closed"},
      {&close_due, "UPDATE item SET closed = 1 WHERE NOT closed AND first_vote <= ?1"},
  };
  for (const auto& [statement, sql] : all) {
    absl::StatusOr<SqlStatement> prepared = database.Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> Campaign::Impl::AnnotatorNumber(std::string_view name) {
  const auto known = annotators.find(std::string(name));
  if (known != annotators.end()) return known->second;
  const absl::StatusOr<bool> found = find_annotator.Bind(1, name).Step();
  const std::int64_t there = found.ok() && *found ? find_annotator.Int(0) : 0;
  find_annotator.Reset();
  if (!found.ok()) return found.status();
  if (!*found) {
    if (auto s = add_annotator.Bind(1, name).Run(); !s.ok()) return s;
  }
  const std::int64_t number = *found ? there : database.last_insert_id();
  annotators.emplace(name, number);
  return number;
}

absl::StatusOr<Campaign::Impl::Item> Campaign::Impl::ItemOf(std::string_view name) {
  const absl::StatusOr<bool> found = find_item.Bind(1, name).Step();
  Item item{0, false};
  if (found.ok() && *found) item = {find_item.Int(0), find_item.Int(1) != 0};
  find_item.Reset();
  if (!found.ok()) return found.status();
  if (*found) return item;
  if (auto s = add_item.Bind(1, name).Run(); !s.ok()) return s;
  return Item{database.last_insert_id(), false};
}

absl::Status Campaign::Impl::CheckVote(const VoteRow& vote) const {
  if (auto s = CheckName("item", vote.item); !s.ok()) return s;
  if (auto s = CheckName("annotator", vote.annotator); !s.ok()) return s;
  if (vote.vote_id.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("vote_id: at most ", kMaxNameBytes, " bytes; was ", vote.vote_id.size()));
  }
  if (!vote.probabilities.empty()) {
    if (auto s = CheckDistribution(vote.probabilities, options.classes.size()); !s.ok()) return s;
  } else if (vote.label < 0 || vote.label >= static_cast<std::int64_t>(options.classes.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "label: must be from 0 to ", options.classes.size() - 1, "; was ", vote.label));
  }
  if (!(vote.weight > 0) || std::isinf(vote.weight)) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight: must be positive and finite; was ", vote.weight));
  }
  if (!std::isfinite(vote.time)) {
    return absl::InvalidArgumentError(absl::StrCat("time: must be finite; was ", vote.time));
  }
  return absl::OkStatus();
}

// An error that is not the row's fault ends the batch: then `result` has no error of the row.
absl::Status Campaign::Impl::AddVote(const VoteRow& vote, double now, FeedResult* result) {
  const absl::StatusOr<Item> item = ItemOf(vote.item);
  if (!item.ok()) return item.status();
  const absl::StatusOr<std::int64_t> annotator = AnnotatorNumber(vote.annotator);
  if (!annotator.ok()) return annotator.status();

  // A distribution that is one-hot is kept as the class that it is.
  VoteRank rank{vote.time, vote.vote_id, vote.label, BytesOf(vote.probabilities), vote.weight};
  if (!vote.probabilities.empty()) {
    const auto one = std::find(vote.probabilities.begin(), vote.probabilities.end(), 1.0);
    const bool one_hot = one != vote.probabilities.end() &&
                         std::count(vote.probabilities.begin(), vote.probabilities.end(), 0.0) ==
                             static_cast<std::ptrdiff_t>(vote.probabilities.size()) - 1;
    rank.label = one_hot ? one - vote.probabilities.begin() : -1;
    if (one_hot) rank.probability = {};
  }

  const absl::StatusOr<bool> found = find_vote.Bind(1, item->number).Bind(2, *annotator).Step();
  if (!found.ok()) return found.status();
  if (*found) {
    const VoteRank there{find_vote.Double(0), find_vote.Blob(1), find_vote.Int(2),
                         find_vote.Blob(3), find_vote.Double(4)};
    const auto order = rank <=> there;
    find_vote.Reset();
    if (order == 0) return ++result->duplicates, absl::OkStatus();
    if (order < 0) return ++result->superseded, absl::OkStatus();
  }
  find_vote.Reset();
  if (item->closed) {
    return absl::FailedPreconditionError(
        absl::StrCat("item: \"", std::string(vote.item), "\" is closed and takes no more votes"));
  }
  const absl::StatusOr<bool> id_found = find_id.BindBlob(1, vote.vote_id).Step();
  const bool taken = id_found.ok() && *id_found &&
                     (find_id.Int(0) != item->number || find_id.Int(1) != *annotator);
  find_id.Reset();
  if (!id_found.ok()) return id_found.status();
  if (taken) {
    return absl::AlreadyExistsError(
        absl::StrCat("vote_id: belongs to another vote: \"", std::string(vote.vote_id), "\""));
  }

  put_vote.Bind(1, item->number).Bind(2, *annotator).Bind(3, vote.time);
  put_vote.BindBlob(4, vote.vote_id).Bind(5, rank.label).BindBlob(6, rank.probability);
  if (auto s = put_vote.Bind(7, vote.weight).Run(); !s.ok()) return s;
  ++result->accepted;
  if (*found) return absl::OkStatus();  // it replaced one
  return count_vote.Bind(1, item->number)
      .Bind(2, now)
      .Bind(3, static_cast<std::int64_t>(options.close_after_votes))
      .Run();
}

absl::StatusOr<FeedResult> Campaign::AddVotes(absl::Span<const VoteRow> votes, double now) {
  Impl& impl = *impl_;
  absl::StatusOr<SqlTransaction> transaction = SqlTransaction::Begin(impl.database);
  if (!transaction.ok()) return transaction.status();
  FeedResult result;
  const auto add = [&](std::int64_t row) {
    if (auto s = impl.CheckVote(votes[row]); !s.ok()) return s;
    return impl.AddVote(votes[row], now, &result);
  };
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(votes.size()); ++row) {
    absl::Status status = add(row);
    if (absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) ||
        absl::IsAlreadyExists(status)) {
      result.errors.push_back({row, std::move(status)});
    } else if (!status.ok()) {
      impl.annotators.clear();
      return status;
    }
  }
  if (auto s = transaction->Commit(); !s.ok()) {
    impl.annotators.clear();
    return s;
  }
  return result;
}

absl::StatusOr<FeedResult> Campaign::Impl::SetItems(absl::Span<const ItemRow> rows,
                                                    SqlStatement& statement) {
  absl::StatusOr<SqlTransaction> transaction = SqlTransaction::Begin(database);
  if (!transaction.ok()) return transaction.status();
  FeedResult result;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(rows.size()); ++row) {
    absl::Status bad = CheckName("item", rows[row].item);
    if (bad.ok()) bad = CheckDistribution(rows[row].probabilities, options.classes.size());
    if (!bad.ok()) {
      result.errors.push_back({row, std::move(bad)});
      continue;
    }
    const absl::StatusOr<Item> item = ItemOf(rows[row].item);
    if (!item.ok()) return item.status();
    statement.Bind(1, item->number).BindBlob(2, BytesOf(rows[row].probabilities));
    if (auto s = statement.Run(); !s.ok()) return s;
    ++result.accepted;
  }
  if (auto s = transaction->Commit(); !s.ok()) return s;
  return result;
}

absl::StatusOr<FeedResult> Campaign::SetPredictions(absl::Span<const ItemRow> rows) {
  return impl_->SetItems(rows, impl_->set_prediction);
}
absl::StatusOr<FeedResult> Campaign::SetGold(absl::Span<const ItemRow> rows) {
  return impl_->SetItems(rows, impl_->set_gold);
}

absl::StatusOr<std::int64_t> Campaign::Close(absl::Span<const std::string_view> items) {
  Impl& impl = *impl_;
  absl::StatusOr<SqlTransaction> transaction = SqlTransaction::Begin(impl.database);
  if (!transaction.ok()) return transaction.status();
  std::int64_t closed = 0;
  if (items.empty()) {
    if (auto s = impl.close_all.Run(); !s.ok()) return s;
    closed = impl.database.changes();
  }
  for (const std::string_view name : items) {
    const absl::StatusOr<bool> found = impl.find_item.Bind(1, name).Step();
    const std::int64_t number = found.ok() && *found ? impl.find_item.Int(0) : 0;
    impl.find_item.Reset();
    if (!found.ok()) return found.status();
    if (!*found) {
      return absl::NotFoundError(absl::StrCat("items: no item \"", std::string(name), "\""));
    }
    if (auto s = impl.close_item.Bind(1, number).Run(); !s.ok()) return s;
    closed += impl.database.changes();
  }
  if (auto s = transaction->Commit(); !s.ok()) return s;
  return closed;
}

absl::StatusOr<std::int64_t> Campaign::CloseDue(double now) {
  if (impl_->options.close_after_seconds == 0) return 0;
  if (auto s = impl_->close_due.Bind(1, now - impl_->options.close_after_seconds).Run(); !s.ok()) {
    return s;
  }
  return impl_->database.changes();
}

absl::StatusOr<CampaignCounts> Campaign::Counts() { return ReadCampaignCounts(impl_->database); }

absl::StatusOr<CampaignData> Campaign::Read(ItemScope scope, std::int64_t max_bytes) {
  return ReadCampaign(impl_->database, impl_->options, scope, max_bytes);
}

}  // namespace softloss
