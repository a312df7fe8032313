"""Generation: answers at 14 strengths, beside transformers' generate in a loop, one by one, and unsteered."""

import math

import torch

import splitkit as sk
from splitkit.runs.world_answers import BATCH_SIZE, STRENGTHS
from splitkit.steering.generation import answers
from splitkit.steering.tokenization import prompt_ids
from tests.benchmarks.racing import Race, Way
from tests.benchmarks.rivals import LAYER, Hooks, Library

QUESTIONS, NEW_TOKENS = 8, 64


def test_generation(race: Race, loaded, name: str) -> None:
    model, tokenizer = loaded
    pairs = sk.load_pairs("axbench/ocean", "train")[:16]
    iv = sk.train(model, tokenizer, pairs, form="vector", objective="diffmean", layer=LAYER)
    unit = sk.matching_strength(model, tokenizer, iv, pairs)
    strengths = [unit * r for r in STRENGTHS]
    questions = [pair.question for pair in pairs[:QUESTIONS]]
    prompts = [prompt_ids(tokenizer, question) for question in questions]
    hooks = Hooks(model, LAYER, "vector", iv.parameters)

    @torch.inference_mode()
    def generate(rows, steering=None, m=0.0, everywhere=False, exactly=None):
        """New tokens (batch, token) of a padded batch, as one calls `generate` by hand."""
        width = max(len(prompts[row]) for row in rows)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompts[row])) + prompts[row] for row in rows])
        mask = (ids != pad).long()
        length = {"min_new_tokens": exactly, "max_new_tokens": exactly or NEW_TOKENS}
        settings = {"do_sample": False, "pad_token_id": pad, **length}
        if steering is None:
            return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:]
        with steering.at(m, None if everywhere else ids):
            return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:]

    def looped(steering, everywhere=False):
        return [
            text
            for m in strengths
            for text in tokenizer.batch_decode(
                generate(range(QUESTIONS), steering, m, everywhere), skip_special_tokens=True
            )
        ]

    def ours():
        return answers(
            model,
            tokenizer,
            questions * len(strengths),
            intervention=iv,
            m=[m for m in strengths for _ in questions],
            max_new_tokens=NEW_TOKENS,
            batch_size=BATCH_SIZE,
        )

    texts = ours()
    assert len(set(texts)) > QUESTIONS  # strengths change what is written
    assert texts == looped(hooks)
    # the package steers every token, BOS too; where there is none, it writes the same
    library = Library(model, LAYER, "vector", iv.parameters)
    if model.config.bos_token_id is None:
        assert texts == looped(library, everywhere=True)
    assert texts[::QUESTIONS] == [
        tokenizer.decode(generate([0], hooks, m)[0], skip_special_tokens=True) for m in strengths
    ]
    steps = max(generate(range(QUESTIONS), hooks, m).shape[1] for m in strengths)
    rows = [row for _ in strengths for row in range(QUESTIONS)]
    batches = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    assert len(batches) == math.ceil(len(texts) / BATCH_SIZE)

    race.run(
        ours,
        {
            "generate, unsteered, as many steps": Way(
                lambda: [generate(batch, exactly=steps) for batch in batches]
            ),
            "hook loop over strengths": Way(lambda: looped(hooks)),
            "steering-vectors": Way(lambda: looped(library, everywhere=True)),
            "one by one": Way(lambda: [generate([0], hooks, m) for m in strengths], 1 / QUESTIONS),
        },
        benchmark="generation",
        model=name,
        case="vector",
    )
