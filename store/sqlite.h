// SQLite with statuses and lifetimes: as much of it as the store needs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

struct sqlite3;
struct sqlite3_stmt;

namespace softloss {

// A prepared statement. Binding and stepping follow SQLite: parameters count from 1, columns from 0.
// Not thread-safe; must not outlive its database.
class SqlStatement {
 public:
  SqlStatement() = default;

  SqlStatement& Bind(int parameter, std::int64_t value);
  SqlStatement& Bind(int parameter, double value);
  SqlStatement& Bind(int parameter, std::string_view text);       // not copied: alive until Reset
  SqlStatement& BindBlob(int parameter, std::string_view bytes);  // as above
  SqlStatement& BindNull(int parameter);

  // True if there is a row to read; false at the end.
  absl::StatusOr<bool> Step();
  // Step for a statement without rows, then Reset.
  absl::Status Run();
  void Reset();

  std::int64_t Int(int column) const;
  double Double(int column) const;
  bool IsNull(int column) const;
  std::string_view Text(int column) const;  // valid until the next Step or Reset
  std::string_view Blob(int column) const;  // likewise

 private:
  friend class SqlDatabase;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  absl::Status Check(int code) const;

  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  int bind_error_ = 0;
};

// A connection. Not thread-safe: a thread at a time.
class SqlDatabase {
 public:
  // Opens the file, or creates it. Commits are durable when they return (a write-ahead log, synced).
  // Readers see the last commit, whoever is writing.
  static absl::StatusOr<SqlDatabase> Open(const std::string& path);

  absl::Status Execute(const std::string& sql);
  absl::StatusOr<SqlStatement> Prepare(std::string_view sql);
  std::int64_t last_insert_id() const;
  // Rows that the last INSERT, UPDATE or DELETE changed.
  std::int64_t changes() const;

 private:
  struct Closer {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Closer> database_;
};

// Rolls back on destruction, unless committed.
class SqlTransaction {
 public:
  static absl::StatusOr<SqlTransaction> Begin(SqlDatabase& database);
  SqlTransaction(SqlTransaction&& o) noexcept : database_(o.database_) { o.database_ = nullptr; }
  SqlTransaction& operator=(SqlTransaction&&) = delete;
  ~SqlTransaction();

  absl::Status Commit();

 private:
  explicit SqlTransaction(SqlDatabase* database) : database_(database) {}
  SqlDatabase* database_;
};

}  // namespace softloss
