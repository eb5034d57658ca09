"""Notes on a model's generation_config.json: what it asks for and rlx doesn't do.

Only its `eos_token_id` is used: any of these tokens ends a completion. Other sampling settings would make the engine
draw tokens from another distribution than the one whose log-probabilities the trainer computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from rlx.config.schema import Config

FILE = "generation_config.json"
NEUTRAL: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "temperature": (1.0,),
        "top_k": (0, -1),
        "top_p": (1.0,),
        "min_p": (0.0,),
        "typical_p": (1.0,),
        "epsilon_cutoff": (0.0,),
        "eta_cutoff": (0.0,),
        "top_h": (),
        "repetition_penalty": (1.0,),
        "encoder_repetition_penalty": (1.0,),
        "presence_penalty": (0.0,),
        "frequency_penalty": (0.0,),
        "length_penalty": (1.0,),
        "no_repeat_ngram_size": (0,),
        "suppress_tokens": ([],),
        "begin_suppress_tokens": ([],),
        "bad_words_ids": ([],),
        "sequence_bias": ({},),
        "forced_bos_token_id": (),
        "forced_eos_token_id": (),
        "guidance_scale": (1.0,),
        "num_beams": (1,),
        "num_return_sequences": (1,),
        "max_new_tokens": (),
        "min_new_tokens": (0,),
        "max_length": (20,),
        "min_length": (0,),
        "stop_strings": ([],),
    }
)
"""Field -> its values that change nothing, besides null."""


def generation_notes(config: Config) -> Iterator[str]:
    """Yield a note if the folder's generation_config.json sets anything that rlx does not use."""
    file = Path(config.model.path) / FILE
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield f"{file} can't be read and is not used: {error}"
        return
    if not isinstance(settings, dict):
        return
    unused = [
        f"{name} = {json.dumps(settings[name])}"
        for name, neutral in NEUTRAL.items()
        if settings.get(name) is not None and settings[name] not in neutral
    ]
    if unused:
        yield (
            f"{file} sets {', '.join(unused)}, which rlx does not use: completions are sampled as [rollout] (in "
            "evaluations, [eval]) says, from the whole vocabulary. Its eos_token_id is used."
        )
