#include "server/server_options.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace softloss {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ServerOptions> Parse(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"softlossd"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseServerOptions(static_cast<int>(argv.size()), argv.data());
}

std::string WriteConfig(const std::string& text) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".conf");
  std::ofstream(path) << text;
  return path;
}

TEST(ServerOptions, Defaults) {
  const auto options = Parse({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->listen, ElementsAre("127.0.0.1:50051"));
  EXPECT_EQ(options->metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(options->backend, "auto");
  EXPECT_EQ(options->global_budget_bytes, 1 << 30);
  EXPECT_EQ(options->tenant_budget_bytes, 1 << 30);
  EXPECT_EQ(options->stream_credit_bytes, 16 << 20);
  EXPECT_EQ(options->stream_credit_items, 1024);
  EXPECT_EQ(options->max_message_bytes, 4 << 20);
  EXPECT_EQ(options->max_chunk_bytes, 2 << 20);
  EXPECT_EQ(options->spill_bytes, 1 << 20);
  EXPECT_EQ(options->drain_timeout_s, 30);
  EXPECT_EQ(options->item_stall_timeout_s, 60);
  EXPECT_EQ(options->max_streams, 64);
  EXPECT_GE(options->io_threads, 1);
  EXPECT_GE(options->cpu_threads, 1);
}

TEST(ServerOptions, BothFormsOfEveryType) {
  const auto options =
      Parse({"--listen=127.0.0.1:0", "--listen", "unix:/tmp/s.sock", "--insecure_listen",
             "--backend=cpu", "--io_threads", "3", "--max_streams=7", "--global_budget_bytes=2GiB",
             "--tenant_budget_bytes", "512 MiB", "--spill_bytes=100", "--batch_max_bytes=64KiB"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->listen, ElementsAre("127.0.0.1:0", "unix:/tmp/s.sock"));
  EXPECT_TRUE(options->insecure_listen);
  EXPECT_EQ(options->backend, "cpu");
  EXPECT_EQ(options->io_threads, 3);
  EXPECT_EQ(options->max_streams, 7);
  EXPECT_EQ(options->global_budget_bytes, std::int64_t{2} << 30);
  EXPECT_EQ(options->tenant_budget_bytes, 512 << 20);
  EXPECT_EQ(options->spill_bytes, 100);
  EXPECT_EQ(options->batch_max_bytes, 64 << 10);
}

TEST(ServerOptions, ZeroIsResolved) {
  struct Row {
    int cores;
    std::int64_t io, cpu;
  };
  for (const Row& row : {Row{0, 1, 1},
                         {1, 1, 1},
                         {2, 1, 1},
                         {3, 1, 2},
                         {4, 1, 3},
                         {8, 2, 6},
                         {32, 8, 24},
                         {128, 8, 120}}) {
    ServerOptions options;
    ASSERT_TRUE(ValidateAndResolve(options, row.cores).ok());
    EXPECT_EQ(options.io_threads, row.io) << row.cores;
    EXPECT_EQ(options.cpu_threads, row.cpu) << row.cores;
    EXPECT_EQ(options.tenant_budget_bytes, options.global_budget_bytes);
    EXPECT_EQ(options.batch_queue_bytes, options.global_budget_bytes / 2);
  }
}

TEST(ServerOptions, MemoryIsSharedBesideTheFirstUnixSocket) {
  const auto socket = [](std::vector<std::string> listen, const std::string& given) {
    ServerOptions options;
    options.listen = std::move(listen);
    options.shared_memory_socket = given;
    // Twice, as a server does with what was parsed.
    for (int i = 0; i < 2; ++i) {
      const absl::Status status = ValidateAndResolve(options, 2);
      if (!status.ok()) return std::string(status.message());
    }
    return options.shared_memory_socket;
  };
  EXPECT_EQ(socket({"127.0.0.1:0"}, ""), "off");
  EXPECT_EQ(socket({"127.0.0.1:0", "unix:/run/a", "unix:/run/b"}, ""), "/run/a.memory");
  EXPECT_EQ(socket({"unix-abstract:a"}, ""), "off");
  EXPECT_EQ(socket({"unix:/run/a"}, "off"), "off");
  EXPECT_EQ(socket({"127.0.0.1:0"}, "/run/m"), "/run/m");
  EXPECT_EQ(socket({"unix:/" + std::string(105, 'a')}, ""), "off");
  EXPECT_THAT(socket({"unix:/run/a"}, "m"),
              HasSubstr("shared_memory_socket: must be an absolute path of at most 107 bytes"));
  EXPECT_THAT(socket({"unix:/run/a"}, "/" + std::string(107, 'a')), HasSubstr("107 bytes"));
}

TEST(ServerOptions, TheLastOneWins) {
  const auto options =
      Parse({"--max_streams=7", "--max_streams=8", "--insecure_listen", "--insecure_listen=false"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->max_streams, 8);
  EXPECT_FALSE(options->insecure_listen);
}

TEST(ServerOptions, ErrorsNameOptionRuleAndValue) {
  struct Row {
    std::vector<std::string> arguments;
    std::vector<std::string> says;
  };
  const std::vector<Row> rows = {
      {{"--no_such=1"}, {"no_such", "unknown option"}},
      {{"listen=1"}, {"'listen=1'", "start with --"}},
      {{"--max_streams"}, {"max_streams", "needs a value"}},
      {{"--max_streams=many"}, {"max_streams", "whole number", "'many'"}},
      {{"--max_streams=0"}, {"max_streams", "at least 1", "'0'"}},
      {{"--io_threads=-1"}, {"io_threads", "at least 0", "'-1'"}},
      {{"--io_threads=65"}, {"io_threads", "at most 64", "'65'"}},
      {{"--io_threads=1KiB"}, {"io_threads", "whole number", "'1KiB'"}},
      {{"--global_budget_bytes=1.5GiB"}, {"global_budget_bytes", "KiB, MiB or GiB", "'1.5GiB'"}},
      {{"--global_budget_bytes=9999999999999GiB"}, {"global_budget_bytes", "at most"}},
      {{"--global_budget_bytes=1000"}, {"global_budget_bytes", "at least 1048576", "'1000'"}},
      {{"--insecure_listen=yes"}, {"insecure_listen", "true or false", "'yes'"}},
      {{"--backend=tpu"}, {"backend", "auto|cpu|reference|cuda", "'tpu'"}},
      {{"--log_level="}, {"log_level", "must be one of", "''"}},
      {{"--listen=nowhere"}, {"listen", "host:port", "'nowhere'"}},
      {{"--listen=0.0.0.0:1"}, {"listen", "beyond loopback", "insecure_listen", "'0.0.0.0:1'"}},
      {{"--listen=127.0.0.1:1", "--listen=[::]:1"}, {"listen", "beyond loopback", "'[::]:1'"}},
      {{"--listen=0.0.0.0:1", "--tls_cert=c", "--tls_key=k"}, {"listen", "tls_client_ca"}},
      {{"--metrics_listen=unix:/m"}, {"metrics_listen", "host:port or off", "'unix:/m'"}},
      {{"--tls_cert=c"}, {"tls_key", "go together"}},
      {{"--tls_key=k"}, {"tls_cert", "go together"}},
      {{"--tls_client_ca=a"}, {"tls_client_ca", "needs tls_cert", "'a'"}},
      {{"--tenant_budget_bytes=2GiB"}, {"tenant_budget_bytes", "global_budget_bytes (1073741824)"}},
      {{"--max_chunk_bytes=4MiB"}, {"max_chunk_bytes", "max_message_bytes", "'4194304'"}},
      {{"--stream_credit_bytes=1MiB"}, {"max_chunk_bytes", "stream_credit_bytes"}},
      {{"--drain_timeout_s=-5"}, {"drain_timeout_s", "at least 0", "'-5'"}},
  };
  for (const Row& row : rows) {
    const auto options = Parse(row.arguments);
    ASSERT_FALSE(options.ok()) << row.arguments[0];
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
    for (const std::string& text : row.says) {
      EXPECT_THAT(options.status().message(), HasSubstr(text)) << row.arguments[0];
    }
  }
}

TEST(ServerOptions, BeyondLoopbackWithClientCertificatesOrOnPurpose) {
  EXPECT_TRUE(Parse({"--listen=0.0.0.0:1", "--insecure_listen=true"}).ok());
  EXPECT_TRUE(
      Parse({"--listen=0.0.0.0:1", "--tls_cert=c", "--tls_key=k", "--tls_client_ca=a"}).ok());
  EXPECT_TRUE(Parse({"--metrics_listen=0.0.0.0:9464"}).ok());
  EXPECT_TRUE(Parse({"--metrics_listen=off"}).ok());
}

TEST(ServerOptions, ConfigFileUnderTheCommandLine) {
  const std::string path = WriteConfig(
      "# a comment\n"
      "\n"
      "listen = 127.0.0.1:1   # and another\n"
      "  listen=unix:/a.sock\n"
      "max_streams = 5\n"
      "insecure_listen = true\n"
      "global_budget_bytes = 64 MiB\n");
  auto options = Parse({"--config=" + path, "--max_streams=6"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->listen, ElementsAre("127.0.0.1:1", "unix:/a.sock"));
  EXPECT_EQ(options->max_streams, 6);
  EXPECT_TRUE(options->insecure_listen);
  EXPECT_EQ(options->global_budget_bytes, 64 << 20);

  options = Parse({"--listen=127.0.0.1:2", "--config=" + path});
  ASSERT_TRUE(options.ok());
  EXPECT_THAT(options->listen, ElementsAre("127.0.0.1:2"));
}

TEST(ServerOptions, ConfigErrorsNameTheLine) {
  struct Row {
    const char* text;
    std::vector<std::string> says;
  };
  for (const Row& row : {Row{"\nmax_streams\n", {":2: ", "name = value", "'max_streams'"}},
                         {"no_such = 1\n", {":1: ", "no_such", "not an option"}},
                         {"config = x\n", {":1: ", "config", "not an option"}},
                         {"help = true\n", {":1: ", "help", "not an option"}},
                         {"#\n#\nmax_streams = 0", {":3: ", "max_streams", "at least 1"}}}) {
    const auto options = Parse({"--config=" + WriteConfig(row.text)});
    ASSERT_FALSE(options.ok()) << row.text;
    for (const std::string& text : row.says) {
      EXPECT_THAT(options.status().message(), HasSubstr(text));
    }
  }
  const auto missing = Parse({"--config=/no/such/file"});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), AllOf(HasSubstr("config"), HasSubstr("/no/such/file")));
}

TEST(ServerOptions, HelpAndVersionLookAtNothingElse) {
  auto options = Parse({"--help", "--listen=nowhere"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->help);
  options = Parse({"--version"});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->version);
}

TEST(ServerOptions, HelpShowsEveryOptionWithItsDefault) {
  const std::string help = ServerOptionsHelp();
  for (const std::string& name : ServerOptionNames()) {
    EXPECT_THAT(help, HasSubstr(absl::StrCat("\n  --", name, "  ("))) << name;
  }
  EXPECT_THAT(help, HasSubstr("--global_budget_bytes  (bytes; default 1GiB)"));
  EXPECT_THAT(help, HasSubstr("--listen  (text, repeatable; default 127.0.0.1:50051)"));
  EXPECT_THAT(help, HasSubstr("--io_threads  (number; default 0)"));
  EXPECT_THAT(help, HasSubstr("0: 1 on up to 3 cores"));
}

// A field without a row in the table could not be set. Counts the struct's fields in its source.
TEST(ServerOptions, EveryFieldIsAnOption) {
  std::ifstream header(SOFTLOSS_SOURCE_DIR "/server/server_options.h");
  ASSERT_TRUE(header);
  std::vector<std::string> fields;
  bool inside = false;
  for (std::string line; std::getline(header, line);) {
    if (line == "struct ServerOptions {") inside = true;
    if (line == "};") inside = false;
    if (!inside || line.empty() || line.back() != ';') continue;
    std::string declared = line.substr(0, std::min(line.find(" ="), line.size() - 1));
    fields.push_back(declared.substr(declared.rfind(' ') + 1));
  }
  EXPECT_THAT(ServerOptionNames(), testing::UnorderedElementsAreArray(fields));
}

}  // namespace
}  // namespace softloss
