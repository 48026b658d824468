#include "store/sqlite.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"

namespace softloss {
namespace {

absl::Status ErrorOf(sqlite3* database, int code) {
  const std::string message = absl::StrCat(
      "store: ", database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_NOMEM: return absl::ResourceExhaustedError(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return absl::UnavailableError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return absl::DataLossError(message);
    default: return absl::InternalError(message);
  }
}

}  // namespace

void SqlStatement::Finalizer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

absl::Status SqlStatement::Check(int code) const {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return absl::OkStatus();
  return ErrorOf(sqlite3_db_handle(statement_.get()), code);
}

SqlStatement& SqlStatement::Bind(int parameter, std::int64_t value) {
  bind_error_ |= sqlite3_bind_int64(statement_.get(), parameter, value);
  return *this;
}
SqlStatement& SqlStatement::Bind(int parameter, double value) {
  bind_error_ |= sqlite3_bind_double(statement_.get(), parameter, value);
  return *this;
}
SqlStatement& SqlStatement::Bind(int parameter, std::string_view text) {
  if (text.data() == nullptr) text = "";
  bind_error_ |= sqlite3_bind_text64(statement_.get(), parameter, text.data(), text.size(),
                                     SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}
SqlStatement& SqlStatement::BindBlob(int parameter, std::string_view bytes) {
  if (bytes.data() == nullptr) bytes = "";  // null would be NULL
  bind_error_ |=
      sqlite3_bind_blob64(statement_.get(), parameter, bytes.data(), bytes.size(), SQLITE_STATIC);
  return *this;
}
SqlStatement& SqlStatement::BindNull(int parameter) {
  bind_error_ |= sqlite3_bind_null(statement_.get(), parameter);
  return *this;
}

absl::StatusOr<bool> SqlStatement::Step() {
  if (bind_error_ != SQLITE_OK) return Check(bind_error_);
  const int code = sqlite3_step(statement_.get());
  if (auto s = Check(code); !s.ok()) return s;
  return code == SQLITE_ROW;
}

absl::Status SqlStatement::Run() {
  const absl::StatusOr<bool> row = Step();
  Reset();
  return row.status();
}

void SqlStatement::Reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bind_error_ = SQLITE_OK;
}

std::int64_t SqlStatement::Int(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}
double SqlStatement::Double(int column) const {
  return sqlite3_column_double(statement_.get(), column);
}
bool SqlStatement::IsNull(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}
std::string_view SqlStatement::Text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  return {text, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}
std::string_view SqlStatement::Blob(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

void SqlDatabase::Closer::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

absl::StatusOr<SqlDatabase> SqlDatabase::Open(const std::string& path) {
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  SqlDatabase database;
  database.database_.reset(opened);
  if (code != SQLITE_OK) {
    const absl::Status error = ErrorOf(opened, code);
    return absl::Status(error.code(), absl::StrCat(std::string(error.message()), ": ", path));
  }
  // FULL: the log is synced at each commit, which is then durable even against a loss of power.
  for (const char* pragma :
       {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON",
        "PRAGMA busy_timeout=10000", "PRAGMA cache_size=-8192"}) {
    if (auto s = database.Execute(pragma); !s.ok()) return s;
  }
  return database;
}

absl::Status SqlDatabase::Execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(database_.get(), code);
}

absl::StatusOr<SqlStatement> SqlDatabase::Prepare(std::string_view sql) {
  sqlite3_stmt* prepared = nullptr;
  const int code = sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      &prepared, nullptr);
  if (code != SQLITE_OK) return ErrorOf(database_.get(), code);
  SqlStatement statement;
  statement.statement_.reset(prepared);
  return statement;
}

std::int64_t SqlDatabase::last_insert_id() const {
  return sqlite3_last_insert_rowid(database_.get());
}
std::int64_t SqlDatabase::changes() const { return sqlite3_changes64(database_.get()); }

absl::StatusOr<SqlTransaction> SqlTransaction::Begin(SqlDatabase& database) {
  if (auto s = database.Execute("BEGIN IMMEDIATE"); !s.ok()) return s;
  return SqlTransaction(&database);
}

SqlTransaction::~SqlTransaction() {
  if (database_ != nullptr) database_->Execute("ROLLBACK").IgnoreError();
}

absl::Status SqlTransaction::Commit() {
  SqlDatabase* const database = database_;
  if (auto s = database->Execute("COMMIT"); !s.ok()) return s;
  database_ = nullptr;
  return absl::OkStatus();
}

}  // namespace softloss
