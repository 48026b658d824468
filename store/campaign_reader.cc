#include "store/campaign_reader.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "store/campaign_schema.h"

namespace softloss {
namespace {

constexpr std::int64_t kAbsent = -1;

// Dense numbers of rows: [id] → number, kAbsent for ids out of scope.
using Numbers = std::vector<std::int64_t>;

void SetNumber(Numbers& numbers, std::int64_t id, std::int64_t number) {
  if (static_cast<std::int64_t>(numbers.size()) <= id) numbers.resize(id + 1, kAbsent);
  numbers[id] = number;
}

absl::Status AppendDistribution(std::string_view blob, std::size_t classes,
                                std::vector<double>& to) {
  if (blob.size() != classes * sizeof(double)) {
    return absl::DataLossError(absl::StrCat("store: a distribution of ", blob.size(),
                                            " bytes over ", classes, " classes"));
  }
  const std::size_t at = to.size();
  to.resize(at + classes);
  std::memcpy(to.data() + at, blob.data(), blob.size());
  return absl::OkStatus();
}

absl::Status AppendItem(const SqlStatement& row, int column, std::size_t classes,
                        annotation::Distributions& to) {
  const bool present = !row.IsNull(column);
  to.present.push_back(present);
  if (present) return AppendDistribution(row.Blob(column), classes, to.probability);
  to.probability.resize(to.probability.size() + classes);
  return absl::OkStatus();
}

// Rows of a vote table, as they are stored.
struct VoteTable {
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> annotator, label;
  std::vector<double> probability;  // rows in `soft` only
  std::vector<std::int64_t> soft;   // positions of the votes that are distributions
  std::vector<double> weight, time;
};

absl::StatusOr<annotation::Votes> MakeVotes(VoteTable& t, int classes, const CampaignData& data) {
  std::vector<double> all;
  if (!t.soft.empty()) {
    // One soft vote makes all soft; the others are one-hot.
    all.resize(t.item.size() * classes);
    for (std::size_t v = 0; v < t.item.size(); ++v) {
      if (t.label[v] >= 0) all[v * classes + t.label[v]] = 1;
    }
    for (std::size_t s = 0; s < t.soft.size(); ++s) {
      std::copy_n(t.probability.begin() + static_cast<std::ptrdiff_t>(s * classes), classes,
                  all.begin() + t.soft[s] * classes);
    }
    t.label.clear();
    t.probability = {};
  }
  return annotation::Votes::Create({.num_classes = classes,
                                    .num_items = static_cast<std::int64_t>(data.items.size()),
                                    .num_annotators = static_cast<int>(data.annotators.size()),
                                    .item = t.item,
                                    .annotator = t.annotator,
                                    .label = t.label,
                                    .probabilities = all,
                                    .weight = t.weight,
                                    .time = t.time});
}

}  // namespace

absl::StatusOr<CampaignCounts> ReadCampaignCounts(SqlDatabase& database) {
  absl::StatusOr<SqlStatement> statement = database.Prepare(
      "SELECT items, closed_items, annotators, votes, predictions, gold FROM counts");
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::DataLossError("store: a campaign's file without its counts");
  return CampaignCounts{statement->Int(0), statement->Int(1), statement->Int(2),
                        statement->Int(3), statement->Int(4), statement->Int(5)};
}

absl::StatusOr<CampaignData> ReadCampaign(SqlDatabase& database, const CampaignOptions& options,
                                          ItemScope scope, std::int64_t max_bytes) {
  const std::size_t classes = options.classes.size();
  if (auto s = database.Execute("BEGIN"); !s.ok()) return s;
  struct Snapshot {
    SqlDatabase& database;
    ~Snapshot() { database.Execute("ROLLBACK").IgnoreError(); }
  } snapshot{database};

  // Refused before anything is allocated. A vote is there as read, in canonical order and with its
  // figures; an item has its columns, and a distribution from each method; classes have matrices.
  absl::StatusOr<CampaignCounts> counts = ReadCampaignCounts(database);
  if (!counts.ok()) return counts.status();
  absl::StatusOr<SqlStatement> any_soft =
      database.Prepare("SELECT EXISTS (SELECT 1 FROM vote WHERE label < 0)");
  if (!any_soft.ok()) return any_soft.status();
  if (auto row = any_soft->Step(); !row.ok()) return row.status();
  const auto distribution = static_cast<double>(classes * sizeof(double));
  const double vote_bytes = 130 + (any_soft->Int(0) != 0 ? 3 * distribution : 0);
  const double bytes = static_cast<double>(counts->votes) * vote_bytes +
                       static_cast<double>(counts->items) * (500 + 12 * distribution) +
                       static_cast<double>(counts->annotators) * 3 * distribution +
                       static_cast<double>(classes) * 6 * distribution;
  if (bytes > static_cast<double>(max_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("campaign: ", counts->votes, " votes on ", counts->items, " items need about ",
                     static_cast<std::int64_t>(bytes / (1 << 20)), " MiB to analyse; the limit is ",
                     max_bytes >> 20, " MiB"));
  }

  CampaignData data;
  Numbers item_number, annotator_number;
  absl::StatusOr<SqlStatement> rows = database.Prepare(
      "SELECT id, name, prediction, gold FROM item WHERE closed OR ?1 ORDER BY name");
  if (!rows.ok()) return rows.status();
  rows->Bind(1, std::int64_t{scope == ItemScope::kAll});
  absl::StatusOr<bool> row = rows->Step();
  for (; row.ok() && *row; row = rows->Step()) {
    SetNumber(item_number, rows->Int(0), static_cast<std::int64_t>(data.items.size()));
    data.items.emplace_back(rows->Text(1));
    if (auto s = AppendItem(*rows, 2, classes, data.predictions); !s.ok()) return s;
    if (auto s = AppendItem(*rows, 3, classes, data.gold); !s.ok()) return s;
  }
  if (!row.ok()) return row.status();

  VoteTable table;
  std::vector<std::int64_t> annotator_id;
  rows = database.Prepare(
      "SELECT item, annotator, time, label, probability, weight FROM vote ORDER BY item, "
      "annotator");
  if (!rows.ok()) return rows.status();
  for (row = rows->Step(); row.ok() && *row; row = rows->Step()) {
    const std::int64_t item = rows->Int(0);
    if (item >= static_cast<std::int64_t>(item_number.size()) || item_number[item] == kAbsent) {
      continue;
    }
    table.item.push_back(item_number[item]);
    annotator_id.push_back(rows->Int(1));
    table.time.push_back(rows->Double(2));
    table.label.push_back(static_cast<std::int32_t>(rows->Int(3)));
    if (table.label.back() < 0) {
      table.soft.push_back(static_cast<std::int64_t>(table.item.size()) - 1);
      if (auto s = AppendDistribution(rows->Blob(4), classes, table.probability); !s.ok()) return s;
    }
    table.weight.push_back(rows->Double(5));
  }
  if (!row.ok()) return row.status();

  // Annotators of these votes only, by name.
  std::vector<std::uint8_t> voted;
  for (const std::int64_t id : annotator_id) {
    if (static_cast<std::int64_t>(voted.size()) <= id) voted.resize(id + 1);
    voted[id] = 1;
  }
  rows = database.Prepare("SELECT id, name FROM annotator ORDER BY name");
  if (!rows.ok()) return rows.status();
  for (row = rows->Step(); row.ok() && *row; row = rows->Step()) {
    const std::int64_t id = rows->Int(0);
    if (id >= static_cast<std::int64_t>(voted.size()) || !voted[id]) continue;
    SetNumber(annotator_number, id, static_cast<std::int64_t>(data.annotators.size()));
    data.annotators.emplace_back(rows->Text(1));
  }
  if (!row.ok()) return row.status();
  table.annotator.reserve(annotator_id.size());
  for (const std::int64_t id : annotator_id) {
    table.annotator.push_back(static_cast<std::int32_t>(annotator_number[id]));
  }
  absl::StatusOr<annotation::Votes> votes = MakeVotes(table, static_cast<int>(classes), data);
  if (!votes.ok()) return votes.status();
  data.votes = *std::move(votes);
  return data;
}

}  // namespace softloss
