// Scores four rows of three classes on a server: score 127.0.0.1:50051
#include <iostream>

#include "softloss/client.h"

int main(int argc, char** argv) {
  const float logits[] = {2, 1, 0, 0, 2, 1, 1, 0, 2, 0, 0, 0};
  const float labels[] = {0.7f, 0.2f, 0.1f, 0, 1, 0, 0.1f, 0.1f, 0.8f, 0.5f, 0.5f, 0};

  auto client = softloss::Client::Connect(argc > 1 ? argv[1] : "127.0.0.1:50051");
  if (!client.ok()) return std::cerr << client.status() << "\n", 1;

  softloss::ScoreRequest request;
  request.spec.loss = softloss::Loss::kSoftmaxCrossEntropy;
  request.item.shape = {4, 3};
  request.item.class_axis = -1;
  request.item.gradient = softloss::DType::kF32;
  request.prediction = logits;
  request.label = labels;
  auto result = client->Score(request);
  if (!result.ok()) return std::cerr << result.status() << "\n", 1;

  std::cout << "loss " << result->loss << " over " << result->valid_count << " rows\n";
  const auto* gradient = static_cast<const float*>(result->gradient.data());
  for (int i = 0; i < 12; ++i) {
    std::cout << gradient[i] * result->gradient_scale << (i % 3 == 2 ? "\n" : " ");
  }
}
