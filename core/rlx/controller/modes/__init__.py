"""The training modes: RL from sampled groups, and SFT on dataset rows.

* `mode.py`: `TrainingMode` and `Sampling`, the protocols that the run loop knows, and `NoSampling`.
* `rl.py`: `RLMode`: groups come from the replicas, weights go back to them.
* `sft.py`: `SFTMode`: the policy reads the dataset itself.
* `weight_publisher.py`: `WeightPublisher`, the order of training, weight syncs and verification in RL.
* `weight_sync.py`: `WeightSync`, one transfer of the weights from the policy to all engines, and its verification.
* `trajectory_writer.py`: `TrajectoryWriter`, Parquet files written in the background.

Rules:

* The loop and the controller ask no mode for its type: what only RL has is behind `TrainingMode.sampling`.
* The policy trains a step or takes part in a weight transfer, never both at once (`WeightPublisher.weights_lock`).
"""
