"""The tables of the config file, one module for each.

base        `Section`, the base of every table, and `Component`, a plugin with its options.
run, model, data, algorithm, rollout, policy, async_, sync, eval, checkpoint, plugins
            The tables of these names; `data` has `[dataset]`, `[packer]`, `[[rewards]]` and `[[filter_rewards]]`.
cosmos      Parts of the config under the names that datasets for cosmos-rl use.

Rule: the string under a field is its documentation in docs/reference/config.md and `rlx schema`.
"""
