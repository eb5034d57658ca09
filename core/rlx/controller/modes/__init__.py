"""The training modes: RL from sampled groups, and SFT on dataset rows.

* `mode.py`: `TrainingMode` and `Sampling`, the protocols that the run loop uses, and `NoSampling`.
* `rl.py`: `RLMode`: groups come from the replicas, weights are sent to them.
* `sft.py`: `SFTMode`: the policy reads the dataset itself.
* `weight_publisher.py`: `WeightPublisher`, the order of training, weight syncs and verification in RL.
* `weight_sync.py`: `WeightSync`, one transfer of the weights from the policy to all engines, and its verification.
* `trajectory_writer.py`: `TrajectoryWriter`, writes Parquet files in the background.

Rules:

* The loop and the controller never check which mode they have: everything specific to RL is behind
  `TrainingMode.sampling`.
* The policy trains a step or takes part in a weight transfer, never both at once (`WeightPublisher.weights_lock`).
"""
