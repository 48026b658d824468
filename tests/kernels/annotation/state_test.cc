#include "kernels/annotation/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "kernels/annotation/agreement.h"
#include "kernels/annotation/calibration.h"
#include "kernels/annotation/confident_learning.h"
#include "kernels/annotation/intervals.h"
#include "kernels/annotation/overlap.h"
#include "kernels/annotation/state_sums.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/status_matchers.h"

namespace softloss::annotation {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::Random;
using testing::RandomRow;
using testing::RandomVotes;
using testing::StatusIs;
using testing::VoteTable;

State Example(const std::string& shard = "a", double x = 0.1) {
  State state("test/1", {"cat", "dog"});
  EXPECT_THAT(state.AddShard(shard), IsOk());
  state.sums("loss") = {ExactSum(x), ExactSum(-2.5)};
  state.counts("votes") = {3, -4};
  return state;
}

TEST(StateTest, GoesToBytesAndBack) {
  const State state = Example();
  const auto parsed = State::Parse(state.Serialize());
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*parsed, state);
  EXPECT_EQ(parsed->schema(), "test/1");
  EXPECT_EQ(parsed->classes(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(parsed->FindSums("loss")->at(1).value(), -2.5);
  EXPECT_EQ(parsed->FindCounts("votes")->at(1), -4);
  EXPECT_EQ(parsed->FindSums("votes"), nullptr);
  EXPECT_EQ(parsed->FindCounts("loss"), nullptr);
  EXPECT_EQ(*State::Parse(State().Serialize()), State());
}

// The bytes of version 1, spelt out: files outlive the code that wrote them.
TEST(StateTest, TheFormatIsAsDocumented) {
  State state("s", {"c"});
  ASSERT_THAT(state.AddShard("h"), IsOk());
  state.sums("k") = {ExactSum(1)};
  state.counts("n") = {-2};
  std::string expected = "SLQSTATE";
  const auto append = [&expected](std::initializer_list<int> bytes) {
    for (const int byte : bytes) expected.push_back(static_cast<char>(byte));
  };
  append({1, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0});
  append({1, 0, 0, 0, 's', 1, 0, 0, 0, 1, 0, 0, 0, 'c', 1, 0, 0, 0, 1, 0, 0, 0, 'h'});
  append({1, 0, 0, 0, 1, 0, 0, 0, 'k', 1, 0, 0, 0, 0, 0, 0, 0});
  append({0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0});
  append({1, 0, 0, 0, 1, 0, 0, 0, 'n', 1, 0, 0, 0, 0, 0, 0, 0});
  append({0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF});
  const std::string bytes = state.Serialize();
  EXPECT_EQ(expected.size(), 20u + 81u);
  EXPECT_EQ(bytes.substr(0, 8), expected.substr(0, 8));
  EXPECT_EQ(bytes.substr(20, bytes.size() - 28), expected.substr(20));
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (std::size_t i = 0; i < bytes.size() - 8; ++i) {
    hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 0x100000001B3u;
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(static_cast<unsigned char>(bytes[bytes.size() - 8 + i]), hash >> (8 * i) & 0xFF);
  }
}

TEST(StateTest, MergesInAnyOrderToTheSameBytes) {
  State c("test/1", {"cat", "dog"});
  ASSERT_THAT(c.AddShard("c"), IsOk());
  c.sums("only here") = {ExactSum(7)};
  c.counts("votes") = {1, 1};
  State forth = Example("a", 0.1), back = c;
  ASSERT_THAT(forth.Merge(Example("b", 1e-9)), IsOk());
  ASSERT_THAT(forth.Merge(c), IsOk());
  ASSERT_THAT(back.Merge(Example("b", 1e-9)), IsOk());
  ASSERT_THAT(back.Merge(Example("a", 0.1)), IsOk());
  EXPECT_EQ(forth.Serialize(), back.Serialize());
  EXPECT_EQ(forth.FindCounts("votes")->at(0), 7);
  EXPECT_EQ(forth.FindSums("loss")->at(0).value(), 0.1 + 1e-9);
  EXPECT_EQ(forth.FindSums("only here")->at(0).value(), 7);
  EXPECT_EQ(forth.shards(), (std::set<std::string>{"a", "b", "c"}));
}

TEST(StateTest, WhatDoesNotFitIsRefusedAndNothingChanged) {
  const State before = Example();
  State state = before;
  const auto refuses = [&](const State& other, absl::StatusCode code, const std::string& message) {
    EXPECT_THAT(state.Merge(other), StatusIs(code, HasSubstr(message)));
    EXPECT_EQ(state, before);
  };
  refuses(Example("a"), absl::StatusCode::kAlreadyExists, "shard \"a\": is in both states");
  refuses(State("test/2", {"cat", "dog"}), absl::StatusCode::kInvalidArgument,
          "schema: states to merge must have one; have \"test/1\" and \"test/2\"");
  refuses(State("test/1", {"dog", "cat"}), absl::StatusCode::kInvalidArgument,
          "have [cat, dog] and [dog, cat]");
  State longer = Example("b");
  longer.sums("loss").emplace_back();
  refuses(longer, absl::StatusCode::kInvalidArgument,
          "loss: lists to merge must be of one length; are 2 and 3");
  State shorter = Example("b");
  shorter.counts("votes").pop_back();
  refuses(shorter, absl::StatusCode::kInvalidArgument, "votes: lists to merge");
  State full = Example("b");
  full.counts("votes")[0] = std::numeric_limits<std::int64_t>::max();
  refuses(full, absl::StatusCode::kOutOfRange, "votes: count 0 leaves the range");
  EXPECT_THAT(state.AddShard("a"), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("\"a\"")));
}

TEST(StateTest, FilesThatAreNoneAreNamed) {
  const std::string good = Example().Serialize();
  const auto parse = [](const std::string& bytes) { return State::Parse(bytes).status(); };
  EXPECT_THAT(parse(""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is empty (0 bytes)")));
  EXPECT_THAT(parse("PAR1, and so on"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("another kind of file")));
  std::string version = good;
  version[8] = 2;
  EXPECT_THAT(parse(version), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("must be of version 1; is of version 2")));
  EXPECT_THAT(parse(good + "x"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("(too long)")));
  for (std::size_t length = 1; length < good.size(); ++length) {
    EXPECT_THAT(parse(good.substr(0, length)),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut short")));
  }
  for (std::size_t at = 20; at < good.size(); ++at) {
    std::string damaged = good;
    damaged[at] ^= 0x10;
    EXPECT_THAT(parse(damaged), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is damaged")));
  }
}

// With a right checksum, whatever the payload says: no crash, and no memory for what is not there.
TEST(StateTest, APayloadThatLiesIsMalformed) {
  const std::string good = Example().Serialize();
  const auto sealed = [](std::string bytes) {
    std::uint64_t hash = 0xCBF29CE484222325u;
    bytes.resize(bytes.size() - 8);
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(hash >> (8 * i) & 0xFF));
    return bytes;
  };
  ASSERT_THAT(State::Parse(sealed(good)), IsOk());
  int refused = 0;
  for (std::size_t at = 20; at < good.size() - 8; ++at) {
    for (const int value : {0, 1, 0x7F, 0xFF}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(value);
      const auto parsed = State::Parse(sealed(bytes));
      if (parsed.ok()) {
        EXPECT_EQ(parsed->Serialize(), sealed(bytes));
      } else {
        EXPECT_THAT(parsed, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("malformed")));
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

// Shards of one data set: accumulated apart, saved, merged, loaded; the same as all at once.
TEST(StateSumsTest, ShardsAreTheWhole) {
  constexpr int kClasses = 3, kShards = 3;
  Random random(1);
  const Votes votes = RandomVotes(random, 120, 5, kClasses, true).Create();
  const std::vector<double> t = {0.4, 0.5, 0.3};
  struct Sums {
    AgreementSums agreement{kClasses};
    ReliabilityBins bins;
    ConfidentThresholds thresholds{kClasses};
    ConfidentJoint joint{{0.4, 0.5, 0.3}};
    MeanBootstrap bootstrap;
    Overlap overlap;
    WeightedMean mean;
  };
  Sums whole;
  std::vector<Sums> shard(kShards);
  for (std::int64_t i = 0; i < votes.num_items(); ++i) {
    const std::vector<double> q = RandomRow(random, kClasses), p = RandomRow(random, kClasses);
    for (Sums* sums : {&whole, &shard[random.Int(0, kShards)]}) {
      sums->agreement.AddItem(votes, i);
      sums->bins.Add(q, p);
      sums->thresholds.Add(q, p);
      sums->joint.Add(q, p);
      sums->bootstrap.Add(ItemKey(std::to_string(i)), q[0]);
      sums->overlap.Add(q[0], p[0]);
      sums->mean.Add(q[0], p[0]);
    }
  }
  State merged("test/1", {"a", "b", "c"});
  for (int s : {2, 0, 1}) {
    State state("test/1", {"a", "b", "c"});
    ASSERT_THAT(state.AddShard(std::to_string(s)), IsOk());
    Save(shard[s].agreement, "agreement", state);
    Save(shard[s].bins, "bins", state);
    Save(shard[s].thresholds, "thresholds", state);
    Save(shard[s].joint, "joint", state);
    Save(shard[s].bootstrap, "bootstrap", state);
    Save(shard[s].overlap, "overlap", state);
    Save(shard[s].mean, "mean", state);
    const auto read = State::Parse(state.Serialize());
    ASSERT_THAT(read, IsOk());
    ASSERT_THAT(merged.Merge(*read), IsOk());
  }
  EXPECT_EQ(*Load(merged, "agreement", AgreementSums(kClasses)), whole.agreement);
  EXPECT_EQ(*Load(merged, "bins", ReliabilityBins()), whole.bins);
  EXPECT_EQ(*Load(merged, "thresholds", ConfidentThresholds(kClasses)), whole.thresholds);
  EXPECT_EQ(*Load(merged, "joint", ConfidentJoint(t)), whole.joint);
  EXPECT_EQ(*Load(merged, "bootstrap", MeanBootstrap()), whole.bootstrap);
  EXPECT_EQ(*Load(merged, "overlap", Overlap()), whole.overlap);
  EXPECT_EQ(*Load(merged, "mean", WeightedMean()), whole.mean);

  EXPECT_THAT(Load(merged, "nothing", Overlap()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing: not in the state")));
  EXPECT_THAT(Load(merged, "agreement", AgreementSums(4)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("agreement: must have")));
  EXPECT_THAT(
      Load(merged, "bins", ReliabilityBins(10)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must have 20 values; has 30")));
}

// Two shards that number the same people differently, and know different ones.
TEST(StateSumsTest, PairsAreMergedByName) {
  const std::vector<std::string> first = {"ann", "bob", "1/x"}, second = {"bob", "ann", "zoe"},
                                 all = {"1/x", "ann", "bob", "zoe"};
  Random random(2);
  State merged("test/1", {"a", "b"});
  PairAgreement whole(2);
  int shard = 0;
  for (const std::vector<std::string>& names : {first, second}) {
    VoteTable table, renumbered;
    for (int i = 0; i < 30; ++i) {
      for (int r = 0; r < 3; ++r) {
        const auto row = RandomRow(random, 2);
        const auto number = std::find(all.begin(), all.end(), names[r]) - all.begin();
        table.Add(i, r, row);
        renumbered.Add(i, static_cast<std::int32_t>(number), row);
      }
    }
    const Votes votes = table.Create(), same = renumbered.Create();
    PairAgreement pairs(2);
    for (int i = 0; i < 30; ++i) {
      pairs.AddItem(votes, i);
      whole.AddItem(same, i);
    }
    State state("test/1", {"a", "b"});
    ASSERT_THAT(state.AddShard(std::to_string(shard++)), IsOk());
    SavePairs(pairs, names, "pair", state);
    ASSERT_THAT(merged.Merge(state), IsOk());
  }
  const auto loaded = LoadPairs(merged, all, "pair", PairAgreement(2));
  ASSERT_THAT(loaded, IsOk());
  const auto pairs = loaded->Sums(), expected = whole.Sums();
  ASSERT_EQ(pairs.size(), expected.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_EQ(pairs[i].a, expected[i].a);
    EXPECT_EQ(pairs[i].b, expected[i].b);
    EXPECT_EQ(pairs[i].items, expected[i].items);
    EXPECT_EQ(pairs[i].sums, expected[i].sums);
  }
  const auto some = LoadPairs(merged, {"bob", "ann"}, "pair", PairAgreement(2));
  ASSERT_THAT(some, IsOk());
  ASSERT_EQ(some->Pairs().size(), 1u);
  EXPECT_EQ(some->Pairs()[0].items, 60);
  EXPECT_THAT(
      LoadPairs(merged, all, "pair", PairAgreement(3)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no pair of as many classes")));
}

}  // namespace
}  // namespace softloss::annotation
