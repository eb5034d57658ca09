"""Parallelism: the ranks' device mesh, and how they split a model, its layers and the rows of a micro-batch.

Files:
    mesh.py                the ranks, their mesh, and collectives on the control group
    tensors.py             the policy's tensors by name: gather, fill and compare shards
    transformers_plans.py  tp and ep of transformers models, by the plans of their architectures
    context_parallel.py    cp and tp ranks that share the rows of a micro-batch (DeepSpeed Ulysses)
    pipeline.py            pp: cut a network into pipeline stages
    schedule.py            the order of forward and backward passes: sequential, or a pipeline schedule

Rules:

* Code asks for a dimension of the mesh by name, and never whether it is in use: a dimension of size 1 works like any
  other.
* FSDP is applied last, in `rlx.policy.build`: it shards what tp, ep and pp left on a rank.
"""

from __future__ import annotations
