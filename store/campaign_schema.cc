#include "store/campaign_schema.h"

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

// Marks SQLite files as ours: "SLQC".
constexpr std::int64_t kApplicationId = 0x534c5143;
constexpr std::int64_t kVersion = 1;

// counts is kept by triggers, as counting would take as long as the campaign is large.
// label is -1 where a vote is a distribution, which is then K little-endian doubles in probability.
// first_vote: when the item's first vote arrived.
constexpr char kTables[] = R"sql(
  CREATE TABLE campaign (close_after_votes INTEGER NOT NULL, close_after_seconds REAL NOT NULL);
  CREATE TABLE class (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE annotator (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE item (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, votes INTEGER NOT NULL DEFAULT 0,
    first_vote REAL, closed INTEGER NOT NULL DEFAULT 0, prediction BLOB, gold BLOB);
  CREATE INDEX item_open ON item (first_vote) WHERE NOT closed;
  CREATE TABLE vote (
    item INTEGER NOT NULL REFERENCES item, annotator INTEGER NOT NULL REFERENCES annotator,
    time REAL NOT NULL, vote_id BLOB NOT NULL, label INTEGER NOT NULL, probability BLOB NOT NULL,
    weight REAL NOT NULL, PRIMARY KEY (item, annotator)) WITHOUT ROWID;
  CREATE UNIQUE INDEX vote_by_id ON vote (vote_id) WHERE vote_id <> x'';

  CREATE TABLE counts (items INTEGER, closed_items INTEGER, annotators INTEGER, votes INTEGER,
                       predictions INTEGER, gold INTEGER);
  INSERT INTO counts VALUES (0, 0, 0, 0, 0, 0);
  CREATE TRIGGER item_added AFTER INSERT ON item
    BEGIN UPDATE counts SET items = items + 1; END;
  CREATE TRIGGER annotator_added AFTER INSERT ON annotator
    BEGIN UPDATE counts SET annotators = annotators + 1; END;
  CREATE TRIGGER vote_counted AFTER UPDATE OF votes ON item
    BEGIN UPDATE counts SET votes = votes + new.votes - old.votes; END;
  CREATE TRIGGER item_closed AFTER UPDATE OF closed ON item WHEN new.closed <> old.closed
    BEGIN UPDATE counts SET closed_items = closed_items + 1; END;
  CREATE TRIGGER item_predicted AFTER UPDATE OF prediction ON item WHEN old.prediction IS NULL
    BEGIN UPDATE counts SET predictions = predictions + 1; END;
  CREATE TRIGGER item_answered AFTER UPDATE OF gold ON item WHEN old.gold IS NULL
    BEGIN UPDATE counts SET gold = gold + 1; END;
)sql";

absl::StatusOr<std::int64_t> Pragma(SqlDatabase& database, std::string_view name) {
  absl::StatusOr<SqlStatement> statement =
      database.Prepare(absl::StrCat("PRAGMA ", std::string(name)));
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Int(0) : 0;
}

}  // namespace

absl::Status CreateCampaignSchema(SqlDatabase& database, const CampaignOptions& options) {
  absl::StatusOr<SqlTransaction> transaction = SqlTransaction::Begin(database);
  if (!transaction.ok()) return transaction.status();
  if (auto s = database.Execute(absl::StrCat("PRAGMA application_id=", kApplicationId,
                                             "; PRAGMA user_version=", kVersion, ";", kTables));
      !s.ok()) {
    return s;
  }
  absl::StatusOr<SqlStatement> statement = database.Prepare("INSERT INTO campaign VALUES (?1, ?2)");
  if (!statement.ok()) return statement.status();
  statement->Bind(1, static_cast<std::int64_t>(options.close_after_votes));
  if (auto s = statement->Bind(2, options.close_after_seconds).Run(); !s.ok()) return s;
  statement = database.Prepare("INSERT INTO class VALUES (?1, ?2)");
  if (!statement.ok()) return statement.status();
  for (std::size_t k = 0; k < options.classes.size(); ++k) {
    statement->Bind(1, static_cast<std::int64_t>(k)).Bind(2, std::string_view(options.classes[k]));
    if (auto s = statement->Run(); !s.ok()) return s;
  }
  return transaction->Commit();
}

absl::StatusOr<CampaignOptions> ReadCampaignOptions(SqlDatabase& database) {
  const absl::StatusOr<std::int64_t> id = Pragma(database, "application_id");
  if (!id.ok()) return id.status();
  if (*id != kApplicationId) return absl::DataLossError("store: not the file of a campaign");
  const absl::StatusOr<std::int64_t> version = Pragma(database, "user_version");
  if (!version.ok()) return version.status();
  if (*version != kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "store: this is version ", *version, " of a campaign's file; known is ", kVersion));
  }
  CampaignOptions options;
  absl::StatusOr<SqlStatement> statement = database.Prepare("SELECT * FROM campaign");
  if (!statement.ok()) return statement.status();
  absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::DataLossError("store: a campaign's file without its options");
  options.close_after_votes = static_cast<int>(statement->Int(0));
  options.close_after_seconds = statement->Double(1);
  statement = database.Prepare("SELECT name FROM class ORDER BY id");
  if (!statement.ok()) return statement.status();
  for (row = statement->Step(); row.ok() && *row; row = statement->Step()) {
    options.classes.emplace_back(statement->Text(0));
  }
  if (!row.ok()) return row.status();
  if (auto s = Validate(options); !s.ok()) {
    return absl::DataLossError(absl::StrCat("store: ", std::string(s.message())));
  }
  return options;
}

}  // namespace softloss
