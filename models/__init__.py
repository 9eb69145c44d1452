"""What is learned: reward model, policy and adapters, losses, training jobs, evaluation, the adapter store, an engine.

Knows: torch, transformers, peft, and the snapshot directory that `feedback` seals.
Must not know: Faust, Kafka, HTTP servers. A training job is a process that turns a snapshot directory into a candidate
directory; it can be killed at any moment and run again.
"""

import os

os.environ["USE_HUB_KERNELS"] = "NO"  # read when transformers is imported: no base has code fetched and run
